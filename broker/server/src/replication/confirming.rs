// SPDX-License-Identifier: Apache-2.0
//! Asks the other replicas of partitions that this broker leads whether it may still read as their leader
//! ([`odradek_replication::Confirmations`] says whom and when). It must not know what is read.
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use odradek_model::{LeaderEpoch, TopicId};
use odradek_replication::{Confirmations, Confirmed, Question, READ_WAIT_MS, ReadToken, ReplicaKey};
use odradek_wire::private::{ConfirmLeadershipRequest, ConfirmLeadershipResponse, LedPartition};
use tokio::sync::{Notify, oneshot};

use super::{Links, Replication, sleep_until, time_until};
use crate::broker::Broker;
use crate::private::leadership::PARTITIONS_MAX;

/// A question that is not answered by then is asked anew, on another connection: twice within the wait of a read.
const ANSWER_TIME: Duration = Duration::from_millis(READ_WAIT_MS as u64 / 2);

/// The reads that wait, and who began them.
#[derive(Debug, Default)]
pub(super) struct Confirming {
    state: Mutex<State>,
    /// Told when the next turn may be due earlier.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    confirmations: Confirmations,
    /// Each waits in `confirmations`.
    readers: HashMap<ReadToken, oneshot::Sender<Confirmed>>,
}

impl Confirming {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Replication {
    /// Tells once it is known whether this broker was the leader of the partition in that epoch, and no later one had
    /// committed anything, when it was called.
    pub(crate) fn confirm(
        self: &Arc<Self>,
        key: ReplicaKey,
        leader_epoch: LeaderEpoch,
    ) -> oneshot::Receiver<Confirmed> {
        let (sender, receiver) = oneshot::channel();
        // Without connections nobody is asked, and dropping the sender says so.
        let Some(links) = self.links.get() else { return receiver };
        let Some(broker) = links.broker.upgrade() else { return receiver };
        {
            let mut state = self.confirming.lock();
            let token = state.confirmations.read(key, leader_epoch, broker.clock.monotonic());
            state.readers.insert(token, sender);
        }
        self.take_turn(links, &broker);
        self.confirming.changed.notify_one();
        receiver
    }

    /// The metadata has changed, and with it who has to be asked.
    pub(crate) fn leadership_changed(&self) {
        self.confirming.changed.notify_one();
    }

    /// Lets those read who may, asks whom there is to ask, and says how long nothing has to be done.
    fn take_turn(self: &Arc<Self>, links: &Links, broker: &Arc<Broker>) -> Option<Duration> {
        let turn = {
            let mut state = self.confirming.lock();
            let State { confirmations, readers } = &mut *state;
            let turn = confirmations
                .turn(broker.clock.monotonic(), |key, leader_epoch| broker.replica(key)?.witnesses(leader_epoch).ok());
            for (token, confirmed) in &turn.ended {
                if let Some(reader) = readers.remove(token) {
                    // A client that has gone does not listen.
                    let _ = reader.send(*confirmed);
                }
            }
            turn
        };
        for question in turn.questions {
            links.spawn(ask(Arc::clone(self), links.clone(), question));
        }
        turn.due.map(|due| time_until(due, broker.clock.as_ref()))
    }
}

/// Takes turns when nothing else does.
pub(super) async fn run(replication: Arc<Replication>, links: Links) {
    loop {
        let Some(broker) = links.broker.upgrade() else { return };
        let pause = replication.take_turn(&links, &broker);
        drop(broker);
        tokio::select! {
            () = replication.confirming.changed.notified() => {}
            () = sleep_until(pause) => {}
            () = links.stopping.cancelled() => return,
        }
    }
}

async fn ask(replication: Arc<Replication>, links: Links, question: Question) {
    let partitions = question.partitions.iter().take(PARTITIONS_MAX);
    let partitions = partitions.map(|(key, _)| LedPartition { topic_id: key.topic.0, partition: key.partition });
    let request = ConfirmLeadershipRequest { partitions: partitions.collect() };
    let answer = tokio::select! {
        answer = links.source.confirm_leadership(question.to, request, ANSWER_TIME) => answer,
        () = links.stopping.cancelled() => return,
    };
    let Some(broker) = links.broker.upgrade() else { return };
    let now = broker.clock.monotonic();
    match answer {
        Ok(response) => replication.confirming.lock().confirmations.answered(&question, &known(&response), now),
        Err(error) => {
            tracing::debug!(broker = %question.to, %error, "a replica does not confirm this leader");
            replication.confirming.lock().confirmations.failed(&question, now);
        }
    }
    replication.take_turn(&links, &broker);
}

fn known(response: &ConfirmLeadershipResponse) -> BTreeMap<ReplicaKey, LeaderEpoch> {
    let known = response.partitions.iter().map(|known| {
        let key = ReplicaKey { topic: TopicId(known.topic_id), partition: known.partition };
        (key, known.leader_epoch)
    });
    known.collect()
}
