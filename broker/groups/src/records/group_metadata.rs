// SPDX-License-Identifier: Apache-2.0
//! Type 2: a generation of a classic group (`GroupMetadataKey`, `GroupMetadataValue`). Written as version 3, as
//! Kafka 4.4 does; versions 0 to 4 are read.

use std::sync::Arc;

use bytes::Bytes;
use odradek_model::Timestamp;

use super::{RecordError, version};
use crate::codec::{Reader, Writer};

const TYPE: i16 = 2;
const WHAT: &str = "group metadata value";
const NEWEST: i16 = 4;
const WRITTEN: i16 = 3;

/// A member of a stored generation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct MemberValue {
    pub(crate) member_id: Arc<str>,
    pub(crate) group_instance_id: Option<Arc<str>>,
    pub(crate) client_id: Arc<str>,
    pub(crate) client_host: Arc<str>,
    /// -1 in version 0: as the session timeout.
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) session_timeout_ms: i32,
    pub(crate) subscription: Bytes,
    pub(crate) assignment: Bytes,
}

/// A stored generation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct GroupValue {
    /// Empty for none.
    pub(crate) protocol_type: Arc<str>,
    pub(crate) generation: i32,
    pub(crate) protocol: Option<Arc<str>>,
    pub(crate) leader: Option<Arc<str>>,
    /// -1 if unknown.
    pub(crate) state_timestamp: Timestamp,
    pub(crate) members: Vec<MemberValue>,
}

pub(crate) fn group_key(group: &str) -> Bytes {
    let mut writer = Writer::default();
    writer.i16(TYPE);
    writer.plain_text(group);
    writer.finish()
}

pub(crate) fn encode_group_value(value: &GroupValue) -> Bytes {
    let mut writer = Writer::default();
    writer.i16(WRITTEN);
    writer.plain_text(&value.protocol_type);
    writer.i32(value.generation);
    writer.plain_nullable_text(value.protocol.as_deref());
    writer.plain_nullable_text(value.leader.as_deref());
    writer.i64(value.state_timestamp);
    writer.plain_count(value.members.len());
    for member in &value.members {
        writer.plain_text(&member.member_id);
        writer.plain_nullable_text(member.group_instance_id.as_deref());
        writer.plain_text(&member.client_id);
        writer.plain_text(&member.client_host);
        writer.i32(member.rebalance_timeout_ms);
        writer.i32(member.session_timeout_ms);
        writer.plain_bytes(&member.subscription);
        writer.plain_bytes(&member.assignment);
    }
    writer.finish()
}

pub(crate) fn decode_group_value(bytes: &[u8]) -> Result<GroupValue, RecordError> {
    let mut reader = Reader::new(WHAT, bytes);
    let version = version(&mut reader, WHAT, NEWEST)?;
    let flexible = version >= 4;
    let protocol_type = Arc::from(reader.text(flexible)?);
    let generation = reader.i32()?;
    let protocol = reader.nullable_text(flexible)?.map(Arc::from);
    let leader = reader.nullable_text(flexible)?.map(Arc::from);
    let state_timestamp = if version >= 2 { reader.i64()? } else { -1 };
    let mut members = Vec::new();
    for _ in 0..reader.count(flexible)? {
        members.push(MemberValue {
            member_id: Arc::from(reader.text(flexible)?),
            group_instance_id: if version >= 3 { reader.nullable_text(flexible)?.map(Arc::from) } else { None },
            client_id: Arc::from(reader.text(flexible)?),
            client_host: Arc::from(reader.text(flexible)?),
            rebalance_timeout_ms: if version >= 1 { reader.i32()? } else { -1 },
            session_timeout_ms: reader.i32()?,
            subscription: reader.byte_string(flexible)?,
            assignment: reader.byte_string(flexible)?,
        });
        if flexible {
            reader.tags(|_, _| Ok(()))?;
        }
    }
    if flexible {
        reader.tags(|_, _| Ok(()))?;
    }
    Ok(GroupValue { protocol_type, generation, protocol, leader, state_timestamp, members })
}
