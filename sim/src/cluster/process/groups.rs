// SPDX-License-Identifier: Apache-2.0
//! The coordinators of groups on this broker: the real state machine over the replicated journal, one for each reign, as
//! the server's `coordinators` drive it: loaded once what the log holds is committed, answering once what they wrote is.
//! Without rewriting of journals. Must not know what groups are for.

use std::collections::{BTreeMap, VecDeque};

use odradek_groups::{
    AppendError as JournalError, AppendToken, Effect, GroupCoordinator, GroupError, GroupSettings, JournalRecord,
    Request as GroupRequest, RequestToken, journal_partition,
};
use odradek_model::{LeaderEpoch, OFFSETS_TOPIC};
use odradek_partition::{Acks, AppendError, Isolation, ProduceOutcome, ProduceWait};
use odradek_records::{BatchBuilder, BatchOptions, Batches};
use odradek_replication::ReplicaKey;

use super::Process;
use super::serving::Parked;
use crate::cluster::message::{Answer, CallId, Endpoint};

/// Bytes of a journal read in one go.
const READ_BYTES: usize = 64 << 10;

/// The coordinator of one journal in one reign.
#[derive(Debug)]
pub(super) struct Coordinator {
    machine: GroupCoordinator,
    leader_epoch: LeaderEpoch,
    /// Appends of which it has not been told, in their order; `None` while it is not known what became of one.
    uncommitted: VecDeque<(AppendToken, Option<Result<(), JournalError>>)>,
}

/// All of this broker.
#[derive(Debug, Default)]
pub(super) struct Coordinators {
    by_journal: BTreeMap<ReplicaKey, Coordinator>,
    waiting: BTreeMap<RequestToken, (Endpoint, CallId)>,
    effects: VecDeque<(ReplicaKey, LeaderEpoch, Effect)>,
    is_busy: bool,
}

/// Why a coordinator waits for its journal.
#[derive(Clone, Copy, Debug)]
pub(super) enum JournalWait {
    /// What the reign before left is to be committed before it is read.
    Load,
    Append(AppendToken),
}

impl Process {
    /// Begins and ends coordinators as their journals are led now.
    pub(super) fn move_groups(&mut self) {
        let led = self.replicas.iter().filter(|(_, replica)| replica.topic.as_str() == OFFSETS_TOPIC);
        let led = led.filter_map(|(key, replica)| Some((*key, replica.partition.view(None).ok()?.leader_epoch())));
        let led: BTreeMap<_, _> = led.collect();
        let present = &self.coordinators.by_journal;
        let is_over = |(key, present): &(&ReplicaKey, &Coordinator)| led.get(key) != Some(&present.leader_epoch);
        let over: Vec<_> = present.iter().filter(is_over).map(|(key, _)| *key).collect();
        for key in over {
            self.end_groups(key);
        }
        for (key, leader_epoch) in led {
            if self.coordinators.by_journal.contains_key(&key) {
                continue;
            }
            let machine = GroupCoordinator::new(GroupSettings::default());
            let coordinator = Coordinator { machine, leader_epoch, uncommitted: VecDeque::new() };
            self.coordinators.by_journal.insert(key, coordinator);
            let end = self.replicas.get(&key).map_or(0, |replica| replica.partition.log_end_offset());
            match self.wait_for_journal(key, leader_epoch, end, JournalWait::Load) {
                Some(Ok(())) => self.load_groups(key),
                Some(Err(_)) => self.end_groups(key),
                None => {}
            }
        }
    }

    fn end_groups(&mut self, key: ReplicaKey) {
        if let Some(mut coordinator) = self.coordinators.by_journal.remove(&key) {
            let effects = coordinator.machine.unload();
            self.queue_for_groups(key, coordinator.leader_epoch, effects);
        }
    }

    /// Waits until the journal is committed up to the offset; the outcome if it is known at once.
    fn wait_for_journal(
        &mut self,
        key: ReplicaKey,
        leader_epoch: LeaderEpoch,
        up_to: i64,
        wait: JournalWait,
    ) -> Option<Result<(), JournalError>> {
        let parked = self.number();
        let token = self.token(parked);
        let replica = self.replicas.get_mut(&key)?;
        match replica.partition.wait_produce(token, up_to) {
            Ok(ProduceWait::Registered) => {
                self.parked.insert(parked, Parked::Journal { key, leader_epoch, wait });
                None
            }
            Ok(ProduceWait::Done(outcome)) => {
                self.tokens.remove(&token);
                Some(journalled(outcome))
            }
            Err(_) => {
                self.tokens.remove(&token);
                Some(Err(JournalError::TimedOut))
            }
        }
    }

    /// What a coordinator waited for has happened, or never will.
    pub(super) fn journal_settled(
        &mut self,
        key: ReplicaKey,
        leader_epoch: LeaderEpoch,
        wait: JournalWait,
        outcome: ProduceOutcome,
    ) {
        let Some(coordinator) = self.coordinators.by_journal.get_mut(&key) else { return };
        if coordinator.leader_epoch != leader_epoch {
            return;
        }
        let outcome = journalled(outcome);
        match wait {
            JournalWait::Load if outcome.is_ok() => self.load_groups(key),
            JournalWait::Load => self.end_groups(key),
            JournalWait::Append(append) => {
                if let Some(known) = coordinator.uncommitted.iter_mut().find(|(token, _)| *token == append) {
                    known.1 = Some(outcome);
                }
                self.tell_groups(key);
            }
        }
    }

    /// Tells a coordinator what became of its appends, in their order.
    fn tell_groups(&mut self, key: ReplicaKey) {
        let wall_ms = self.wall_ms();
        while let Some(coordinator) = self.coordinators.by_journal.get_mut(&key)
            && let Some((append, Some(outcome))) = coordinator.uncommitted.front().copied()
        {
            coordinator.uncommitted.pop_front();
            let effects = coordinator.machine.appended(append, outcome, wall_ms);
            let leader_epoch = coordinator.leader_epoch;
            self.queue_for_groups(key, leader_epoch, effects);
        }
    }

    /// Reads a journal that is committed from its start to its end, then serves its groups.
    fn load_groups(&mut self, key: ReplicaKey) {
        let wall_ms = self.wall_ms();
        let Some(coordinator) = self.coordinators.by_journal.get_mut(&key) else { return };
        let leader_epoch = coordinator.leader_epoch;
        let view = self.replicas.get(&key).map(|replica| replica.partition.view(Some(leader_epoch)));
        let Some(Ok(view)) = view else {
            self.end_groups(key);
            return;
        };
        let mut offset = view.log_start_offset();
        while offset < view.high_watermark() {
            let before = offset;
            let Ok(fetched) = view.read(offset, READ_BYTES, Isolation::ReadUncommitted, true) else { break };
            for batch in Batches::new(&fetched.records).map_while(Result::ok) {
                offset = batch.header.next_offset();
                let Ok(records) = batch.records() else { break };
                for record in records.iter().map_while(Result::ok) {
                    if let Some(key) = record.key {
                        coordinator.machine.replay(key, record.value, wall_ms).expect("a record of a coordinator");
                    }
                }
            }
            assert!(offset > before, "there is something below the high watermark");
        }
        let effects = coordinator.machine.loaded(wall_ms);
        self.queue_for_groups(key, leader_epoch, effects);
    }

    fn journal_of(&self, group: &str) -> Option<ReplicaKey> {
        let topic = self.applied.topics().find(|topic| topic.name.as_str() == OFFSETS_TOPIC);
        topic.filter(|_| self.serves).map(|topic| ReplicaKey {
            topic: topic.id,
            partition: journal_partition(group, topic.partitions.len() as i32),
        })
    }

    /// The reign in which the journal has its coordinator here.
    pub(super) fn coordinator_epoch(&self, key: ReplicaKey) -> Option<LeaderEpoch> {
        self.coordinators.by_journal.get(&key).map(|coordinator| coordinator.leader_epoch)
    }

    /// A client asks the coordinator of its group for something.
    pub(super) fn asked_for_group(&mut self, from: Endpoint, call: CallId, group: &str, request: GroupRequest) {
        let key = self.journal_of(group);
        let serving = key.and_then(|key| Some((key, self.coordinators.by_journal.get(&key)?)));
        let serving = serving.filter(|(_, coordinator)| coordinator.machine.check_serving().is_ok());
        if let (GroupRequest::Fetch(_), Some((key, coordinator))) = (&request, serving) {
            let reign = (key, coordinator.leader_epoch);
            self.read_of_group((from, call), reign, group, request);
        } else {
            self.asked_of_coordinator(from, call, group, request);
        }
    }

    /// Gives a client's request to the coordinator of its group, as it is.
    pub(super) fn asked_of_coordinator(&mut self, from: Endpoint, call: CallId, group: &str, request: GroupRequest) {
        let wall_ms = self.wall_ms();
        let key = self.journal_of(group);
        let Some((key, coordinator)) = key.and_then(|key| Some((key, self.coordinators.by_journal.get_mut(&key)?)))
        else {
            self.answer(from, call, Answer::Group(Err(GroupError::NotCoordinator)));
            return;
        };
        let leader_epoch = coordinator.leader_epoch;
        self.next_number += 1;
        let token = RequestToken(self.next_number);
        self.coordinators.waiting.insert(token, (from, call));
        let effects = coordinator.machine.handle(token, request, wall_ms);
        self.queue_for_groups(key, leader_epoch, effects);
    }

    /// Effects that come of others wait for those: appends reach the journal in the order of the effects.
    fn queue_for_groups(&mut self, key: ReplicaKey, leader_epoch: LeaderEpoch, effects: Vec<Effect>) {
        let effects = effects.into_iter().map(|effect| (key, leader_epoch, effect));
        self.coordinators.effects.extend(effects);
        if std::mem::replace(&mut self.coordinators.is_busy, true) {
            return;
        }
        while let Some((key, leader_epoch, effect)) = self.coordinators.effects.pop_front() {
            match effect {
                Effect::Reply { token, response } => {
                    if let Some((from, call)) = self.coordinators.waiting.remove(&token) {
                        self.answer(from, call, Answer::Group(Ok(response)));
                    }
                }
                Effect::Append { token, records } => {
                    let outcome = self.append_to_journal(key, leader_epoch, token, &records);
                    if let Some(coordinator) = self.coordinators.by_journal.get_mut(&key)
                        && coordinator.leader_epoch == leader_epoch
                        && let Some(outcome) = outcome
                        && let Some(known) = coordinator.uncommitted.iter_mut().find(|(other, _)| *other == token)
                    {
                        known.1 = Some(outcome);
                    }
                    self.tell_groups(key);
                }
            }
        }
        self.coordinators.is_busy = false;
    }

    fn append_to_journal(
        &mut self,
        key: ReplicaKey,
        leader_epoch: LeaderEpoch,
        token: AppendToken,
        records: &[JournalRecord],
    ) -> Option<Result<(), JournalError>> {
        let wall_ms = self.wall_ms();
        let coordinator = self.coordinators.by_journal.get_mut(&key)?;
        coordinator.uncommitted.push_back((token, None));
        let mut batch = BatchBuilder::new(BatchOptions::default());
        for record in records {
            batch.append(wall_ms, Some(&record.key), record.value.as_deref(), &[]);
        }
        let replica = self.replicas.get_mut(&key)?;
        match replica.partition.append(batch.build_validated(), Acks::All, Some(leader_epoch), wall_ms) {
            Ok((appended, effects)) => {
                self.carry_out(key, effects);
                self.wait_for_journal(key, leader_epoch, appended.required_offset, JournalWait::Append(token))
            }
            Err(AppendError::NotEnoughReplicas { .. }) => Some(Err(JournalError::NotEnoughReplicas)),
            Err(AppendError::Leadership(_)) => Some(Err(JournalError::NotLeader)),
            Err(_) => {
                self.check_log(key);
                Some(Err(JournalError::Storage))
            }
        }
    }
}

/// What a coordinator makes of the end of a wait.
fn journalled(outcome: ProduceOutcome) -> Result<(), JournalError> {
    match outcome {
        // In the latter case too it is committed; what comes next is refused.
        ProduceOutcome::Committed | ProduceOutcome::NotEnoughReplicasAfterAppend => Ok(()),
        ProduceOutcome::NotLeader => Err(JournalError::NotLeader),
        ProduceOutcome::StorageFailed => Err(JournalError::Storage),
    }
}
