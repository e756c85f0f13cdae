// SPDX-License-Identifier: Apache-2.0
//! The records of the metadata log: one file per kind, protobuf, ids stable for ever.
//!
//! A record is framed as kind (varint), length (varint), payload. Fields that this version does not know are kept with
//! the record and written back by snapshots. A *kind* it does not know is refused by name: nothing of a newer feature
//! level may be skipped silently. Must not know the log that holds them nor what they change.
//!
//! Rules for change: a number of a kind or field is never used again; fields are only added, with a default that means
//! "as before"; a new kind, or a field that older versions may not ignore, needs a new feature level.

mod broker_change;
mod broker_setting;
mod cluster;
mod controller_change;
mod feature_level;
mod partition;
mod producer_ids;
mod register_broker;
mod remove_topic;
mod topic;
mod topic_setting;
mod unregister_broker;

pub use broker_change::BrokerChangeRecord;
pub use broker_setting::BrokerSettingRecord;
use bytes::{Buf, BufMut, Bytes};
pub use cluster::ClusterRecord;
pub use controller_change::ControllerChangeRecord;
pub use feature_level::FeatureLevelRecord;
pub use partition::PartitionRecord;
pub use producer_ids::ProducerIdsRecord;
use prost::Message;
use prost::encoding::{decode_varint, encode_varint, encoded_len_varint};
pub use register_broker::{EndpointRecord, RegisterBrokerRecord};
pub use remove_topic::RemoveTopicRecord;
use thiserror::Error;
pub use topic::TopicRecord;
pub use topic_setting::TopicSettingRecord;
pub use unregister_broker::UnregisterBrokerRecord;

/// Why bytes are no record.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum RecordError {
    /// Written by a newer version whose feature level this one does not know.
    #[error("the metadata record kind {0} is newer than this version")]
    UnknownKind(u64),
    /// The frame or the payload is malformed.
    #[error("malformed metadata record: {0}")]
    Malformed(String),
}

/// A kind of record. The number is stored and stable for ever.
trait Kind: Message + Default {
    /// The stored number.
    const ID: u64;
    /// For messages.
    const NAME: &'static str;
    /// The fields this version knows.
    const FIELDS: &'static [u32];
}

macro_rules! kinds {
    ($($variant:ident($record:ty) = $id:literal, fields $fields:expr;)*) => {
        /// What a record says.
        #[derive(Clone, PartialEq, Debug)]
        pub enum RecordBody {
            $(
                #[doc = concat!("Kind ", stringify!($id), ".")]
                $variant($record),
            )*
        }

        $(
            impl Kind for $record {
                const ID: u64 = $id;
                const NAME: &'static str = stringify!($variant);
                const FIELDS: &'static [u32] = &$fields;
            }

            impl From<$record> for Record {
                fn from(body: $record) -> Self {
                    Self { body: RecordBody::$variant(body), unknown: Bytes::new() }
                }
            }
        )*

        impl RecordBody {
            /// The kind's name, for messages.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => <$record as Kind>::NAME,)*
                }
            }

            fn parts(&self) -> (u64, Vec<u8>) {
                match self {
                    $(Self::$variant(record) => (<$record as Kind>::ID, record.encode_to_vec()),)*
                }
            }

            fn decode(kind: u64, payload: &[u8]) -> Result<(Self, Bytes), RecordError> {
                match kind {
                    $($id => decode_kind::<$record>(payload).map(|(r, unknown)| (Self::$variant(r), unknown)),)*
                    other => Err(RecordError::UnknownKind(other)),
                }
            }
        }
    };
}

kinds! {
    ControllerChange(ControllerChangeRecord) = 1, fields [1, 2, 3, 4];
    Cluster(ClusterRecord) = 2, fields [1];
    FeatureLevel(FeatureLevelRecord) = 3, fields [1];
    RegisterBroker(RegisterBrokerRecord) = 4, fields [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    UnregisterBroker(UnregisterBrokerRecord) = 5, fields [1, 2];
    Topic(TopicRecord) = 6, fields [1, 2, 3];
    RemoveTopic(RemoveTopicRecord) = 7, fields [1];
    Partition(PartitionRecord) = 8, fields [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    TopicSetting(TopicSettingRecord) = 9, fields [1, 2, 3];
    ProducerIds(ProducerIdsRecord) = 10, fields [1, 2, 3];
    BrokerChange(BrokerChangeRecord) = 11, fields [1, 2, 3, 4, 5];
    BrokerSetting(BrokerSettingRecord) = 12, fields [1, 2, 3];
}

/// One record with the fields this version does not know.
#[derive(Clone, PartialEq, Debug)]
pub struct Record {
    /// What it says.
    pub body: RecordBody,
    /// Unknown fields as they were encoded; empty for records made by this version.
    pub unknown: Bytes,
}

impl Record {
    /// Appends the framed record.
    pub fn encode(&self, buffer: &mut Vec<u8>) {
        let (kind, payload) = self.body.parts();
        encode_varint(kind, buffer);
        encode_varint((payload.len() + self.unknown.len()) as u64, buffer);
        buffer.put_slice(&payload);
        buffer.put_slice(&self.unknown);
    }

    /// Bytes of the framed record.
    pub fn encoded_len(&self) -> usize {
        let (kind, payload) = self.body.parts();
        let len = payload.len() + self.unknown.len();
        encoded_len_varint(kind) + encoded_len_varint(len as u64) + len
    }

    /// Takes one framed record from the front of `buffer`. Lengths are checked against the bytes that are there.
    ///
    /// # Errors
    /// [`RecordError`]; `buffer` is then somewhere in the record.
    pub fn decode(buffer: &mut &[u8]) -> Result<Self, RecordError> {
        let malformed = |error: prost::DecodeError| RecordError::Malformed(error.to_string());
        let kind = decode_varint(buffer).map_err(malformed)?;
        let len = decode_varint(buffer).map_err(malformed)?;
        if len > buffer.remaining() as u64 {
            return Err(RecordError::Malformed(format!("{len} bytes claimed, {} there", buffer.remaining())));
        }
        let (payload, rest) = buffer.split_at(len as usize);
        *buffer = rest;
        let (body, unknown) = RecordBody::decode(kind, payload)?;
        Ok(Self { body, unknown })
    }
}

fn decode_kind<T: Kind>(payload: &[u8]) -> Result<(T, Bytes), RecordError> {
    let record =
        T::decode(payload).map_err(|error| RecordError::Malformed(format!("{}: {error}", <T as Kind>::NAME)))?;
    Ok((record, unknown_fields(payload, T::FIELDS)?))
}

/// The encoded fields of `payload` whose numbers are not in `known`, in their order.
fn unknown_fields(payload: &[u8], known: &[u32]) -> Result<Bytes, RecordError> {
    let malformed = || RecordError::Malformed("field".to_owned());
    let mut rest = payload;
    let mut unknown = Vec::new();
    while !rest.is_empty() {
        let field = rest;
        let key = decode_varint(&mut rest).map_err(|_| malformed())?;
        let skip = match key & 7 {
            0 => {
                decode_varint(&mut rest).map_err(|_| malformed())?;
                0
            }
            1 => 8,
            2 => decode_varint(&mut rest).map_err(|_| malformed())?,
            5 => 4,
            _ => return Err(malformed()),
        };
        if skip > rest.len() as u64 {
            return Err(malformed());
        }
        rest = &rest[skip as usize..];
        if !known.iter().any(|number| u64::from(*number) == key >> 3) {
            unknown.extend_from_slice(&field[..field.len() - rest.len()]);
        }
    }
    Ok(Bytes::from(unknown))
}

#[cfg(test)]
mod tests;
