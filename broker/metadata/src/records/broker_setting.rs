// SPDX-License-Identifier: Apache-2.0
//! One dynamic setting of a broker, or of all brokers.

/// Kind 12. Level 2.
#[derive(Clone, PartialEq, prost::Message)]
pub struct BrokerSettingRecord {
    /// The broker; -1 is all brokers that have no value of their own.
    #[prost(int32, tag = "1")]
    pub broker_id: i32,
    /// Kafka's name of the setting.
    #[prost(string, tag = "2")]
    pub name: String,
    /// The value as given; none removes the setting.
    #[prost(string, optional, tag = "3")]
    pub value: Option<String>,
}
