// SPDX-License-Identifier: Apache-2.0
//! Sends the ISR changes of all leaders on this broker to the controller, one command at a time, and tells each leader
//! what became of its own. That a change was committed is learned from the metadata alone.
use std::sync::Arc;

use odradek_metadata::{AlterPartition, AlterPartitionReply};
use odradek_replication::{Batch, Proposal};

use super::{IsrUnavailable, Links, Replication, sleep_until, time_until};
use crate::broker::Broker;

pub(super) async fn run(replication: Arc<Replication>, links: Links) {
    loop {
        let Some(broker) = links.broker.upgrade() else { return };
        let (batch, due) = {
            let mut proposals = replication.proposals();
            (proposals.next(broker.clock.monotonic()), proposals.due_at())
        };
        let Some(batch) = batch else {
            let wait = due.map(|due| time_until(due, broker.clock.as_ref()));
            drop(broker);
            tokio::select! {
                () = replication.proposed.notified() => {}
                () = sleep_until(wait) => {}
                () = links.stopping.cancelled() => return,
            }
            continue;
        };
        let answer = match command(&broker, &batch, links.isr_changes.controller_epoch()) {
            Some(command) => tokio::select! {
                answer = links.isr_changes.alter_partition(command) => answer,
                () = links.stopping.cancelled() => return,
            },
            None => Err(IsrUnavailable("this broker is not registered".to_owned())),
        };
        replication.proposals().finished();
        tell(&broker, batch, answer);
    }
}

/// `None` while the metadata does not know this broker.
fn command(broker: &Broker, batch: &Batch, controller_epoch: i64) -> Option<AlterPartition> {
    let broker_epoch = broker.image().broker(broker.id)?.epoch;
    Some(batch.command(broker.id, broker_epoch, controller_epoch))
}

fn tell(broker: &Broker, batch: Batch, answer: Result<AlterPartitionReply, IsrUnavailable>) {
    let reply = answer.inspect_err(|error| tracing::debug!(%error, "ISR changes are sent again")).ok();
    if let Some(Err(error)) = &reply {
        tracing::debug!(%error, "ISR changes are sent again");
    }
    for (Proposal { key, change }, answer) in batch.answers(reply) {
        if let Some(replica) = broker.replica(key) {
            tracing::debug!(topic = %replica.topic, index = replica.index, ?change, ?answer, "an ISR change");
            replica.isr_answered(&change, answer);
        }
    }
}
