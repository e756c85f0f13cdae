// SPDX-License-Identifier: Apache-2.0
//! Fetchers over replicas that answer as told, in made-up time.

use std::collections::{BTreeMap, BTreeSet};

use odradek_model::{BrokerId, TopicId};
use odradek_partition::{AskNumber, FetchPlan, FollowerStep, MonotonicTime, OffsetsPlan};
use uuid::Uuid;

use crate::{Ask, FetchSettings, Fetcher, FetcherId, Lane, Next, Outcome, ReplicaKey, Throttle};

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
        Self { fetcher, says, stepped: BTreeSet::new(), number: 0, now, request_bytes: 0, wait_ms: 0 }
    }

    fn next(&mut self) -> Next {
        self.ask(false)
    }

    fn ask(&mut self, of_newcomers: bool) -> Next {
        self.stepped.clear();
        let Self { fetcher, says, stepped, number, now, .. } = self;
        let step = |key: ReplicaKey| {
            stepped.insert(key);
            *number += 1;
            let fetch = |leader| FetchPlan {
                number: AskNumber(*number),
                leader,
                leader_epoch: 1,
                fetch_offset: 0,
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
            Next::Ask { fetches, wait_ms, request_bytes, .. } => {
                (self.wait_ms, self.request_bytes) = (wait_ms, request_bytes);
                fetches
            }
            Next::Wait(_) => Vec::new(),
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
    let Next::Ask { fetches: beside, wait_ms, .. } = world.ask(true) else { panic!("there is one") };
    assert_eq!((beside.len(), beside[0].key, wait_ms), (1, key(1, 2), 100));
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
    let Next::Ask { offsets, fetches, .. } = world.next() else { panic!("there is something to ask") };
    assert_eq!((offsets.len(), offsets[0].key, fetches.len()), (1, key(1, 1), 2));
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
            Next::Ask { fetches, request_bytes, .. } => {
                assert_eq!(request_bytes as u64, rate, "not more than a second's");
                for ask in fetches {
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
