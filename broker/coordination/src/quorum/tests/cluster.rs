// SPDX-License-Identifier: Apache-2.0
//! A few members, a network and a Lease on which every delay is fixed, so that a test can count the milliseconds of a
//! hand-over. Nothing is lost here; random histories are in `sim/`.

use std::collections::{BTreeMap, BTreeSet};

use odradek_model::BrokerId;

use super::storage::TestStorage;
use super::{holder, view, voter};
use crate::quorum::{Effect, Input, KnownBroker, Message, QuorumMember, QuorumSettings, QuorumStorage};
use crate::{Holder, LeaseView, WriteOutcome};

/// A message's way to the peer, and that of a refusal back.
pub(super) const MESSAGE_MS: u64 = 1;
/// From a question to the Lease to its answer.
pub(super) const LEASE_MS: u64 = 10;
/// Events of a second; far more are a storm.
const MAX_EVENTS_IN_A_MS: usize = 200;

#[derive(Debug)]
enum Event {
    Input(i32, Input),
    Deliver(Message, i32),
    /// The call's effect comes to the Lease.
    AtLease(i32, Effect),
    Probe(i32, i32),
}

/// See the module.
pub(super) struct Cluster {
    pub(super) now: u64,
    members: BTreeMap<i32, QuorumMember<TestStorage>>,
    pub(super) lease: Option<LeaseView>,
    /// Whether changes of the Lease are told to all, after as long as a call takes.
    watch: bool,
    queue: BTreeMap<(u64, u64), Event>,
    next_event: u64,
    /// Brokers that were told to stop and have nothing more to hand over.
    pub(super) resigned: BTreeSet<i32>,
    /// What happened, for the message of a test that fails.
    story: Vec<String>,
}

impl Cluster {
    /// Brokers 1 to `n`, all of them voters where policy wants so many, with a controller that leads.
    pub(super) fn new(n: i32, watch: bool) -> Self {
        let mut cluster = Self {
            now: 1_000_000,
            members: BTreeMap::new(),
            lease: Some(view(0, 0, None, &[])),
            watch,
            queue: BTreeMap::new(),
            next_event: 0,
            resigned: BTreeSet::new(),
            story: Vec::new(),
        };
        for id in 1..=n {
            cluster.start(id, n, TestStorage::default(), 0);
        }
        cluster.pass(20_000);
        let voters = cluster.lease.as_ref().map_or(0, |view| view.voters.len());
        assert_eq!(voters, n as usize, "all become voters: {}", cluster.story());
        cluster.story.clear();
        cluster
    }

    /// Starts a process whose image is loaded after so long.
    pub(super) fn start(&mut self, id: i32, brokers: i32, storage: TestStorage, loading_ms: u64) {
        let me = Holder { incarnation: format!("since-{}", self.now), ..holder(id) };
        let member = QuorumMember::new(QuorumSettings::default(), me, voter(id), storage, id as u64);
        self.members.insert(id, member);
        let known = (1..=brokers)
            .map(|id| KnownBroker { broker_id: BrokerId(id), rack: None, registered_folder: None })
            .collect();
        self.schedule(0, Event::Input(id, Input::Brokers(known)));
        self.schedule(loading_ms, Event::Input(id, Input::ImageLoaded));
    }

    /// Ends a process: the connections of the others to it are reset, for broker i after `notice_ms(i)`.
    pub(super) fn kill(&mut self, id: i32, notice_ms: impl Fn(i32) -> u64) -> TestStorage {
        let member = self.members.remove(&id).expect("it runs");
        self.queue.retain(|_, event| !matches!(event, Event::Input(to, _) if *to == id));
        for other in self.members.keys().copied().collect::<Vec<_>>() {
            self.schedule(notice_ms(other), Event::Input(other, Input::ConnectionLost(BrokerId(id))));
        }
        member.storage().clone()
    }

    pub(super) fn give(&mut self, id: i32, input: Input) {
        let Some(member) = self.members.get_mut(&id) else { return };
        if !matches!(input, Input::Tick | Input::Brokers(_)) {
            self.story.push(format!("{} {id} <- {input:?}", self.now));
        }
        for effect in member.handle(self.now, input) {
            match effect {
                Effect::Send(to, message) => self.schedule(MESSAGE_MS, Event::Deliver(message, to.0)),
                Effect::Probe(broker) => self.schedule(MESSAGE_MS, Event::Probe(id, broker.0)),
                Effect::ReadLease(_) | Effect::WriteLease { .. } => {
                    self.schedule(LEASE_MS / 2, Event::AtLease(id, effect));
                }
                Effect::Resigned => {
                    self.resigned.insert(id);
                }
                Effect::Stop(reason) => panic!("{id} stopped: {reason}\n{}", self.story()),
                Effect::Committed(_) | Effect::Leading { .. } | Effect::SteppedDown(_) | Effect::ReloadImage => {
                    self.story.push(format!("{} {id} {effect:?}", self.now));
                }
            }
        }
    }

    fn schedule(&mut self, after_ms: u64, event: Event) {
        self.next_event += 1;
        self.queue.insert((self.now + after_ms, self.next_event), event);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Input(id, input) => self.give(id, input),
            Event::Deliver(message, to) if self.members.contains_key(&to) => self.give(to, Input::Received(message)),
            Event::Deliver(message, to) => {
                let lost = Input::ConnectionLost(BrokerId(to));
                self.schedule(MESSAGE_MS, Event::Input(message.sender.broker_id.0, lost));
            }
            Event::Probe(from, to) => {
                let reached = self.members.contains_key(&to);
                self.schedule(MESSAGE_MS, Event::Input(from, Input::Probed(BrokerId(to), reached)));
            }
            Event::AtLease(id, effect) => self.at_lease(id, effect),
        }
    }

    fn at_lease(&mut self, id: i32, effect: Effect) {
        let input = match effect {
            Effect::ReadLease(call) => Input::LeaseRead(call, Ok(self.lease.clone())),
            Effect::WriteLease { call, base, change } => {
                let outcome = if self.lease == base {
                    let sequence = base.as_ref().map_or(0, |base| base.sequence + 1);
                    let uid = base.map_or_else(|| format!("life since {}", self.now), |base| base.uid);
                    let written = LeaseView {
                        uid,
                        holder: change.holder,
                        voters: change.voters,
                        ..view(change.epoch, sequence, None, &[])
                    };
                    self.lease = Some(written.clone());
                    for other in self.members.keys().copied().collect::<Vec<_>>() {
                        if self.watch {
                            self.schedule(LEASE_MS / 2, Event::Input(other, Input::LeaseSeen(written.clone())));
                        }
                    }
                    WriteOutcome::Written(written)
                } else {
                    WriteOutcome::Refused
                };
                Input::LeaseWritten(call, Ok(outcome))
            }
            other => unreachable!("no call of the Lease: {other:?}"),
        };
        self.schedule(LEASE_MS / 2, Event::Input(id, input));
    }

    /// Lets time pass until the condition holds, at most so long; how long it took.
    pub(super) fn until(&mut self, ms: u64, holds: impl Fn(&Self) -> bool) -> Option<u64> {
        let begun = self.now;
        for now in begun..=begun + ms {
            self.now = now;
            let mut events = 0;
            loop {
                let due = self.members.iter().find(|(_, member)| member.wake_at() <= now).map(|(id, _)| *id);
                if let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= now) {
                    let event = entry.remove();
                    self.happen(event);
                } else if let Some(id) = due {
                    self.give(id, Input::Tick);
                } else {
                    break;
                }
                events += 1;
                assert!(events < MAX_EVENTS_IN_A_MS, "a storm: {}", self.story());
            }
            if holds(self) {
                return Some(now - begun);
            }
        }
        None
    }

    pub(super) fn pass(&mut self, ms: u64) {
        self.until(ms, |_| false);
    }

    pub(super) fn leader(&self) -> Option<i32> {
        self.members.iter().find(|(_, member)| member.status().leads).map(|(id, _)| *id)
    }

    pub(super) fn member(&self, id: i32) -> &QuorumMember<TestStorage> {
        &self.members[&id]
    }

    /// How long until another than `before` leads and has its voters say so.
    pub(super) fn until_another_leads(&mut self, before: i32) -> u64 {
        let other = |cluster: &Self| cluster.leader().is_some_and(|id| id != before);
        let Some(ms) = self.until(60_000, other) else { panic!("nobody leads: {}", self.story()) };
        ms
    }

    /// Whether every member that runs knows the same end to be committed, and it is that of its log.
    pub(super) fn agrees(&self) -> bool {
        let ends = self.members.values().map(|member| (member.status().commit_end, member.storage().position().end));
        ends.map(|(committed, end)| (committed, end, committed == end)).collect::<BTreeSet<_>>().len() == 1
    }

    pub(super) fn story(&self) -> String {
        let from = self.story.len().saturating_sub(120);
        self.story[from..].join("\n")
    }
}
