// SPDX-License-Identifier: Apache-2.0
//! The coordinator's settings with Kafka's defaults (`GroupCoordinatorConfig`).

/// Settings of a [`GroupCoordinator`](crate::GroupCoordinator). Times in milliseconds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupSettings {
    /// `group.min.session.timeout.ms`: shortest session a member may ask for.
    pub min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`: longest session a member may ask for.
    pub max_session_timeout_ms: i32,
    /// `group.initial.rebalance.delay.ms`: how long the first rebalance of an empty group waits for more members.
    /// Each join within it extends the wait, up to the rebalance timeout.
    pub initial_rebalance_delay_ms: i32,
    /// `group.max.size`: most members of a group.
    pub max_size: usize,
    /// `offset.metadata.max.bytes`: longest metadata of a committed offset, in UTF-16 units as Kafka counts it.
    pub offset_metadata_max_size: usize,
    /// `offsets.commit.timeout.ms`: how long a commit waits for the replicas of the journal. After that it is answered
    /// "not available", though it may still be committed, as in Kafka.
    pub offsets_commit_timeout_ms: i64,
    /// `offsets.retention.minutes`, in milliseconds: how long an offset outlives its group or subscription.
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`: how often expired offsets are looked for.
    pub offsets_retention_check_interval_ms: i64,
    /// How long a new member may be parked in its first JoinGroup before it is taken for gone. Fixed at 5 minutes in
    /// Kafka: it cannot send heartbeats while parked.
    pub new_member_join_timeout_ms: i64,
}

impl Default for GroupSettings {
    fn default() -> Self {
        Self {
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 30 * 60_000,
            initial_rebalance_delay_ms: 3_000,
            max_size: i32::MAX as usize,
            offset_metadata_max_size: 4096,
            offsets_commit_timeout_ms: 5_000,
            offsets_retention_ms: 7 * 24 * 3_600_000,
            offsets_retention_check_interval_ms: 600_000,
            new_member_join_timeout_ms: 5 * 60_000,
        }
    }
}
