// SPDX-License-Identifier: Apache-2.0
//! DescribeLogDirs (key 35): what lies in the folders of one broker (KIP-113; v4: KIP-827).
//! It must not know how a broker answers, only what stands on the wire.

use odradek_wire_derive::Wire;

use crate::text::Text;

/// Asks for the replicas of one broker.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "1-5", flexible = "2+")]
pub struct DescribeLogDirsRequest {
    /// By topic; null is all.
    #[wire(nullable = "0+")]
    pub topics: Option<Vec<DescribableLogDirTopic>>,
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct DescribableLogDirTopic {
    /// Name of the topic.
    pub topic: Text,
    /// Numbers of the partitions.
    pub partitions: Vec<i32>,
}

/// The folders of one broker.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "1-5", flexible = "2+")]
pub struct DescribeLogDirsResponse {
    /// Milliseconds for which the client is throttled over a quota.
    pub throttle_time_ms: i32,
    /// 0, or why it failed ([`crate::ErrorCode`]).
    #[wire(versions = "3+", ignorable)]
    pub error_code: i16,
    /// By folder.
    pub results: Vec<DescribeLogDirsResult>,
}

/// One folder.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct DescribeLogDirsResult {
    /// 0, or why it failed ([`crate::ErrorCode`]).
    pub error_code: i16,
    /// Its absolute path.
    pub log_dir: Text,
    /// By topic.
    pub topics: Vec<DescribeLogDirsTopic>,
    /// Size in bytes of the volume that it is on, or -1 if unknown.
    #[wire(versions = "4+", default = -1, ignorable)]
    pub total_bytes: i64,
    /// Bytes free on that volume, or -1 if unknown.
    #[wire(versions = "4+", default = -1, ignorable)]
    pub usable_bytes: i64,
    /// Whether no new replicas are placed in it (KIP-1066).
    #[wire(versions = "5+", ignorable)]
    pub is_cordoned: bool,
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct DescribeLogDirsTopic {
    /// Name of the topic.
    pub name: Text,
    /// By partition.
    pub partitions: Vec<DescribeLogDirsPartition>,
}

/// One replica.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct DescribeLogDirsPartition {
    /// Number of the partition.
    pub partition_index: i32,
    /// Bytes of its segments.
    pub partition_size: i64,
    /// How far its end is from the high watermark.
    pub offset_lag: i64,
    /// Whether it is a copy that shall replace the replica in another folder of this broker.
    pub is_future_key: bool,
}
