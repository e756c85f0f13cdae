// SPDX-License-Identifier: Apache-2.0
//! The promise file: the highest epoch this broker has promised, to which holder (coordination rule 2), and what it
//! knows of the voters, opaque here.
//!
//! `ODP2`, CRC32C of the rest, epoch i64, length of the holder u16, holder as UTF-8, the voters to the end. Replaced as a
//! whole, never edited. `ODP1`, of brokers that knew no other voters, has the holder to the end and is still read.

use std::path::{Path, PathBuf};

use odradek_disk::{Disk, DiskError, read_small_file, write_file_durably};
use odradek_model::ControllerEpoch;

use super::MetadataLogError;
use super::batch::checksum;

const MAGIC: [u8; 4] = *b"ODP2";
const MAGIC_WITHOUT_VOTERS: [u8; 4] = *b"ODP1";
/// Magic, checksum, epoch.
const FIXED: usize = 16;
/// Longest text about voters: two sets of five voters of 40 bytes with their stamps are below 1 KiB.
pub const MAX_VOTERS_BYTES: usize = 16 << 10;
/// Longest holder: `<broker id>/<incarnation>` is far below it.
const MAX_HOLDER_BYTES: usize = 1000;
/// Longest file.
const MAX_BYTES: usize = FIXED + 2 + MAX_HOLDER_BYTES + MAX_VOTERS_BYTES;

/// The highest epoch promised; epoch 0 and an empty holder before the first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Promise {
    /// The epoch.
    pub epoch: ControllerEpoch,
    /// `holderIdentity` of the Lease: `<broker id>/<incarnation>`.
    pub holder: String,
    /// What the caller knows of the voters; set by [`super::MetadataLog::store_voters`] alone.
    pub voters: Vec<u8>,
}

fn path(dir: &Path) -> PathBuf {
    dir.join("promise")
}

pub(super) fn write(disk: &dyn Disk, dir: &Path, promise: &Promise) -> Result<(), DiskError> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&promise.epoch.to_be_bytes());
    assert!(promise.holder.len() <= MAX_HOLDER_BYTES, "a holder identity is short");
    assert!(promise.voters.len() <= MAX_VOTERS_BYTES, "the voters are few");
    bytes.extend_from_slice(&(promise.holder.len() as u16).to_be_bytes());
    bytes.extend_from_slice(promise.holder.as_bytes());
    bytes.extend_from_slice(&promise.voters);
    let crc = checksum(&[], &bytes[8..]);
    bytes[4..8].copy_from_slice(&crc.to_be_bytes());
    write_file_durably(disk, &path(dir), &bytes)
}

/// What stands in the promise file of a folder, without opening the log.
///
/// # Errors
/// [`MetadataLogError`]: the disk, or a file that is missing or damaged.
pub fn read_promise(disk: &dyn Disk, dir: &Path) -> Result<Promise, MetadataLogError> {
    read(disk, dir)
}

pub(super) fn read(disk: &dyn Disk, dir: &Path) -> Result<Promise, MetadataLogError> {
    let path = path(dir);
    let corrupt =
        |reason: &str| MetadataLogError::Corrupt { path: path.clone(), position: 0, reason: reason.to_owned() };
    let Some(bytes) = read_small_file(disk, &path, MAX_BYTES)? else {
        return Err(MetadataLogError::Lost { path: dir.to_owned(), reason: "the promise file is missing".to_owned() });
    };
    if bytes.len() < FIXED || ![MAGIC, MAGIC_WITHOUT_VOTERS].iter().any(|magic| bytes[..4] == *magic) {
        return Err(corrupt("not a promise file"));
    }
    if checksum(&[], &bytes[8..]).to_be_bytes() != bytes[4..8] {
        return Err(corrupt("the checksum is wrong"));
    }
    let epoch = i64::from_be_bytes(bytes[8..16].try_into().expect("8 bytes"));
    let rest = &bytes[FIXED..];
    let (holder, voters) = if bytes[..4] == MAGIC_WITHOUT_VOTERS {
        (rest, &[][..])
    } else {
        let split = rest.split_first_chunk().map(|(len, rest)| (usize::from(u16::from_be_bytes(*len)), rest));
        split.and_then(|(len, rest)| rest.split_at_checked(len)).ok_or_else(|| corrupt("the holder is cut"))?
    };
    let holder = String::from_utf8(holder.to_vec()).map_err(|_| corrupt("the holder is no UTF-8"))?;
    Ok(Promise { epoch, holder, voters: voters.to_vec() })
}
