// SPDX-License-Identifier: Apache-2.0
//! What a log needs to know of its topic's settings. Must not know where settings come from.

use odradek_model::{TimestampType, TopicSettings};

/// The settings that a log obeys. Times in milliseconds, sizes in bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogSettings {
    /// `segment.bytes`: a segment is closed before it would grow larger; at most 2^31 - 1.
    pub segment_bytes: u32,
    /// `segment.ms`: a segment is closed when the timestamps in it, or its age while empty, span more.
    pub segment_ms: i64,
    /// `retention.ms`; `None` keeps segments for ever.
    pub retention_ms: Option<i64>,
    /// `retention.bytes`; `None` is without limit.
    pub retention_bytes: Option<u64>,
    /// `message.timestamp.type`: with LogAppendTime batches are stamped when appended.
    pub timestamp_type: TimestampType,
    /// `flush.messages`: unflushed records at which [`crate::Log::needs_flush`] says yes.
    pub flush_messages: Option<u64>,
    /// `index.interval.bytes`: bytes of batches between two index entries. Kafka's default, 4096.
    pub index_interval_bytes: u32,
    /// `segment.index.bytes`: a segment is closed when one of its indexes would be larger. Kafka's default, 10 MiB.
    pub segment_index_bytes: u32,
    /// `producer.id.expiration.ms`: idle producers are forgotten after this. Kafka's default, 1 day.
    pub producer_id_expiration_ms: i64,
}

impl LogSettings {
    /// The settings of a topic, with Kafka's defaults for what topics cannot set yet.
    pub fn new(settings: &TopicSettings) -> Self {
        Self {
            segment_bytes: settings.segment_bytes,
            segment_ms: settings.segment_ms,
            retention_ms: settings.retention_ms,
            retention_bytes: settings.retention_bytes,
            timestamp_type: settings.timestamp_type,
            flush_messages: settings.flush_messages,
            index_interval_bytes: 4096,
            segment_index_bytes: 10 << 20,
            producer_id_expiration_ms: 24 * 3_600_000,
        }
    }
}

impl Default for LogSettings {
    fn default() -> Self {
        Self::new(&TopicSettings::default())
    }
}
