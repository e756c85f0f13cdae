// SPDX-License-Identifier: Apache-2.0
//! Fetchers over replicas that answer as told, in made-up time.

use std::collections::{BTreeMap, BTreeSet};

use odradek_model::{BrokerId, TopicId};
use odradek_partition::{AskNumber, FetchPlan, FollowerStep, MonotonicTime, OffsetsPlan};
use uuid::Uuid;

use crate::{
    Ask, Fetch, FetchSettings, Fetcher, FetcherId, Lane, Next, Outcome, ReplicaKey, SessionAnswer, SessionStep,
    Throttle,
};

pub(crate) fn key(topic: u128, partition: i32) -> ReplicaKey {
    ReplicaKey { topic: TopicId(Uuid::from_u128(topic)), partition }
}

const LEADER: BrokerId = BrokerId(2);

/// What a replica says when it is asked for its step.
#[derive(Clone, Copy)]
enum Says {
    Fetch,
    Offsets,
    AwaitFlush,
    Nothing,
    /// It follows somebody else.
    Elsewhere,
}

struct World {
    fetcher: Fetcher,
    says: BTreeMap<ReplicaKey, Says>,
    stepped: BTreeSet<ReplicaKey>,
    number: u64,
    /// Where logs end.
    ends: BTreeMap<ReplicaKey, i64>,
    now: MonotonicTime,
    request_bytes: usize,
    wait_ms: i64,
}

impl World {
    fn new(partitions: i32, throttle: Option<u64>) -> Self {
        let lane = if throttle.is_some() { Lane::Reassignment } else { Lane::Ordinary(0) };
        let now = MonotonicTime(1_000);
        let throttle = throttle.map(|rate| Throttle::new(rate, now));
        let mut fetcher = Fetcher::new(FetcherId { leader: LEADER, lane }, FetchSettings::default(), throttle);
        let mut says = BTreeMap::new();
        for partition in 0..partitions {
            fetcher.add(key(1, partition));
            says.insert(key(1, partition), Says::Fetch);
        }
        Self {
            fetcher,
            says,
            stepped: BTreeSet::new(),
            number: 0,
            ends: BTreeMap::new(),
            now,
            request_bytes: 0,
            wait_ms: 0,
        }
    }

    fn next(&mut self) -> Next {
        self.ask(false)
    }

    fn ask(&mut self, of_newcomers: bool) -> Next {
        self.stepped.clear();
        let Self { fetcher, says, stepped, number, ends, now, .. } = self;
        let step = |key: ReplicaKey| {
            stepped.insert(key);
            *number += 1;
            let fetch = |leader| FetchPlan {
                number: AskNumber(*number),
                leader,
                leader_epoch: 1,
                fetch_offset: ends.get(&key).copied().unwrap_or(0),
                last_fetched_epoch: None,
                log_start_offset: 0,
            };
            match says[&key] {
                Says::Fetch => FollowerStep::Fetch(fetch(LEADER)),
                Says::Elsewhere => FollowerStep::Fetch(fetch(BrokerId(9))),
                Says::Offsets => FollowerStep::AskOffsets(OffsetsPlan {
                    number: AskNumber(*number),
                    leader: LEADER,
                    leader_epoch: 1,
                }),
                Says::AwaitFlush => FollowerStep::AwaitFlush,
                Says::Nothing => FollowerStep::Nothing,
            }
        };
        if of_newcomers { fetcher.next_of_newcomers(*now, step) } else { fetcher.next(*now, step) }
    }

    /// The fetches of the next request.
    fn fetches(&mut self) -> Vec<Ask<FetchPlan>> {
        match self.next() {
            Next::Ask { fetch: Some(fetch), .. } => {
                (self.wait_ms, self.request_bytes) = (fetch.wait_ms, fetch.request_bytes);
                fetch.named
            }
            Next::Ask { fetch: None, .. } | Next::Wait(_) => Vec::new(),
        }
    }

    /// The partitions of the next request, in its order.
    fn asked(&mut self) -> Vec<i32> {
        self.fetches().iter().map(|ask| ask.key.partition).collect()
    }

    fn answer(&mut self, ask: &Ask<FetchPlan>, outcome: Outcome) {
        self.fetcher.answered(ask.key, ask.plan.number, outcome, self.now);
    }

    fn wait(&mut self) -> Option<MonotonicTime> {
        match self.next() {
            Next::Wait(until) => until,
            asks @ Next::Ask { .. } => panic!("there is something to send: {asks:?}"),
        }
    }
}

#[test]
fn who_got_records_comes_last_in_the_next_request() {
    let mut world = World::new(4, None);
    let asks = world.fetches();
    assert_eq!(asks.iter().map(|ask| ask.key.partition).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!((world.wait_ms, world.request_bytes), (500, 10 << 20));
    world.answer(&asks[0], Outcome::Taken { bytes: 1 << 20 });
    world.answer(&asks[1], Outcome::Taken { bytes: 0 });
    world.answer(&asks[2], Outcome::Taken { bytes: 5 });
    world.answer(&asks[3], Outcome::Taken { bytes: 0 });
    assert_eq!(world.asked(), [1, 3, 0, 2]);
}

#[test]
fn an_error_delays_its_partition_alone_and_new_metadata_ends_the_delay() {
    let mut world = World::new(3, None);
    let asks = world.fetches();
    world.answer(&asks[0], Outcome::Failed { bytes: 0 });
    world.answer(&asks[1], Outcome::Failed { bytes: 0 });
    world.answer(&asks[2], Outcome::Taken { bytes: 0 });
    world.now = MonotonicTime(1_300);
    assert_eq!(world.asked(), [2]);
    assert_eq!(world.stepped, BTreeSet::from([key(1, 2)]), "a step is not wasted on who is not asked for");
    world.fetcher.add(key(1, 0));
    assert_eq!(world.asked(), [0, 2]);
    world.now = MonotonicTime(1_999);
    assert_eq!(world.asked(), [0, 2]);
    assert_eq!(world.wait_ms, 1, "the request ends when the delayed one is due");
    world.now = MonotonicTime(2_000);
    assert_eq!(world.asked(), [0, 1, 2]);
}

#[test]
fn when_the_leader_is_gone_nothing_is_sent_before_the_delay_is_over() {
    let mut world = World::new(2, None);
    for ask in world.fetches() {
        world.answer(&ask, Outcome::Failed { bytes: 0 });
    }
    assert_eq!(world.wait(), Some(MonotonicTime(2_000)));
    assert!(world.stepped.is_empty());
    world.fetcher.remove(key(1, 0));
    world.fetcher.remove(key(1, 1));
    assert!(world.fetcher.is_empty());
    assert_eq!(world.wait(), None);
}

#[test]
fn a_late_answer_changes_nothing() {
    let mut world = World::new(1, None);
    let first = world.fetches();
    // The caller gave that request up; or the metadata changed meanwhile.
    let second = world.fetches();
    assert_ne!(first[0].plan.number, second[0].plan.number);
    world.answer(&first[0], Outcome::Failed { bytes: 0 });
    world.answer(&second[0], Outcome::Taken { bytes: 0 });
    let third = world.fetches();
    world.fetcher.add(key(1, 0));
    world.answer(&third[0], Outcome::Failed { bytes: 0 });
    assert_eq!(world.asked(), [0], "it was taken in anew after the question");
    world.fetcher.remove(key(1, 0));
    world.answer(&third[0], Outcome::Taken { bytes: 7 });
    assert!(world.fetcher.is_empty());
}

#[test]
fn newcomers_do_not_wait_with_a_request_on_its_way() {
    let mut world = World::new(2, None);
    let first = world.fetches();
    assert_eq!(world.ask(true), Next::Wait(None), "there are none");
    world.says.insert(key(1, 2), Says::Fetch);
    world.fetcher.add(key(1, 2));
    let Next::Ask { fetch: Some(Fetch { session, named: beside, wait_ms, .. }), .. } = world.ask(true) else {
        panic!("there is one")
    };
    assert_eq!((beside.len(), beside[0].key, wait_ms), (1, key(1, 2), 100));
    assert_eq!(session, SessionStep::NONE);
    assert_eq!(world.ask(true), Next::Wait(None), "it is asked for");
    // The first request ends: the next one takes the newcomer over, and the answer to the other is late.
    for ask in first {
        world.answer(&ask, Outcome::Taken { bytes: 0 });
    }
    let all = world.fetches();
    assert_eq!(all.len(), 3);
    world.answer(&beside[0], Outcome::Failed { bytes: 0 });
    world.answer(&all[2], Outcome::Taken { bytes: 0 });
    assert_eq!(world.asked(), [0, 1, 2]);
}

#[test]
fn a_throttled_fetcher_has_no_second_connection() {
    let mut world = World::new(1, Some(1 << 20));
    assert_eq!(world.ask(true), Next::Wait(None));
    assert_eq!(world.asked(), [0]);
}

#[test]
fn who_waits_for_its_disk_is_left_out_and_shortens_the_wait_of_others() {
    let mut world = World::new(2, None);
    world.says.insert(key(1, 1), Says::AwaitFlush);
    assert_eq!(world.asked(), [0]);
    assert_eq!(world.wait_ms, 10);
    world.says.insert(key(1, 1), Says::Fetch);
    assert_eq!(world.asked(), [0], "it is not asked before it is ready");
    world.fetcher.ready(key(1, 1));
    assert_eq!(world.asked(), [0, 1]);
    assert_eq!(world.wait_ms, 500);
}

#[test]
fn being_ready_ends_no_delay() {
    let mut world = World::new(1, None);
    let ask = world.fetches()[0];
    world.answer(&ask, Outcome::Failed { bytes: 0 });
    world.fetcher.ready(key(1, 0));
    assert_eq!(world.wait(), Some(MonotonicTime(2_000)));
}

#[test]
fn offsets_are_asked_for_beside_the_fetch() {
    let mut world = World::new(3, None);
    world.says.insert(key(1, 1), Says::Offsets);
    let Next::Ask { offsets, fetch: Some(fetch) } = world.next() else { panic!("there is something to ask") };
    assert_eq!((offsets.len(), offsets[0].key, fetch.named.len()), (1, key(1, 1), 2));
    world.fetcher.answered(key(1, 1), offsets[0].plan.number, Outcome::Taken { bytes: 0 }, world.now);
    world.says.insert(key(1, 1), Says::Fetch);
    assert_eq!(world.asked(), [0, 1, 2]);
}

#[test]
fn who_has_nothing_to_ask_waits_for_metadata() {
    let mut world = World::new(2, None);
    world.says.insert(key(1, 0), Says::Nothing);
    world.says.insert(key(1, 1), Says::Elsewhere);
    assert_eq!(world.wait(), None);
    world.says.insert(key(1, 0), Says::Fetch);
    assert_eq!(world.wait(), None);
    assert!(world.stepped.is_empty());
    world.fetcher.add(key(1, 0));
    assert_eq!(world.asked(), [0]);
}

#[test]
fn a_paused_fetcher_asks_nothing() {
    let mut world = World::new(1, None);
    world.fetcher.pause(true);
    assert_eq!(world.wait(), None);
    world.fetcher.pause(false);
    assert_eq!(world.asked(), [0]);
}

#[test]
fn a_throttled_fetcher_keeps_its_rate() {
    let rate = 1 << 20;
    let mut world = World::new(2, Some(rate));
    let (begin, mut bytes) = (world.now, 0);
    while world.now.0 < begin.0 + 60_000 {
        match world.next() {
            Next::Wait(until) => {
                let until = until.expect("the debt ends");
                assert!(until > world.now);
                world.now = until;
            }
            Next::Ask { fetch, .. } => {
                let fetch = fetch.expect("records are asked for");
                assert_eq!(fetch.request_bytes as u64, rate, "not more than a second's");
                for ask in fetch.named {
                    // The first batch may be larger than what was asked for.
                    world.answer(&ask, Outcome::Taken { bytes: 900_000 });
                    bytes += 900_000;
                }
            }
        }
    }
    let most = rate * 61 + 2 * 900_000;
    assert!((rate * 58..most).contains(&bytes), "{bytes}");
    world.fetcher.set_throttle(None, world.now);
    assert_eq!(world.asked().len(), 2);
    assert_eq!(world.request_bytes, 10 << 20);
}

// === sessions ===

impl World {
    fn fetch(&mut self) -> Fetch {
        match self.next() {
            Next::Ask { fetch: Some(fetch), .. } => fetch,
            other => panic!("there is something to fetch: {other:?}"),
        }
    }

    /// What an answer with records does.
    fn records(&mut self, partition: i32) {
        let ask = self.fetcher.question(key(1, partition)).expect("it is asked for");
        *self.ends.entry(ask.key).or_default() += 1;
        self.answer(&ask, Outcome::Taken { bytes: 10 });
    }

    /// A session in which all partitions have been named and answered without records.
    fn in_session(partitions: i32, id: i32) -> Self {
        let mut world = Self::new(partitions, None);
        let first = world.fetch();
        assert_eq!((first.session, first.named.len()), (SessionStep { id: 0, epoch: 0 }, partitions as usize));
        for ask in &first.named {
            world.answer(ask, Outcome::Taken { bytes: 0 });
        }
        world.fetcher.session_answered(SessionAnswer::Continues(id));
        world
    }
}

fn named(fetch: &Fetch) -> Vec<i32> {
    fetch.named.iter().map(|ask| ask.key.partition).collect()
}

fn forgotten(fetch: &Fetch) -> Vec<i32> {
    fetch.forgotten.iter().map(|key| key.partition).collect()
}

#[test]
fn a_session_names_those_alone_whose_question_has_changed() {
    let mut world = World::in_session(4, 7);
    let second = world.fetch();
    assert_eq!((second.session, named(&second)), (SessionStep { id: 7, epoch: 1 }, vec![]));
    // The answer names one with records and one whose high watermark alone has moved.
    world.records(2);
    let moved = world.fetcher.question(key(1, 0)).expect("it is asked for");
    world.answer(&moved, Outcome::Taken { bytes: 0 });
    world.fetcher.session_answered(SessionAnswer::Continues(7));
    let third = world.fetch();
    assert_eq!((third.session.epoch, named(&third), forgotten(&third)), (2, vec![2], vec![]));
    assert_eq!(world.stepped, BTreeSet::from([key(1, 0), key(1, 2)]), "the questions of the others stand");
    assert_ne!(world.fetcher.question(key(1, 0)).expect("asked").plan.number, moved.plan.number);
    // An answer without any news.
    world.fetcher.session_answered(SessionAnswer::Continues(7));
    assert_eq!(world.fetch().session.epoch, 3);
    assert!(world.stepped.is_empty());
}

#[test]
fn who_may_not_ask_leaves_the_session_and_comes_back_as_new() {
    let mut world = World::in_session(3, 7);
    world.fetch();
    let failed = world.fetcher.question(key(1, 0)).expect("it is asked for");
    world.answer(&failed, Outcome::Failed { bytes: 0 });
    world.says.insert(key(1, 1), Says::AwaitFlush);
    world.records(1);
    world.fetcher.session_answered(SessionAnswer::Continues(7));
    let next = world.fetch();
    assert_eq!((next.session.epoch, named(&next), forgotten(&next)), (2, vec![], vec![0, 1]));
    world.fetcher.session_answered(SessionAnswer::Continues(7));
    world.says.insert(key(1, 1), Says::Fetch);
    world.fetcher.ready(key(1, 1));
    world.now = MonotonicTime(2_000);
    let back = world.fetch();
    assert_eq!((back.session.epoch, named(&back), forgotten(&back)), (3, vec![0, 1], vec![]));
    // One that is followed no more.
    world.fetcher.session_answered(SessionAnswer::Continues(7));
    world.fetcher.remove(key(1, 2));
    let without = world.fetch();
    assert_eq!((without.session.epoch, named(&without), forgotten(&without)), (4, vec![], vec![2]));
}

#[test]
fn who_leaves_and_comes_back_at_once_begins_the_session_anew() {
    type Event = fn(&mut World);
    let events: [Event; 3] = [
        // An error, and metadata that end its back-off.
        |world| {
            let ask = world.fetcher.question(key(1, 0)).expect("it is asked for");
            world.answer(&ask, Outcome::Failed { bytes: 0 });
            world.fetcher.add(key(1, 0));
        },
        // An answer that came too late for its replica.
        |world| {
            let ask = world.fetcher.question(key(1, 0)).expect("it is asked for");
            world.answer(&ask, Outcome::Void { bytes: 0 });
        },
        // Another leader's for a moment.
        |world| {
            world.fetcher.remove(key(1, 0));
            world.fetcher.add(key(1, 0));
        },
    ];
    for event in events {
        let mut world = World::in_session(2, 7);
        world.fetch();
        event(&mut world);
        world.fetcher.session_answered(SessionAnswer::Continues(7));
        let anew = world.fetch();
        assert_eq!(anew.session, SessionStep { id: 7, epoch: 0 }, "the old one is ended");
        assert_eq!((anew.named.len(), forgotten(&anew)), (2, vec![]));
    }
}

#[test]
fn a_session_that_the_leader_does_not_know_is_begun_anew_at_once() {
    let anew = |answer| {
        let mut world = World::in_session(2, 7);
        world.fetch();
        world.fetcher.session_answered(answer);
        let fetch = world.fetch();
        assert_eq!(named(&fetch), [0, 1], "{answer:?}");
        fetch.session
    };
    assert_eq!(anew(SessionAnswer::NotFound), SessionStep { id: 0, epoch: 0 });
    assert_eq!(anew(SessionAnswer::Refused), SessionStep { id: 7, epoch: 0 });
    // The leader has closed it, or speaks of another.
    assert_eq!(anew(SessionAnswer::Continues(0)), SessionStep { id: 0, epoch: 0 });
    assert_eq!(anew(SessionAnswer::Continues(8)), SessionStep { id: 0, epoch: 0 });
}

#[test]
fn a_request_without_an_answer_delays_all_that_it_asked() {
    let mut world = World::in_session(2, 7);
    world.fetch();
    world.fetcher.failed(world.now);
    assert_eq!(world.wait(), Some(MonotonicTime(2_000)));
    world.now = MonotonicTime(2_000);
    let anew = world.fetch();
    assert_eq!((anew.session, named(&anew)), (SessionStep { id: 7, epoch: 0 }, vec![0, 1]));
}

#[test]
fn what_nobody_took_in_is_told_again() {
    let mut world = World::in_session(2, 7);
    world.fetch();
    // Metadata come, and the second connection asks anew: the answer on the first is for a question that is gone.
    world.fetcher.add(key(1, 0));
    assert!(matches!(world.ask(true), Next::Ask { .. }));
    let gone = world.fetcher.question(key(1, 0)).expect("the session asks it");
    assert!(!world.fetcher.awaits(&gone));
    world.answer(&gone, Outcome::Void { bytes: 0 });
    world.fetcher.session_answered(SessionAnswer::Continues(7));
    assert_eq!(world.fetch().session, SessionStep { id: 7, epoch: 0 });
    // Where the answer did not name it the session goes on, and its question is alike.
    let mut world = World::in_session(2, 7);
    world.fetch();
    world.fetcher.add(key(1, 0));
    assert!(matches!(world.ask(true), Next::Ask { .. }));
    world.fetcher.session_answered(SessionAnswer::Continues(7));
    let next = world.fetch();
    assert_eq!((next.session.epoch, named(&next)), (2, vec![]));
    assert!(world.fetcher.question(key(1, 0)).is_some());
}

#[test]
fn a_caller_who_says_nothing_of_sessions_names_all_each_time() {
    let mut world = World::new(2, None);
    for _ in 0..3 {
        let fetch = world.fetch();
        assert_eq!((fetch.session, named(&fetch)), (SessionStep { id: 0, epoch: 0 }, vec![0, 1]));
        world.answer(&fetch.named[0], Outcome::Taken { bytes: 0 });
    }
}
