// SPDX-License-Identifier: Apache-2.0
//! Any order of events: no panic, the state whole after each, every request answered once, the journal makes the state
//! again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use odradek_model::TopicId;
use proptest::prelude::*;

use crate::coordinator::GroupCoordinator;
use crate::messages::*;
use crate::{AppendError, GroupSettings};

/// Few groups, members and topics, so that events meet.
#[derive(Clone, Debug)]
enum Event {
    Join { group: u8, member: u8, instance: u8, protocols: u8, old_client: bool },
    Sync { group: u8, member: u8, generation: i8 },
    Heartbeat { group: u8, member: u8, generation: i8 },
    Leave { group: u8, member: u8, instance: u8 },
    Commit { group: u8, member: u8, generation: i8, topic: u8, retention: bool },
    Fetch { group: u8, stable: bool },
    Pass { ms: u32 },
    Answer { ok: bool },
    DeleteTopic { topic: u8 },
    Rewrite,
}

fn event() -> impl Strategy<Value = Event> {
    let group = 0..2u8;
    prop_oneof![
        6 => (group.clone(), 0..6u8, 0..4u8, 0..4u8, any::<bool>()).prop_map(
            |(group, member, instance, protocols, old_client)| Event::Join { group, member, instance, protocols, old_client }
        ),
        4 => (group.clone(), 0..6u8, -1..2i8)
            .prop_map(|(group, member, generation)| Event::Sync { group, member, generation }),
        2 => (group.clone(), 0..6u8, -1..2i8)
            .prop_map(|(group, member, generation)| Event::Heartbeat { group, member, generation }),
        2 => (group.clone(), 0..6u8, 0..4u8)
            .prop_map(|(group, member, instance)| Event::Leave { group, member, instance }),
        3 => (group.clone(), 0..6u8, -2..2i8, 0..2u8, any::<bool>()).prop_map(
            |(group, member, generation, topic, retention)| Event::Commit { group, member, generation, topic, retention }
        ),
        1 => (group, any::<bool>()).prop_map(|(group, stable)| Event::Fetch { group, stable }),
        4 => prop_oneof![0..4_000u32, 0..40_000u32, 0..800_000_000u32].prop_map(|ms| Event::Pass { ms }),
        8 => prop::bool::weighted(0.8).prop_map(|ok| Event::Answer { ok }),
        1 => (0..2u8).prop_map(|topic| Event::DeleteTopic { topic }),
        1 => Just(Event::Rewrite),
    ]
}

struct World {
    coordinator: GroupCoordinator,
    now: i64,
    tokens: u64,
    answers: BTreeMap<u64, u32>,
    waiting: VecDeque<(AppendToken, Vec<JournalRecord>)>,
    journal: Vec<JournalRecord>,
    /// Member ids that were given out, and the newest generation of each group.
    members: Vec<Arc<str>>,
    generations: [i32; 2],
}

impl World {
    fn new() -> Self {
        let settings = GroupSettings { max_size: 4, ..GroupSettings::default() };
        let mut coordinator = GroupCoordinator::new(settings);
        coordinator.loaded(0);
        Self {
            coordinator,
            now: 0,
            tokens: 0,
            answers: BTreeMap::new(),
            waiting: VecDeque::new(),
            journal: Vec::new(),
            members: vec![Arc::from("")],
            generations: [0; 2],
        }
    }

    fn request(&mut self, group: u8, request: Request) {
        self.tokens += 1;
        self.answers.insert(self.tokens, 0);
        let effects = self.coordinator.handle(RequestToken(self.tokens), request, self.now);
        self.take(effects);
        if let Some(found) = self.coordinator.groups().find(|g| *g.group_id == *name(group)) {
            self.generations[group as usize] = found.generation;
        }
    }

    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Reply { token, response } => {
                    *self.answers.get_mut(&token.0).expect("a request of ours") += 1;
                    if let Response::Join(response) = response
                        && !self.members.contains(&response.member_id)
                    {
                        self.members.push(response.member_id);
                    }
                }
                Effect::Append { token, records } => {
                    assert!(!records.is_empty());
                    self.waiting.push_back((token, records));
                }
            }
        }
    }

    fn answer(&mut self, ok: bool) {
        let Some((token, records)) = self.waiting.pop_front() else { return };
        let outcome = if ok { Ok(()) } else { Err(AppendError::TimedOut) };
        if ok {
            self.journal.extend(records);
        }
        let effects = self.coordinator.appended(token, outcome, self.now);
        self.take(effects);
    }

    fn member(&self, index: u8) -> Arc<str> {
        // The newest ids are the interesting ones.
        let back = index as usize % self.members.len();
        if index == 0 {
            Arc::from("")
        } else {
            Arc::clone(&self.members[self.members.len() - 1 - back.min(self.members.len() - 1)])
        }
    }

    fn step(&mut self, event: &Event) {
        let instance = |i: u8| (i > 1).then(|| Arc::from(format!("i{i}")));
        match event.clone() {
            Event::Join { group, member, instance: i, protocols, old_client } => {
                let names: &[&str] = [&["range"][..], &["sticky", "range"], &["sticky"], &[]][protocols as usize];
                let protocols =
                    names.iter().map(|name| Protocol { name: Arc::from(*name), metadata: Bytes::from_static(&[0, 0]) });
                let request = JoinGroup {
                    group_id: name(group),
                    member_id: self.member(member),
                    group_instance_id: instance(i),
                    session_timeout_ms: 10_000,
                    rebalance_timeout_ms: 20_000,
                    protocol_type: Arc::from("consumer"),
                    protocols: protocols.collect(),
                    client_id: Arc::from("c"),
                    client_host: Arc::from("/h"),
                    requires_known_member_id: !old_client,
                    supports_skipping_assignment: !old_client,
                    new_member_suffix: Arc::from(self.tokens.to_string()),
                };
                self.request(group, Request::Join(request));
            }
            Event::Sync { group, member, generation } => {
                let assignments = self.members.iter().map(|id| (Arc::clone(id), Bytes::from(id.to_string()))).collect();
                let request = SyncGroup {
                    group_id: name(group),
                    generation_id: self.generations[group as usize] + i32::from(generation.min(0)),
                    member_id: self.member(member),
                    group_instance_id: None,
                    protocol_type: None,
                    protocol_name: None,
                    assignments,
                };
                self.request(group, Request::Sync(request));
            }
            Event::Heartbeat { group, member, generation } => {
                let request = Heartbeat {
                    group_id: name(group),
                    generation_id: self.generations[group as usize] + i32::from(generation.min(0)),
                    member_id: self.member(member),
                    group_instance_id: None,
                };
                self.request(group, Request::Heartbeat(request));
            }
            Event::Leave { group, member, instance: i } => {
                let member = MemberIdentity { member_id: self.member(member), group_instance_id: instance(i) };
                self.request(group, Request::Leave(LeaveGroup { group_id: name(group), members: vec![member] }));
            }
            Event::Commit { group, member, generation, topic, retention } => {
                let simple = generation == -2;
                let request = OffsetCommit {
                    group_id: name(group),
                    generation_id: if simple {
                        -1
                    } else {
                        self.generations[group as usize] + i32::from(generation.min(0))
                    },
                    member_id: if simple { Arc::from("") } else { self.member(member) },
                    group_instance_id: None,
                    retention_time_ms: if retention { 50_000 } else { -1 },
                    knows_group_id_not_found: true,
                    topics: vec![TopicCommit {
                        topic: Arc::from(format!("t{topic}")),
                        topic_id: TopicId::ZERO,
                        partitions: vec![PartitionCommit {
                            partition: 0,
                            offset: self.now,
                            leader_epoch: 1,
                            metadata: None,
                        }],
                    }],
                };
                self.request(group, Request::Commit(request));
            }
            Event::Fetch { group, stable } => {
                let request = OffsetFetch { group_id: name(group), topics: None, require_stable: stable };
                self.request(group, Request::Fetch(request));
            }
            Event::Pass { ms } => {
                self.now += i64::from(ms);
                let effects = self.coordinator.tick(self.now);
                self.take(effects);
                assert!(self.coordinator.next_deadline().is_some_and(|next| next > self.now));
            }
            Event::Answer { ok } => self.answer(ok),
            Event::DeleteTopic { topic } => {
                let topic = format!("t{topic}");
                let effects = self.coordinator.topics_deleted(&[(&topic, TopicId::ZERO)], self.now);
                self.take(effects);
            }
            Event::Rewrite => {
                if let Some(effect) = self.coordinator.rewrite() {
                    self.take(vec![effect]);
                }
            }
        }
        self.coordinator.check();
    }
}

fn name(group: u8) -> Arc<str> {
    Arc::from(format!("g{group}"))
}

fn replayed(journal: &[JournalRecord], now: i64) -> GroupCoordinator {
    let mut coordinator = GroupCoordinator::new(GroupSettings::default());
    for record in journal {
        coordinator.replay(&record.key, record.value.as_deref(), now).expect("our own records");
    }
    coordinator.loaded(now);
    coordinator
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_events_keeps_the_state_and_the_journal_whole(events in prop::collection::vec(event(), 1..80)) {
        let mut world = World::new();
        for event in &events {
            world.step(event);
        }
        // What is committed is what the journal says, whatever is still on its way.
        if !world.coordinator.has_corrections() {
            prop_assert_eq!(replayed(&world.journal, world.now).committed_records(), world.coordinator.committed_records());
        }
        while !world.waiting.is_empty() {
            world.answer(true);
        }
        if world.coordinator.has_corrections() {
            world.step(&Event::Pass { ms: 600_000 });
            while !world.waiting.is_empty() {
                world.answer(true);
            }
        }
        let again = replayed(&world.journal, world.now);
        again.check();
        prop_assert_eq!(again.committed_records(), world.coordinator.committed_records());
        prop_assert_eq!(again.offset_count(), world.coordinator.offset_count());
        let effects = world.coordinator.unload();
        world.take(effects);
        prop_assert!(world.answers.values().all(|count| *count == 1), "{:?}", world.answers);
    }

    #[test]
    fn random_bytes_are_never_more_than_an_error(key in prop::collection::vec(any::<u8>(), 0..40), value in prop::collection::vec(any::<u8>(), 0..80)) {
        let mut coordinator = GroupCoordinator::new(GroupSettings::default());
        let _ = coordinator.replay(&key, Some(&value), 0);
        // With a proper key the value's decoder is reached too.
        for kind in [1, 2] {
            let mut key = vec![0, kind, 0, 1, b'g'];
            if kind == 1 {
                key.extend_from_slice(&[0, 1, b't', 0, 0, 0, 0]);
            }
            for version in 0..5 {
                let mut value = value.clone();
                value.splice(0..0, [0, version]);
                let _ = coordinator.replay(&key, Some(&value), 0);
            }
        }
        coordinator.loaded(0);
    }
}
