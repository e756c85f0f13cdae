// SPDX-License-Identifier: Apache-2.0
//! A real fetcher against real sessions, with metadata, disks and a network that come in between at any moment: in the
//! end the follower has all records and knows every high watermark. What a leader has told once it does not tell again,
//! so an answer that nobody took in must not be the last.
use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use odradek_model::{BrokerId, TopicId};
use odradek_partition::{AskNumber, FetchPlan, FollowerStep};
use odradek_replication::{
    Ask, Fetch, FetchSettings, Fetcher, FetcherId, Lane, Next, Outcome, ReplicaKey, SessionAnswer, SessionStep,
};
use odradek_wire::Records;
use proptest::prelude::*;

use super::*;

const PARTITIONS: i32 = 4;

fn key(partition: i32) -> ReplicaKey {
    ReplicaKey { topic: TopicId(Uuid::from_u128(1)), partition }
}

/// What the leader has: end and high watermark.
#[derive(Clone, Copy, Default)]
struct Led {
    end: i64,
    high_watermark: i64,
}

/// What the follower has.
#[derive(Clone, Copy, Default)]
struct Replica {
    end: i64,
    high_watermark: i64,
    epoch: i32,
    asked: Option<FetchPlan>,
    waits_for_disk: bool,
    is_followed: bool,
    /// The metadata have been taken in, and the fetcher does not know yet.
    is_about_to_be_added: bool,
}

#[derive(Clone, Debug)]
enum Event {
    Append(i32),
    Commit(i32),
    Metadata(i32),
    MetadataInTwoSteps(i32),
    Block(i32),
    Ready(i32),
    Remove(i32),
    Add(i32),
    Send,
    Deliver,
    Lose,
    Newcomers,
    LeaderForgets,
    Time,
}

fn event() -> impl Strategy<Value = Event> {
    let at = 0..PARTITIONS;
    prop_oneof![
        4 => at.clone().prop_map(Event::Append),
        4 => at.clone().prop_map(Event::Commit),
        1 => at.clone().prop_map(Event::Metadata),
        1 => at.clone().prop_map(Event::MetadataInTwoSteps),
        1 => at.clone().prop_map(Event::Block),
        1 => at.clone().prop_map(Event::Ready),
        1 => at.clone().prop_map(Event::Remove),
        1 => at.prop_map(Event::Add),
        8 => Just(Event::Send),
        8 => Just(Event::Deliver),
        1 => Just(Event::Lose),
        2 => Just(Event::Newcomers),
        1 => Just(Event::LeaderForgets),
        1 => Just(Event::Time),
    ]
}

struct World {
    sessions: FetchSessions,
    led: BTreeMap<i32, Led>,
    replicas: BTreeMap<i32, Replica>,
    fetcher: Fetcher,
    next_number: u64,
    now: i64,
    /// Left in partitions that had nothing to read.
    wakers: Vec<(i32, Box<dyn FnOnce()>)>,
    /// A request on its way and its answer.
    under_way: Option<(Fetch, Result<Answered, ErrorCode>)>,
}

struct Answered {
    session_id: i32,
    partitions: Vec<(i32, PartitionData)>,
}

impl World {
    fn new() -> Self {
        let id = FetcherId { leader: BrokerId(1), lane: Lane::Ordinary(0) };
        let mut world = Self {
            sessions: FetchSessions::new(10, 30_000),
            led: (0..PARTITIONS).map(|partition| (partition, Led::default())).collect(),
            replicas: (0..PARTITIONS).map(|partition| (partition, Replica::default())).collect(),
            fetcher: Fetcher::new(id, FetchSettings::default(), None),
            next_number: 0,
            now: 0,
            wakers: Vec::new(),
            under_way: None,
        };
        for partition in 0..PARTITIONS {
            world.add(partition);
        }
        world
    }

    fn replica(&mut self, partition: i32) -> &mut Replica {
        self.replicas.get_mut(&partition).expect("there are so many")
    }

    fn add(&mut self, partition: i32) {
        let replica = self.replica(partition);
        (replica.is_followed, replica.is_about_to_be_added) = (true, false);
        self.fetcher.add(key(partition));
    }

    /// The metadata speak of a new epoch: whatever was asked is void.
    fn metadata(&mut self, partition: i32) {
        let replica = self.replica(partition);
        replica.epoch += 1;
        replica.asked = None;
    }

    fn next(&mut self, of_newcomers: bool) -> Option<Fetch> {
        let Self { fetcher, replicas, next_number, now, .. } = self;
        let step = |key: ReplicaKey| {
            let replica = replicas.get_mut(&key.partition).expect("there are so many");
            replica.asked = None;
            if replica.waits_for_disk {
                return FollowerStep::AwaitFlush;
            }
            *next_number += 1;
            let plan = FetchPlan {
                number: AskNumber(*next_number),
                leader: BrokerId(1),
                leader_epoch: replica.epoch,
                fetch_offset: replica.end,
                last_fetched_epoch: None,
                log_start_offset: 0,
            };
            replica.asked = Some(plan);
            FollowerStep::Fetch(plan)
        };
        let now = MonotonicTime(*now);
        let next = if of_newcomers { fetcher.next_of_newcomers(now, step) } else { fetcher.next(now, step) };
        match next {
            Next::Ask { fetch, .. } => fetch,
            Next::Wait(_) => None,
        }
    }

    /// What the leader makes of a request.
    fn ask(&mut self, fetch: &Fetch) -> Result<Answered, ErrorCode> {
        let topic_id = Uuid::from_u128(1);
        let partition = |ask: &Ask<FetchPlan>| FetchPartition {
            partition: ask.key.partition,
            current_leader_epoch: ask.plan.leader_epoch,
            fetch_offset: ask.plan.fetch_offset,
            partition_max_bytes: 100,
            ..FetchPartition::default()
        };
        let named = fetch.named.iter().map(partition).collect();
        let forgotten = fetch.forgotten.iter().map(|key| key.partition).collect();
        let request = FetchRequest {
            session_id: fetch.session.id,
            session_epoch: fetch.session.epoch,
            topics: vec![FetchTopic { topic_id, partitions: named, ..FetchTopic::default() }],
            forgotten_topics_data: vec![odradek_wire::messages::ForgottenTopic {
                topic_id,
                partitions: forgotten,
                ..odradek_wire::messages::ForgottenTopic::default()
            }],
            ..FetchRequest::default()
        };
        let now = MonotonicTime(self.now);
        let asked = SessionRequest { version: 17, request: &request, is_follower: true };
        let (requested, turn) = self.sessions.begin(&asked, now)?;
        let read = |requested: &Requested| {
            let led = self.led[&requested.partition];
            let has_records = requested.position.fetch_offset < led.end;
            PartitionData {
                partition_index: requested.partition,
                high_watermark: led.high_watermark,
                records: Some(if has_records { Bytes::from_static(b"record") } else { Bytes::new() }.into()),
                ..PartitionData::default()
            }
        };
        let data: Vec<PartitionData> = requested.iter().map(read).collect();
        // The request waits, or is answered before it does.
        if self.now % 3 != 0 && data.iter().all(|data| data.records.as_ref().is_none_or(Records::is_empty)) {
            for at in requested.iter().filter(|at| !turn.is_armed(at)) {
                if let Some(waker) = turn.waker(at) {
                    self.wakers.push((at.partition, Box::new(waker)));
                    turn.arm(at, ());
                }
            }
        }
        let mut number = self.now as u64 * 1_000;
        let random = || {
            number += 1;
            number
        };
        let ended = self.sessions.end(&turn, requested.iter().zip(&data), now, random);
        assert_eq!(ended.error, ErrorCode::None);
        let is_named = |place: usize| match &ended.named {
            Named::All => true,
            Named::These(these) => these[place],
            Named::None => false,
        };
        let all = data.into_iter().enumerate().filter(|(place, _)| is_named(*place));
        let partitions = all.map(|(_, data)| (data.partition_index, data)).collect();
        Ok(Answered { session_id: ended.session_id, partitions })
    }

    /// What a replica makes of an answer.
    fn take(&mut self, ask: &Ask<FetchPlan>, data: &PartitionData) -> Outcome {
        let bytes = data.records.as_ref().map_or(0, Records::len);
        let replica = self.replica(ask.key.partition);
        if replica.asked != Some(ask.plan) {
            return Outcome::Void { bytes };
        }
        replica.asked = None;
        replica.end += i64::from(bytes > 0);
        replica.high_watermark = replica.high_watermark.max(data.high_watermark.min(replica.end));
        Outcome::Taken { bytes }
    }

    /// As the fetcher's task does it.
    fn deliver(&mut self) {
        let Some((fetch, answer)) = self.under_way.take() else { return };
        let now = MonotonicTime(self.now);
        match answer {
            Err(ErrorCode::FetchSessionIdNotFound) => self.fetcher.session_answered(SessionAnswer::NotFound),
            Err(_) => self.fetcher.session_answered(SessionAnswer::Refused),
            Ok(answer) => {
                let asks: Vec<_> = answer.partitions.iter().map(|(at, _)| self.fetcher.question(key(*at))).collect();
                for (ask, (_, data)) in asks.into_iter().zip(&answer.partitions) {
                    let Some(ask) = ask else { continue };
                    let outcome = self.take(&ask, data);
                    self.fetcher.answered(ask.key, ask.plan.number, outcome, now);
                }
                assert!(!fetch.session.is_full() || answer.partitions.len() == fetch.named.len());
                self.fetcher.session_answered(SessionAnswer::Continues(answer.session_id));
            }
        }
        for partition in 0..PARTITIONS {
            if self.replica(partition).is_about_to_be_added {
                self.add(partition);
            }
        }
    }

    fn send(&mut self) {
        if self.under_way.is_none()
            && let Some(fetch) = self.next(false)
        {
            let answer = self.ask(&fetch);
            self.under_way = Some((fetch, answer));
        }
    }

    fn newcomers(&mut self) {
        if self.under_way.is_none() {
            return;
        }
        let Some(fetch) = self.next(true) else { return };
        assert_eq!(fetch.session, SessionStep::NONE);
        let answer = self.ask(&fetch).expect("it has no session");
        let asks: HashMap<i32, Ask<FetchPlan>> = fetch.named.iter().map(|ask| (ask.key.partition, *ask)).collect();
        for (partition, data) in &answer.partitions {
            let ask = asks[partition];
            let outcome = self.take(&ask, data);
            self.fetcher.answered(ask.key, ask.plan.number, outcome, MonotonicTime(self.now));
        }
    }

    fn happens(&mut self, event: &Event) {
        self.now += 1;
        match *event {
            Event::Append(at) => {
                self.led.get_mut(&at).expect("there").end += 1;
                let (woken, others) = std::mem::take(&mut self.wakers).into_iter().partition(|(whose, _)| *whose == at);
                self.wakers = others;
                let woken: Vec<(i32, Box<dyn FnOnce()>)> = woken;
                for (_, wake) in woken {
                    wake();
                }
            }
            Event::Commit(at) => {
                let led = self.led.get_mut(&at).expect("there");
                led.high_watermark = led.end;
            }
            Event::Metadata(at) if self.replica(at).is_followed => {
                self.metadata(at);
                self.add(at);
            }
            Event::MetadataInTwoSteps(at) if self.replica(at).is_followed && self.under_way.is_some() => {
                self.metadata(at);
                self.replica(at).is_about_to_be_added = true;
            }
            Event::Metadata(_) | Event::MetadataInTwoSteps(_) => {}
            Event::Block(at) => self.replica(at).waits_for_disk = true,
            Event::Ready(at) => {
                self.replica(at).waits_for_disk = false;
                self.fetcher.ready(key(at));
            }
            Event::Remove(at) => {
                let replica = self.replica(at);
                (replica.is_followed, replica.is_about_to_be_added, replica.asked) = (false, false, None);
                self.fetcher.remove(key(at));
            }
            Event::Add(at) => {
                self.metadata(at);
                self.add(at);
            }
            Event::Send => self.send(),
            Event::Deliver => self.deliver(),
            Event::Lose => {
                if self.under_way.take().is_some() {
                    self.fetcher.failed(MonotonicTime(self.now));
                }
            }
            Event::Newcomers => self.newcomers(),
            Event::LeaderForgets => self.sessions = FetchSessions::new(10, 30_000),
            Event::Time => self.now += 2_000,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]
    #[test]
    fn a_follower_hears_of_everything_whatever_comes_in_between(
        events in proptest::collection::vec(event(), 1..80),
    ) {
        let mut world = World::new();
        for event in &events {
            world.happens(event);
        }
        for partition in 0..PARTITIONS {
            world.happens(&Event::Ready(partition));
        }
        let most = world.led.values().map(|led| led.end).max().unwrap_or(0);
        for _ in 0..most + 6 {
            world.happens(&Event::Time);
            world.deliver();
            world.send();
        }
        for (partition, replica) in world.replicas.iter().filter(|(_, replica)| replica.is_followed) {
            let led = world.led[partition];
            prop_assert_eq!((replica.end, replica.high_watermark), (led.end, led.high_watermark), "{}", partition);
        }
        // And then there is nothing to say any more.
        world.deliver();
        let followed = world.replicas.values().filter(|replica| replica.is_followed).count();
        if followed > 0 {
            let fetch = world.next(false).expect("it goes on");
            prop_assert!(!fetch.session.is_full() && fetch.named.is_empty() && fetch.forgotten.is_empty());
        }
    }
}
