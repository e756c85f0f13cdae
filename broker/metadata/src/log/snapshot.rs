// SPDX-License-Identifier: Apache-2.0
//! The snapshot file: an image as records, written in one step.
//!
//! ```text
//!  0 magic "ODS1"   4 CRC32C u32 of the rest
//!  8 end offset i64, epoch i64, highest broker epoch i64, flags u32 (1: installed from another broker), count u32
//! 40 records
//! ```

use std::path::Path;

use super::batch::checksum;
use super::{MetadataLogError, apply_error, record_error};
use crate::{Image, Record};

const MAGIC: [u8; 4] = *b"ODS1";
const HEADER: usize = 40;
const INSTALLED: u32 = 1;
/// Largest snapshot that is read: 100 bytes for each of 10 million partitions.
pub(super) const MAX_BYTES: usize = 1 << 30;

/// A snapshot as read.
pub(super) struct Snapshot {
    pub(super) image: Image,
    /// It replaced the log, which may still lie about.
    pub(super) installed: bool,
}

pub(super) fn encode(image: &Image, installed: bool) -> Vec<u8> {
    let records = image.to_records();
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&image.end_offset().to_be_bytes());
    bytes.extend_from_slice(&image.epoch().to_be_bytes());
    bytes.extend_from_slice(&image.highest_broker_epoch().to_be_bytes());
    bytes.extend_from_slice(&(if installed { INSTALLED } else { 0 }).to_be_bytes());
    bytes.extend_from_slice(&(records.len() as u32).to_be_bytes());
    for record in &records {
        record.encode(&mut bytes);
    }
    let crc = checksum(&[], &bytes[8..]);
    bytes[4..8].copy_from_slice(&crc.to_be_bytes());
    bytes
}

pub(super) fn decode(bytes: &[u8], path: &Path) -> Result<Snapshot, MetadataLogError> {
    let corrupt =
        |reason: &str| MetadataLogError::Corrupt { path: path.to_owned(), position: 0, reason: reason.into() };
    if bytes.len() < HEADER || bytes[..4] != MAGIC {
        return Err(corrupt("not a snapshot"));
    }
    if checksum(&[], &bytes[8..]).to_be_bytes() != bytes[4..8] {
        return Err(corrupt("the checksum is wrong"));
    }
    let long = |at: usize| i64::from_be_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
    let int = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
    let mut rest = &bytes[HEADER..];
    let mut records = Vec::new();
    for _ in 0..int(36) {
        let position = (bytes.len() - rest.len()) as u64;
        records.push(Record::decode(&mut rest).map_err(|error| record_error(&error, path, position))?);
    }
    if !rest.is_empty() {
        return Err(corrupt("bytes after the last record"));
    }
    let image =
        Image::from_records(&records, long(8), long(16), long(24)).map_err(|error| apply_error(&error, path, 0))?;
    Ok(Snapshot { image, installed: int(32) & INSTALLED != 0 })
}
