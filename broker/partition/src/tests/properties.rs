// SPDX-License-Identifier: Apache-2.0
//! What must hold at every moment and over every step, whatever happens.

use odradek_model::{BrokerId, LeaderEpoch, Offset};

use super::cluster::Cluster;
use super::controller::all_brokers;
use crate::{Isolation, OffsetSpec, Partition};

/// What has been committed: below the high watermark of some leader that had its minimum of replicas, so that it may
/// have been acknowledged or read. By leader epoch, from offset 0 on.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Committed(Vec<LeaderEpoch>);

/// Checks a step, and notes what it committed.
pub(super) fn check_step(before: &Cluster, after: &mut Cluster) -> Result<(), String> {
    for id in all_brokers() {
        let Some(replica) = after.replica(id) else { continue };
        let high_watermark = replica.high_watermark();
        let was = before.replica(id).filter(|was| was.leader_epoch() <= replica.leader_epoch());
        if replica.leadership().is_some() {
            // Also when the reign began with this step: nothing is cut then.
            let before = was.map_or(0, Partition::high_watermark);
            if before > high_watermark {
                return Err(format!("the high watermark of leader {id:?} fell from {before} to {high_watermark}"));
            }
            if high_watermark > before {
                note_committed(after, id, high_watermark)?;
            }
        }
        check_one_change_at_a_time(before, after, id)?;
    }
    check_moment(after)
}

fn note_committed(cluster: &mut Cluster, leader: BrokerId, high_watermark: Offset) -> Result<(), String> {
    let log = cluster.broker(leader).log.contents().records[..high_watermark as usize].to_vec();
    let known = cluster.committed.0.len().min(log.len());
    if cluster.committed.0[..known] != log[..known] {
        return Err(format!("leader {leader:?} commits {log:?}, {:?} was committed", cluster.committed.0));
    }
    if log.len() > known {
        cluster.committed.0 = log;
    }
    Ok(())
}

/// A change that is on its way is replaced only by another attempt at it, by metadata that is newer, or by a refusal
/// that leaves nothing on its way.
fn check_one_change_at_a_time(before: &Cluster, after: &Cluster, id: BrokerId) -> Result<(), String> {
    let pending = |cluster: &Cluster| cluster.replica(id).and_then(Partition::pending_isr_change).cloned();
    let (Some(was), Some(is)) = (pending(before), pending(after)) else { return Ok(()) };
    let same = was.in_sync == is.in_sync && was.partition_epoch == is.partition_epoch && was.attempt <= is.attempt;
    if same || (is.leader_epoch, is.partition_epoch) > (was.leader_epoch, was.partition_epoch) {
        return Ok(());
    }
    Err(format!("{id:?} proposes {is:?} while {was:?} is on its way"))
}

fn check_moment(cluster: &Cluster) -> Result<(), String> {
    let metadata = &cluster.controller.now;
    let committed = &cluster.committed.0;
    // Whoever may be elected, and so every later leader, has everything that was committed where it was.
    let short_of_minimum = metadata.in_sync.len() < cluster.controller.min_in_sync;
    let electable = metadata.in_sync.iter().chain(metadata.eligible.iter().filter(|_| short_of_minimum));
    for id in electable {
        let log = &cluster.broker(*id).log.contents().records;
        if !log.starts_with(committed) {
            return Err(format!("{committed:?} was committed, {id:?} may be elected with {log:?}"));
        }
    }
    // What a replica shows was committed, so replicas are equal below their high watermarks.
    for id in all_brokers() {
        let Some(replica) = cluster.replica(id) else { continue };
        let shown = &cluster.broker(id).log.contents().records[..replica.high_watermark() as usize];
        if !committed.starts_with(shown) {
            return Err(format!("{id:?} shows {shown:?}, {committed:?} was committed"));
        }
    }
    // What the leader shows is never less than what was acknowledged.
    let leader = metadata.leader.and_then(|leader| cluster.replica(leader));
    if let Some(leader) = leader.filter(|leader| leader.leader_epoch() == metadata.leader_epoch)
        && let Ok(view) = leader.view(None)
        && let Ok(shown) = view.list_offset(OffsetSpec::Latest, Isolation::ReadUncommitted)
        && shown.offset < committed.len() as Offset
    {
        return Err(format!("the leader shows an end of {}, {} was committed", shown.offset, committed.len()));
    }
    all_brokers().try_for_each(|id| check_confirmed(cluster, id))
}

/// Nor is what anyone shows who believes to lead and whom the others confirm.
fn check_confirmed(cluster: &Cluster, id: BrokerId) -> Result<(), String> {
    let Some(leader) = cluster.replica(id) else { return Ok(()) };
    let Ok(witnesses) = leader.witnesses(None) else { return Ok(()) };
    let epoch_of = |id| cluster.replica(id).map(Partition::leader_epoch);
    let confirms = |other| epoch_of(other).is_some_and(|epoch| (0..=leader.leader_epoch()).contains(&epoch));
    let committed = cluster.committed.0.len() as Offset;
    if witnesses.suffice(confirms)
        && let Ok(shown) = leader
            .view(None)
            .map_err(|error| error.to_string())?
            .list_offset(OffsetSpec::Latest, Isolation::ReadUncommitted)
        && shown.offset < committed
    {
        return Err(format!("{id:?} is confirmed and shows an end of {}, {committed} was committed", shown.offset));
    }
    Ok(())
}

/// After all trouble has ended: all replicas in sync, equal, and everything committed.
pub(super) fn check_healed(cluster: &Cluster) -> Result<(), String> {
    let metadata = &cluster.controller.now;
    if metadata.in_sync.len() < all_brokers().count() {
        return Err(format!("not all are in sync again: {metadata:?}"));
    }
    let leader = metadata.leader.ok_or("there is no leader")?;
    let log = cluster.broker(leader).log.contents().records.clone();
    for id in all_brokers() {
        let replica = cluster.replica(id).ok_or("a broker is down")?;
        let own = &cluster.broker(id).log.contents().records;
        if *own != log || replica.high_watermark() != log.len() as Offset {
            return Err(format!("{id:?} has {own:?} up to {}, the leader {log:?}", replica.high_watermark()));
        }
        if replica.pending_isr_change().is_some() {
            return Err(format!("{id:?} waits for an ISR change"));
        }
    }
    Ok(())
}
