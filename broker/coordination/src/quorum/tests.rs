// SPDX-License-Identifier: Apache-2.0
//! One member in single situations, each named for the rule that it shows. Random histories are in `sim/`.

mod cluster;
mod fallen_lease;
mod handing_over;
mod outcomes;
mod storage;
mod taking;
mod wiped_voter;

use odradek_model::{BrokerId, ClusterId, DirectoryId};
use storage::TestStorage;
use uuid::Uuid;

use super::*;
use crate::{Holder, LeaseChange, LeaseView, Voter, WriteOutcome};

fn voter(id: i32) -> Voter {
    Voter { broker_id: BrokerId(id), directory_id: DirectoryId(Uuid::from_u128(id as u128)) }
}

fn holder(id: i32) -> Holder {
    Holder { broker_id: BrokerId(id), incarnation: "now".into() }
}

fn promise(epoch: i64, id: i32) -> Promise {
    Promise { epoch, holder: Some(holder(id)) }
}

fn view(epoch: i64, sequence: i64, by: Option<i32>, voters: &[i32]) -> LeaseView {
    LeaseView {
        uid: "life".into(),
        epoch,
        sequence,
        holder: by.map(holder),
        voters: voters.iter().map(|id| voter(*id)).collect(),
        cluster_id: ClusterId::new("c").expect("an id"),
        version: format!("{epoch}-{sequence}"),
    }
}

fn at(epoch: i64, end: i64) -> LogPosition {
    LogPosition { epoch, end }
}

/// Broker 1 among brokers 1 to `brokers`, and what it does.
struct Bench {
    member: QuorumMember<TestStorage>,
    now: u64,
    effects: Vec<Effect>,
}

impl Bench {
    fn new(brokers: i32, storage: TestStorage) -> Self {
        let member = QuorumMember::new(QuorumSettings::default(), holder(1), voter(1), storage, 7);
        let mut bench = Self { member, now: 1_000_000, effects: Vec::new() };
        let known = (1..=brokers)
            .map(|id| KnownBroker { broker_id: BrokerId(id), rack: None, registered_folder: None })
            .collect();
        bench.give(Input::Brokers(known));
        bench.give(Input::ImageLoaded);
        bench
    }

    fn give(&mut self, input: Input) -> &mut Self {
        let effects = self.member.handle(self.now, input);
        self.effects.extend(effects);
        self
    }

    /// Lets time pass, with every wake-up.
    fn pass(&mut self, ms: u64) -> &mut Self {
        let until = self.now + ms;
        while self.member.wake_at() <= until {
            self.now = self.now.max(self.member.wake_at());
            self.give(Input::Tick);
        }
        self.now = until;
        self.give(Input::Tick)
    }

    fn hear(&mut self, from: i32, request: RequestId, body: MessageBody) -> &mut Self {
        let message = Message { sender: holder(from), directory_id: voter(from).directory_id, request, body };
        self.give(Input::Received(message))
    }

    fn drain(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// What was sent to the broker since the last look, newest last.
    fn sent(&self, to: i32) -> Vec<(RequestId, MessageBody)> {
        let messages = self.effects.iter().filter_map(|effect| match effect {
            Effect::Send(id, message) if id.0 == to => Some((message.request, message.body.clone())),
            _ => None,
        });
        messages.collect()
    }

    fn last_write(&self) -> Option<(LeaseCall, Option<LeaseView>, LeaseChange)> {
        self.effects.iter().rev().find_map(|effect| match effect {
            Effect::WriteLease { call, base, change } => Some((*call, base.clone(), change.clone())),
            _ => None,
        })
    }

    /// Answers the reads of the Lease that wait.
    fn lease_is(&mut self, found: Option<&LeaseView>) -> &mut Self {
        let reads = self.effects.iter().filter_map(|effect| match effect {
            Effect::ReadLease(call) => Some(*call),
            _ => None,
        });
        let reads: Vec<_> = reads.collect();
        self.effects.retain(|effect| !matches!(effect, Effect::ReadLease(_)));
        for call in reads {
            self.give(Input::LeaseRead(call, Ok(found.cloned())));
        }
        self
    }

    /// The last write lands.
    fn land(&mut self, sequence: i64) -> LeaseView {
        let (call, _, change) = self.last_write().expect("a write");
        let ids: Vec<_> = change.voters.iter().map(|voter| voter.broker_id.0).collect();
        let by = change.holder.map(|holder| holder.broker_id.0);
        let view = view(change.epoch, sequence, by, &ids);
        self.effects.clear();
        self.give(Input::LeaseWritten(call, Ok(WriteOutcome::Written(view.clone()))));
        view
    }

    /// Takes a free Lease of these voters; they say nothing yet.
    fn take(brokers: i32, voters: &[i32], storage: TestStorage) -> Self {
        let mut bench = Self::new(brokers, storage);
        bench.lease_is(Some(&view(3, 5, None, voters)));
        bench.pass(600);
        bench.lease_is(Some(&view(3, 5, None, voters)));
        bench.land(6);
        bench
    }

    fn grant(&mut self, from: i32, position: LogPosition) -> &mut Self {
        let answer = PromiseAnswer { epoch: 4, granted: true, promised: promise(4, 1), position };
        self.hear(from, 0, MessageBody::Promised(answer))
    }

    fn acknowledge(&mut self, from: i32, position: LogPosition) -> &mut Self {
        self.fetch(from, promise(4, 1), position)
    }

    fn fetch(&mut self, from: i32, accepted: Promise, position: LogPosition) -> &mut Self {
        let fetch = FetchRequest { purpose: FetchPurpose::Follow, accepted, position, commit_end: 0 };
        self.hear(from, 9, MessageBody::Fetch(fetch))
    }

    fn role(&self) -> (MemberRole, bool) {
        let status = self.member.status();
        (status.role, status.leads)
    }
}

const CONTROLLER: (MemberRole, bool) = (MemberRole::Controller, false);
const LEADS: (MemberRole, bool) = (MemberRole::Controller, true);
const CANDIDATE: (MemberRole, bool) = (MemberRole::Candidate, false);
const FOLLOWER: (MemberRole, bool) = (MemberRole::Follower, false);

#[test]
fn a_sole_broker_leads_after_one_read_and_one_write() {
    let mut bench = Bench::new(1, TestStorage::default());
    bench.lease_is(Some(&view(0, 0, None, &[])));
    let (_, base, change) = bench.last_write().expect("it takes at once");
    assert_eq!(base, Some(view(0, 0, None, &[])));
    assert_eq!(change, LeaseChange { epoch: 1, holder: Some(holder(1)), voters: vec![voter(1)] });
    bench.land(1);
    assert_eq!(bench.role(), LEADS);
    assert!(bench.drain().contains(&Effect::Committed(1)));
    let now = bench.now;
    let (end, effects) = bench.member.append(now, &[7][..]).expect("appends");
    assert_eq!((end, effects), (2, vec![Effect::Committed(2)]));
}

#[test]
fn rule_1_before_the_image_is_loaded_nothing_is_taken() {
    let member = QuorumMember::new(QuorumSettings::default(), holder(1), voter(1), TestStorage::default(), 7);
    let mut bench = Bench { member, now: 5, effects: Vec::new() };
    bench.give(Input::Brokers(vec![KnownBroker { broker_id: BrokerId(1), rack: None, registered_folder: None }]));
    bench.lease_is(Some(&view(0, 0, None, &[]))).pass(5_000);
    assert_eq!(bench.last_write(), None);
    bench.give(Input::ImageLoaded);
    assert!(bench.last_write().is_some());
}

#[test]
fn rule_3_a_candidate_catches_up_from_the_best_promise_and_cuts_its_own_tail() {
    let mut bench = Bench::take(3, &[1, 2, 3], TestStorage::with(promise(3, 2), &[1, 2, 2, 2]));
    bench.grant(2, at(3, 3));
    assert_eq!(bench.role(), CANDIDATE, "another is ahead");
    let tail = |bench: &Bench| match bench.sent(2).pop() {
        Some((request, MessageBody::Fetch(fetch))) => (request, fetch.purpose, fetch.position),
        other => panic!("{other:?}"),
    };
    let (request, purpose, position) = tail(&bench);
    assert_eq!((purpose, position), (FetchPurpose::CatchUp, at(2, 4)));
    let answer = |outcome| MessageBody::Fetched(FetchAnswer { controller: promise(4, 1), commit_end: 0, outcome });
    bench.hear(2, request, answer(FetchOutcome::Diverging(at(2, 2))));
    let (request, _, position) = tail(&bench);
    assert_eq!(position, at(2, 2));
    bench.hear(2, request, answer(FetchOutcome::Batches(vec![TestStorage::batch(3, 2, 1)])));
    assert_eq!(bench.role(), CONTROLLER);
    assert_eq!(bench.member.storage().position(), at(4, 4), "and its epoch record follows");
}

#[test]
fn rules_4_and_5_only_matching_acknowledgements_of_its_epoch_commit() {
    let mut bench = Bench::take(3, &[1, 2, 3], TestStorage::with(promise(3, 2), &[1, 2, 2]));
    bench.grant(2, at(2, 2));
    assert_eq!(bench.role(), CONTROLLER);
    let now = bench.now;
    assert!(matches!(bench.member.append(now, &[7][..]), Err(AppendError::NotController)), "not before rule 4");
    // Older records alone, another epoch, another holder, a position that does not match, somebody else's folder.
    bench.acknowledge(2, at(2, 3));
    bench.fetch(3, promise(3, 2), at(4, 4));
    bench.fetch(3, promise(4, 3), at(4, 4));
    bench.acknowledge(3, at(3, 4));
    let fetch =
        FetchRequest { purpose: FetchPurpose::Follow, accepted: promise(4, 1), position: at(4, 4), commit_end: 0 };
    let directory_id = voter(9).directory_id;
    let message = Message { sender: holder(3), directory_id, request: 1, body: MessageBody::Fetch(fetch) };
    bench.give(Input::Received(message));
    assert_eq!((bench.role(), bench.member.status().commit_end), (CONTROLLER, 0));
    bench.acknowledge(3, at(4, 4));
    assert_eq!((bench.role(), bench.member.status().commit_end), (LEADS, 4));
}

#[test]
fn rule_6_the_survivor_of_two_drops_the_dead_one_and_commits_alone() {
    let mut bench = Bench::take(2, &[1, 2], TestStorage::default());
    assert_eq!(bench.role(), CONTROLLER, "it waits for the other");
    bench.give(Input::ConnectionLost(BrokerId(2))).give(Input::Probed(BrokerId(2), false)).pass(300);
    assert_eq!(bench.last_write().expect("a change").2.voters, [voter(1)]);
    assert_eq!(bench.role(), CONTROLLER, "not before the Lease says so");
    bench.land(7);
    assert_eq!(bench.role(), LEADS);
}

#[test]
fn rule_8_a_higher_epoch_anywhere_ends_control_and_time_does_not() {
    let mut bench = Bench::take(1, &[1], TestStorage::default());
    for _ in 0..40 {
        bench.pass(2_000);
        if let Some((call, ..)) = bench.last_write() {
            bench.drain();
            bench.give(Input::LeaseWritten(call, Err("away".into())));
        }
    }
    assert_eq!(bench.role(), LEADS, "80 seconds without the API server");
    bench.drain();
    bench.give(Input::LeaseSeen(view(5, 9, Some(2), &[1, 2])));
    assert_eq!(bench.role(), FOLLOWER);
    assert!(bench.effects.contains(&Effect::SteppedDown(4)));
    let mut bench = Bench::take(1, &[1], TestStorage::default());
    bench.give(Input::LeaseSeen(view(3, 9, Some(2), &[1])));
    assert_eq!(bench.role(), LEADS, "an older view is ignored");
    bench.give(Input::LeaseSeen(view(4, 6, Some(99), &[1])));
    assert_eq!(bench.role(), FOLLOWER, "a stranger's hand in a view of the same sequence");
}

#[test]
fn hostile_batches_are_not_taken_and_a_contradiction_stops_the_process() {
    let mut bench = Bench::new(2, TestStorage::with(promise(3, 2), &[1, 2]));
    let answer = |bench: &mut Bench, commit_end, outcome| {
        let request = bench.sent(2).pop().expect("a fetch").0;
        bench.hear(2, request, MessageBody::Fetched(FetchAnswer { controller: promise(3, 2), commit_end, outcome }));
        bench.pass(300);
    };
    for bad in [
        TestStorage::batch(3, 1, 1),
        TestStorage::batch(3, 3, 1),
        TestStorage::batch(1, 2, 1),
        TestStorage::batch(4, 2, 1),
        TestStorage::batch(3, 2, 0),
    ] {
        answer(&mut bench, 9, FetchOutcome::Batches(vec![bad]));
        assert_eq!((bench.member.storage().position(), bench.member.status().commit_end), (at(2, 2), 0));
    }
    let huge = FetchOutcome::TakeSnapshot { position: at(3, 9), bytes: 1 << 40 };
    answer(&mut bench, 9, huge);
    assert!(bench.sent(2).iter().all(|(_, body)| matches!(body, MessageBody::Fetch(_) | MessageBody::AskStatus)));
    answer(&mut bench, 2, FetchOutcome::Batches(vec![]));
    assert_eq!(bench.member.status().commit_end, 2);
    answer(&mut bench, 2, FetchOutcome::Diverging(at(1, 1)));
    assert!(matches!(bench.effects.last(), Some(Effect::Stop(reason)) if reason.contains("committed")));
    assert_eq!(bench.member.storage().position(), at(2, 2), "and nothing is cut");
    bench.drain();
    bench.pass(10_000);
    assert_eq!(bench.drain(), [], "nothing follows");
}

#[test]
fn a_snapshot_of_other_records_than_were_committed_stops_the_process() {
    let mut bench = Bench::new(2, TestStorage::with(promise(3, 2), &[1, 2]));
    let mut answer = |commit_end, outcome| {
        let fetches = bench.sent(2).into_iter().filter(|(_, body)| matches!(body, MessageBody::Fetch(_)));
        let request = fetches.last().expect("a fetch").0;
        bench.hear(2, request, MessageBody::Fetched(FetchAnswer { controller: promise(3, 2), commit_end, outcome }));
        bench.pass(300);
        bench.effects.iter().any(|effect| matches!(effect, Effect::Stop(reason) if reason.contains("committed")))
    };
    assert!(!answer(2, FetchOutcome::Batches(vec![])), "now 2 are committed here");
    assert!(answer(2, FetchOutcome::TakeSnapshot { position: at(3, 2), bytes: 10 }));
    assert_eq!(bench.member.storage().position(), at(2, 2));
}
