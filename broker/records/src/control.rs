// SPDX-License-Identifier: Apache-2.0
//! Control records: the marks that end a transaction (KIP-98). Key: version, type; value: version, coordinator
//! epoch (`ControlRecordType`, `EndTransactionMarker` in Kafka). Must not know transactions' states.

use thiserror::Error;

/// What a control record says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ControlRecord {
    /// The transaction's records are void.
    Abort {
        /// Epoch of the transaction coordinator that wrote the mark.
        coordinator_epoch: i32,
    },
    /// The transaction's records count.
    Commit {
        /// Epoch of the transaction coordinator that wrote the mark.
        coordinator_epoch: i32,
    },
    /// A type of another kind of log or a newer version, to be passed over.
    Other {
        /// The type number.
        kind: i16,
    },
}

/// Why the key and value are no control record.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum ControlRecordError {
    /// Fewer than four bytes, or none.
    #[error("the key of a control record has fewer than 4 bytes")]
    Key,
    /// Fewer than six bytes, or none.
    #[error("the value of an end-of-transaction mark has fewer than 6 bytes")]
    Value,
    /// A negative version.
    #[error("a control record has version {0}")]
    Version(i16),
}

impl ControlRecord {
    /// Reads the key and value of a record of a control batch. Higher versions are read as version 0, whose fields
    /// they must keep.
    pub fn parse(key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Self, ControlRecordError> {
        let key = key.and_then(|key| key.first_chunk::<4>()).ok_or(ControlRecordError::Key)?;
        let version = i16::from_be_bytes([key[0], key[1]]);
        if version < 0 {
            return Err(ControlRecordError::Version(version));
        }
        let kind = i16::from_be_bytes([key[2], key[3]]);
        if !matches!(kind, 0 | 1) {
            return Ok(Self::Other { kind });
        }
        let value = value.and_then(|value| value.first_chunk::<6>()).ok_or(ControlRecordError::Value)?;
        let version = i16::from_be_bytes([value[0], value[1]]);
        if version < 0 {
            return Err(ControlRecordError::Version(version));
        }
        let coordinator_epoch = i32::from_be_bytes([value[2], value[3], value[4], value[5]]);
        Ok(if kind == 0 { Self::Abort { coordinator_epoch } } else { Self::Commit { coordinator_epoch } })
    }

    /// The key and value of an end-of-transaction mark; `None` for [`ControlRecord::Other`], which we never write.
    pub fn to_key_value(self) -> Option<([u8; 4], [u8; 6])> {
        let (kind, epoch) = match self {
            Self::Abort { coordinator_epoch } => (0u8, coordinator_epoch),
            Self::Commit { coordinator_epoch } => (1, coordinator_epoch),
            Self::Other { .. } => return None,
        };
        let mut value = [0; 6];
        value[2..].copy_from_slice(&epoch.to_be_bytes());
        Some(([0, 0, 0, kind], value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_read_back_and_damage_is_refused() {
        for mark in [ControlRecord::Abort { coordinator_epoch: 7 }, ControlRecord::Commit { coordinator_epoch: -1 }] {
            let (key, value) = mark.to_key_value().expect("a mark");
            assert_eq!(ControlRecord::parse(Some(&key), Some(&value)), Ok(mark));
            assert_eq!(ControlRecord::parse(Some(&key), Some(&value[..5])), Err(ControlRecordError::Value));
            assert_eq!(ControlRecord::parse(Some(&key[..3]), Some(&value)), Err(ControlRecordError::Key));
        }
        assert_eq!(ControlRecord::parse(Some(&[0, 0, 0, 2]), None), Ok(ControlRecord::Other { kind: 2 }));
        assert_eq!(ControlRecord::parse(Some(&[0x80, 0, 0, 1]), None), Err(ControlRecordError::Version(-32768)));
        assert_eq!(ControlRecord::parse(None, None), Err(ControlRecordError::Key));
    }
}
