// SPDX-License-Identifier: Apache-2.0
//! The promise file: the highest epoch this broker has promised, and to which holder (coordination rule 2).
//!
//! `ODP1`, CRC32C of the rest, epoch i64, holder as UTF-8 to the end. Replaced as a whole, never edited.

use std::path::{Path, PathBuf};

use odradek_disk::{Disk, DiskError, read_small_file, write_file_durably};
use odradek_model::ControllerEpoch;

use super::MetadataLogError;
use super::batch::checksum;

const MAGIC: [u8; 4] = *b"ODP1";
/// Longest file: a holder is `<broker id>/<incarnation>`, far below 1 KiB.
const MAX_BYTES: usize = 1024;

/// The highest epoch promised; epoch 0 and an empty holder before the first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Promise {
    /// The epoch.
    pub epoch: ControllerEpoch,
    /// `holderIdentity` of the Lease: `<broker id>/<incarnation>`.
    pub holder: String,
}

fn path(dir: &Path) -> PathBuf {
    dir.join("promise")
}

pub(super) fn write(disk: &dyn Disk, dir: &Path, promise: &Promise) -> Result<(), DiskError> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&promise.epoch.to_be_bytes());
    bytes.extend_from_slice(promise.holder.as_bytes());
    let crc = checksum(&[], &bytes[8..]);
    bytes[4..8].copy_from_slice(&crc.to_be_bytes());
    assert!(bytes.len() <= MAX_BYTES, "a holder identity is short");
    write_file_durably(disk, &path(dir), &bytes)
}

pub(super) fn read(disk: &dyn Disk, dir: &Path) -> Result<Promise, MetadataLogError> {
    let path = path(dir);
    let corrupt =
        |reason: &str| MetadataLogError::Corrupt { path: path.clone(), position: 0, reason: reason.to_owned() };
    let Some(bytes) = read_small_file(disk, &path, MAX_BYTES)? else {
        return Err(MetadataLogError::Lost { path: dir.to_owned(), reason: "the promise file is missing".to_owned() });
    };
    if bytes.len() < 16 || bytes[..4] != MAGIC {
        return Err(corrupt("not a promise file"));
    }
    if checksum(&[], &bytes[8..]).to_be_bytes() != bytes[4..8] {
        return Err(corrupt("the checksum is wrong"));
    }
    let epoch = i64::from_be_bytes(bytes[8..16].try_into().expect("8 bytes"));
    let holder = String::from_utf8(bytes[16..].to_vec()).map_err(|_| corrupt("the holder is no UTF-8"))?;
    Ok(Promise { epoch, holder })
}
