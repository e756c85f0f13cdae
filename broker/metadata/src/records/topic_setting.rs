// SPDX-License-Identifier: Apache-2.0
//! One setting of a topic.

/// Kind 9.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TopicSettingRecord {
    /// 16 bytes: the topic's id.
    #[prost(bytes = "bytes", tag = "1")]
    pub topic_id: bytes::Bytes,
    /// Kafka's name of the setting.
    #[prost(string, tag = "2")]
    pub name: String,
    /// The value as given; none removes the setting.
    #[prost(string, optional, tag = "3")]
    pub value: Option<String>,
}
