// SPDX-License-Identifier: Apache-2.0
//! Type 1: a committed offset (`OffsetCommitKey`, `OffsetCommitValue`). Written as version 4, or as version 1 when the
//! client gave a retention time; versions 0 to 4 are read.

use std::sync::Arc;

use bytes::Bytes;
use odradek_model::{LeaderEpoch, Offset, Timestamp, TopicId};

use super::{RecordError, version};
use crate::codec::{Reader, Writer};

const TYPE: i16 = 1;
const WHAT: &str = "offset commit value";
const NEWEST: i16 = 4;
/// The only version with an expiry of its own; clients since Kafka 2.1 do not ask for one.
const WITH_EXPIRY: i16 = 1;

/// A committed offset.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct CommittedOffset {
    pub(crate) offset: Offset,
    /// -1 if unknown.
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) metadata: Arc<str>,
    pub(crate) commit_timestamp: Timestamp,
    pub(crate) expire_timestamp: Option<Timestamp>,
    /// Zero if unknown.
    pub(crate) topic_id: TopicId,
}

pub(crate) fn offset_key(group: &str, topic: &str, partition: i32) -> Bytes {
    let mut writer = Writer::default();
    writer.i16(TYPE);
    writer.plain_text(group);
    writer.plain_text(topic);
    writer.i32(partition);
    writer.finish()
}

pub(crate) fn encode_offset_value(value: &CommittedOffset) -> Bytes {
    let mut writer = Writer::default();
    if let Some(expire_timestamp) = value.expire_timestamp {
        writer.i16(WITH_EXPIRY);
        writer.i64(value.offset);
        writer.plain_text(&value.metadata);
        writer.i64(value.commit_timestamp);
        writer.i64(expire_timestamp);
        return writer.finish();
    }
    writer.i16(NEWEST);
    writer.i64(value.offset);
    writer.i32(value.leader_epoch);
    writer.compact_text(&value.metadata);
    writer.i64(value.commit_timestamp);
    if value.topic_id.is_zero() {
        writer.unsigned_varint(0);
    } else {
        writer.unsigned_varint(1);
        writer.unsigned_varint(0);
        writer.unsigned_varint(16);
        writer.raw(value.topic_id.0.as_bytes());
    }
    writer.finish()
}

pub(crate) fn decode_offset_value(bytes: &[u8]) -> Result<CommittedOffset, RecordError> {
    let mut reader = Reader::new(WHAT, bytes);
    let version = version(&mut reader, WHAT, NEWEST)?;
    let flexible = version >= 4;
    let offset = reader.i64()?;
    let leader_epoch = if version >= 3 { reader.i32()? } else { -1 };
    let metadata = Arc::from(reader.text(flexible)?);
    let commit_timestamp = reader.i64()?;
    let expire_timestamp = if version == WITH_EXPIRY { Some(reader.i64()?).filter(|time| *time >= 0) } else { None };
    let mut topic_id = TopicId::ZERO;
    if flexible {
        reader.tags(|tag, field| {
            if tag == 0 {
                topic_id = TopicId(uuid::Uuid::from_bytes(field.uuid()?));
            }
            Ok(())
        })?;
    }
    Ok(CommittedOffset { offset, leader_epoch, metadata, commit_timestamp, expire_timestamp, topic_id })
}
