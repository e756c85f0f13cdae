// SPDX-License-Identifier: Apache-2.0
//! One pass over the partitions of a Fetch request: what each has for who asks, and what is read of it. The budget for
//! reads is taken before a log is touched, as much as the request may return; the first batch is always allowed
//! (rule 22). It must not know sessions, nor when another pass is due.
use std::sync::Arc;

use bytes::Bytes;
use odradek_disk::FileRegion;
use odradek_model::{BrokerId, LeaderEpoch, Offset};
use odradek_partition::{FollowerFetched, Isolation, PartitionView};
use odradek_wire::messages::{FetchEpochEndOffset, PartitionData};
use odradek_wire::{ErrorCode, Records};

use super::plan::{Asker, PartitionPlan, Plan};
use crate::api::on_blocking_thread;
use crate::broker::Broker;
use crate::error_table::{follower_fetch_code, leadership_code, read_code};
use crate::net::budget::Charge;
use crate::replica::{ConsumerView, Replica};

/// One pass over the partitions in the request's order.
pub(super) struct Read {
    /// By partition in the plan's order, as is the next.
    pub(super) partitions: Vec<PartitionData>,
    /// The end that was visible.
    pub(super) seen_ends: Vec<Offset>,
    pub(super) bytes: usize,
    /// Whether a partition's answer must not wait for more: an error, another log, another replica to read from.
    is_due: bool,
    pub(super) charge: Option<Charge>,
    /// Where the records are that are sent from files, in the plan's order.
    pub(super) files: Vec<FileRegion>,
}

impl Read {
    /// Whether the answer is due before the wait is over (`DelayedFetch`): enough bytes, an error, nothing asked.
    pub(super) fn is_enough(&self, plan: &Plan) -> bool {
        let asks_nothing = plan.partitions.is_empty() && !plan.turn.is_watched();
        self.is_due || self.bytes >= plan.min_bytes || asks_nothing
    }
}

/// What a partition has for who asks.
pub(super) enum Seen {
    /// Read from here.
    Here(PartitionView),
    /// The same for a throttled follower, with the bytes that it may have now.
    Slowed(PartitionView, usize),
    /// It has read what is not in this log, which ends there in that epoch.
    Diverging(LeaderEpoch, Offset),
    /// That replica is nearer.
    Elsewhere(BrokerId, PartitionView),
}

pub(super) type View = Result<Seen, ErrorCode>;

/// Whether a request has just come: what a follower says of itself counts once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    First,
    Again,
}

pub(super) fn views(broker: &Broker, plan: &Plan, look: Look) -> Vec<View> {
    let any_slowed = plan.partitions.iter().any(|partition| partition.is_slowed);
    let may_send = if any_slowed { broker.replication.may_send(broker.clock.monotonic()) } else { usize::MAX };
    let view = |partition: &PartitionPlan| {
        let replica = partition.replica.as_ref().map_err(|code| *code)?;
        match &plan.asker {
            Asker::Follower { id, epoch } => {
                let fetch = partition.of_follower(*id, *epoch);
                let fetched = match look {
                    Look::First => replica.follower_fetch(&fetch),
                    Look::Again => replica.follower_view(&fetch),
                };
                match fetched.map_err(|error| follower_fetch_code(&error))? {
                    FollowerFetched::Read(view) if partition.is_slowed => Ok(Seen::Slowed(view, may_send)),
                    FollowerFetched::Read(view) => Ok(Seen::Here(view)),
                    FollowerFetched::Diverging { epoch, end_offset } => Ok(Seen::Diverging(epoch, end_offset)),
                }
            }
            Asker::Consumer { may_follow, rack, .. } => {
                let (epoch, offset) = (partition.current_epoch, partition.offset);
                let view = replica.consumer_view(epoch, *may_follow, offset, partition.last_epoch);
                match view.map_err(|error| read_code(&error))? {
                    ConsumerView::Diverging { epoch, end_offset } => Ok(Seen::Diverging(epoch, end_offset)),
                    ConsumerView::Read(view) if *may_follow && !rack.is_empty() && replica.leads() => {
                        let nearer = nearer_replica(broker, plan, partition, replica, rack)?;
                        Ok(nearer.map_or(Seen::Here(view.clone()), |nearer| Seen::Elsewhere(nearer, view)))
                    }
                    ConsumerView::Read(view) => Ok(Seen::Here(view)),
                }
            }
        }
    };
    plan.partitions.iter().map(view).collect()
}

/// The replica in the consumer's rack, if there is one that holds what it wants (rule 31).
fn nearer_replica(
    broker: &Broker,
    plan: &Plan,
    partition: &PartitionPlan,
    replica: &Replica,
    rack: &str,
) -> Result<Option<BrokerId>, ErrorCode> {
    let image = broker.image();
    let rack_of = |id| {
        let member = image.broker(id).filter(|member| !member.fenced)?;
        broker.endpoint(member, &plan.listener)?;
        member.rack.as_deref()
    };
    let preferred = replica.preferred_read_replica(rack, partition.offset, partition.current_epoch, rack_of);
    preferred.map_err(|error| leadership_code(&error))
}

/// What a pass may do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Disk {
    /// Nothing that may wait for the disk: who is far behind must not hold up a thread that serves others.
    InMemory,
    /// Wait: the pass is on a thread of its own.
    MayWait,
}

/// Records from this length on are sent from the file; below, a read costs less than another call to the socket.
const SEND_FROM: usize = 32 << 10;

/// Looks again, and reads here, or on a thread that may block if it may have to.
pub(super) async fn read_once(broker: &Arc<Broker>, plan: &Arc<Plan>) -> Read {
    read_where_it_may_block(broker, plan, views(broker, plan, Look::Again)).await
}

pub(super) async fn read_where_it_may_block(broker: &Arc<Broker>, plan: &Arc<Plan>, views: Vec<View>) -> Read {
    if let Some(read) = read_views(broker, plan, &views, Disk::InMemory) {
        return read;
    }
    broker.metrics.cold_fetches.inc();
    let (broker, plan) = (Arc::clone(broker), Arc::clone(plan));
    let read = move || read_views(&broker, &plan, &views, Disk::MayWait).expect("a pass that may wait is finished");
    on_blocking_thread(read).await
}

/// `None` if it would have to wait for the disk, and may not.
pub(super) fn read_views(broker: &Broker, plan: &Plan, views: &[View], disk: Disk) -> Option<Read> {
    let seen_end = |view: &View| match view {
        Ok(Seen::Here(view) | Seen::Slowed(view, _)) => plan.visible_end(view),
        Ok(Seen::Diverging(..) | Seen::Elsewhere(..)) | Err(_) => -1,
    };
    let seen_ends: Vec<Offset> = views.iter().map(seen_end).collect();
    // What can be returned at most, without touching a log.
    let wanted = plan
        .partitions
        .iter()
        .zip(&seen_ends)
        .filter(|(p, seen_end)| p.offset < **seen_end)
        .map(|(p, _)| p.max_bytes)
        .fold(0usize, usize::saturating_add)
        .min(plan.max_bytes);
    let mut charge = (wanted > 0).then(|| broker.reads.take_available(wanted, 1));
    let mut left = charge.as_ref().map_or(0, Charge::bytes).min(plan.max_bytes);
    let mut total = 0;
    let (mut is_due, mut slowed_bytes) = (false, 0);
    let mut files = Vec::new();
    let mut partitions = Vec::with_capacity(plan.partitions.len());
    for (partition, view) in plan.partitions.iter().zip(views) {
        let max_bytes = partition.max_bytes.min(left);
        let data = match locate(plan, partition, view, max_bytes) {
            Some((data, file)) => {
                files.push(file);
                data
            }
            None if disk == Disk::InMemory && may_block(plan, partition, view) => return None,
            None => read_partition(plan, partition, view, max_bytes, total == 0),
        };
        let bytes = data.records.as_ref().map_or(0, Records::len);
        left = left.saturating_sub(bytes);
        total += bytes;
        slowed_bytes += if partition.is_slowed { bytes } else { 0 };
        is_due |= data.error_code != 0 || !matches!(view, Ok(Seen::Here(_) | Seen::Slowed(..)));
        partitions.push(data);
    }
    if slowed_bytes > 0 {
        broker.replication.sent(slowed_bytes, broker.clock.monotonic());
    }
    match &mut charge {
        Some(charge) if total <= charge.bytes() => charge.shrink_to(total),
        // The first batch was larger than what was free: it is charged all the same.
        Some(charge) => charge.add(total - charge.bytes()),
        None => {}
    }
    Some(Read { partitions, seen_ends, bytes: total, is_due, charge, files })
}

/// Records for a consumer that are long enough to be sent from the file, and in memory. Not for followers: a leader may
/// yet cut what is not committed.
fn locate(
    plan: &Plan,
    partition: &PartitionPlan,
    view: &View,
    max_bytes: usize,
) -> Option<(PartitionData, FileRegion)> {
    let (Ok(Seen::Here(view)), Asker::Consumer { isolation, .. }) = (view, &plan.asker) else { return None };
    let file = view.locate(partition.offset, max_bytes, *isolation, SEND_FROM)?;
    let watermarks = (view.high_watermark(), view.last_stable_offset(), view.log_start_offset());
    Some((partition_data(plan, partition, watermarks, Records::Elsewhere(file.len())), file))
}

/// Whether reading may have to wait for the disk.
fn may_block(plan: &Plan, partition: &PartitionPlan, view: &View) -> bool {
    let Ok(Seen::Here(view) | Seen::Slowed(view, 1..)) = view else { return false };
    match &plan.asker {
        Asker::Consumer { isolation, .. } => view.may_block(partition.offset, *isolation),
        Asker::Follower { .. } => view.may_block_for_follower(partition.offset),
    }
}

fn partition_data(
    plan: &Plan,
    partition: &PartitionPlan,
    (high_watermark, last_stable_offset, log_start_offset): (Offset, Offset, Offset),
    records: Records,
) -> PartitionData {
    // Rule 21: a list for those who ask for it. Nothing is ever aborted without transactions.
    let reads_committed = matches!(plan.asker, Asker::Consumer { isolation: Isolation::ReadCommitted, .. });
    PartitionData {
        partition_index: partition.requested.partition,
        high_watermark,
        last_stable_offset,
        log_start_offset: if plan.version >= 5 { log_start_offset } else { -1 },
        records: Some(records),
        aborted_transactions: reads_committed.then(Vec::new),
        ..PartitionData::default()
    }
}

fn read_partition(plan: &Plan, partition: &PartitionPlan, view: &View, max_bytes: usize, first: bool) -> PartitionData {
    let nothing = || Records::from(Bytes::new());
    let read = match view {
        Ok(Seen::Here(view)) => match &plan.asker {
            Asker::Consumer { isolation, .. } => view.read(partition.offset, max_bytes, *isolation, first),
            Asker::Follower { .. } => view.read_for_follower(partition.offset, max_bytes, first),
        }
        .map_err(|error| read_code(&error)),
        Ok(Seen::Slowed(view, bytes)) => {
            let read = view.read_for_follower(partition.offset, max_bytes.min(*bytes), first && *bytes > 0);
            read.map_err(|error| read_code(&error))
        }
        Ok(Seen::Diverging(epoch, end_offset)) => {
            let diverging_epoch = FetchEpochEndOffset { epoch: *epoch, end_offset: *end_offset };
            let data = partition_data(plan, partition, (-1, -1, -1), nothing());
            return PartitionData { diverging_epoch, ..data };
        }
        Ok(Seen::Elsewhere(nearer, view)) => {
            let watermarks = (view.high_watermark(), view.last_stable_offset(), view.log_start_offset());
            let data = partition_data(plan, partition, watermarks, nothing());
            return PartitionData { preferred_read_replica: nearer.0, ..data };
        }
        Err(code) => Err(*code),
    };
    match read {
        Ok(fetched) => {
            let watermarks = (fetched.high_watermark, fetched.last_stable_offset, fetched.log_start_offset);
            partition_data(plan, partition, watermarks, fetched.records.into())
        }
        Err(code) => {
            // Clients of these versions do not know the code (KIP-112).
            let is_old = plan.version <= 5 && code == ErrorCode::KafkaStorageError;
            let code = if is_old { ErrorCode::NotLeaderOrFollower } else { code };
            PartitionData {
                partition_index: partition.requested.partition,
                error_code: code.code(),
                high_watermark: -1,
                records: Some(nothing()),
                ..PartitionData::default()
            }
        }
    }
}
