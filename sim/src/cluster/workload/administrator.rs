// SPDX-License-Identifier: Apache-2.0
//! An administrator: makes the topics of a run, and then, if the run is to have that, changes things all the time.

use std::collections::{BTreeMap, VecDeque};

use odradek_metadata::{
    AlterReassignments, AlterSettings, Command, CordonBroker, CreatePartitions, CreateTopics, DeleteTopics,
    ElectLeaders, ElectionKind, MorePartitions, NewTopic, Reassignment, Reply, ResourceChanges, SettingOperation,
    SettingsResource, TopicReference, UnregisterBroker,
};
use odradek_model::{BrokerId, OFFSETS_TOPIC, TopicId};
use odradek_replication::ReplicaKey;
use uuid::Uuid;

use super::{ClientOut, Knowledge, Noted};
use crate::cluster::message::{Answer, CallId, PartitionSeen, Request};

/// Topics that come and go have this before their names.
const PASSING: &str = "passing";
/// The topic whose partitions have one replica each.
pub(in crate::cluster) const SOLE: &str = "sole";
/// No more of them at once.
const PASSING_MAX: usize = 3;

/// Names and values.
type Settings = Vec<(String, Option<String>)>;

/// What it is to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::cluster) struct Plan {
    /// Topics to make: name, replicas, settings.
    pub(in crate::cluster) topics: Vec<(String, i16, Settings)>,
    pub(in crate::cluster) partitions: i32,
    pub(in crate::cluster) replicas: i16,
    /// Shortest and longest pause between two changes.
    pub(in crate::cluster) pause_ms: (u64, u64),
    /// Whether it does little but move leaders.
    pub(in crate::cluster) moves_leaders: bool,
    /// How many brokers there will be.
    pub(in crate::cluster) brokers: usize,
}

/// How far a broker is on its way out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(in crate::cluster) enum Exodus {
    /// It is to get nothing new.
    Cordon,
    /// Replicas are moved away.
    Moving,
    /// It has none any more; whoever runs it stops it.
    Empty,
    /// It has stopped, and is to be unregistered.
    Stopped,
    Unregistered,
}

#[derive(Clone, Copy, Debug)]
struct Leaving {
    broker: i32,
    exodus: Exodus,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Asked {
    Topic(usize),
    Change(&'static str),
}

/// See the module.
#[derive(Debug)]
pub(in crate::cluster) struct Administrator {
    plan: Plan,
    knowledge: Knowledge,
    made: Vec<bool>,
    asked: BTreeMap<CallId, Asked>,
    /// What follows the present command at once.
    queued: VecDeque<(Command, &'static str)>,
    next_change: u64,
    names: u32,
    /// The broker that is to leave.
    leaving: Option<Leaving>,
    /// Whether it changes things.
    pub(in crate::cluster) changes: bool,
    decided: Vec<&'static str>,
}

impl Administrator {
    pub(in crate::cluster) fn new(client: usize, plan: Plan, seed: u64) -> Self {
        Self {
            made: vec![false; plan.topics.len()],
            plan,
            knowledge: Knowledge::with_journals(client, seed),
            asked: BTreeMap::new(),
            queued: VecDeque::new(),
            next_change: 0,
            names: 0,
            leaving: None,
            changes: false,
            decided: Vec::new(),
        }
    }

    /// Whether the topics of the run are there.
    pub(in crate::cluster) fn has_made_all(&self) -> bool {
        self.made.iter().all(|made| *made)
    }

    /// The broker is to leave.
    pub(in crate::cluster) fn let_leave(&mut self, broker: i32) {
        self.leaving.get_or_insert(Leaving { broker, exodus: Exodus::Cordon });
    }

    /// How far the broker that is to leave has come.
    pub(in crate::cluster) fn exodus(&self) -> Option<Exodus> {
        self.leaving.map(|leaving| leaving.exodus)
    }

    /// The broker that is to leave has replicas after all.
    pub(in crate::cluster) fn has_more(&mut self) {
        if let Some(leaving) = &mut self.leaving {
            leaving.exodus = Exodus::Moving;
        }
    }

    /// The broker that is to leave has stopped.
    pub(in crate::cluster) fn has_stopped(&mut self) {
        if let Some(leaving) = &mut self.leaving {
            leaving.exodus = leaving.exodus.max(Exodus::Stopped);
        }
    }

    /// It changes nothing any more.
    pub(in crate::cluster) fn end(&mut self) {
        self.changes = false;
        self.queued.clear();
    }

    /// The changes that were decided since the last question.
    pub(in crate::cluster) fn take_decided(&mut self) -> Vec<&'static str> {
        std::mem::take(&mut self.decided)
    }

    fn topic_id(&mut self) -> TopicId {
        let (high, low) = (self.knowledge.random.number(), self.knowledge.random.number());
        TopicId(Uuid::from_u128((u128::from(high) << 64) | u128::from(low | 1)))
    }

    fn new_topic(&mut self, name: String, partitions: i32, replication_factor: i16, settings: Settings) -> Command {
        let id = self.topic_id();
        let topic = NewTopic { name, id, partitions, replication_factor, assignments: Vec::new(), settings };
        let placement_seed = self.knowledge.random.number();
        Command::CreateTopics(CreateTopics { topics: vec![topic], validate_only: false, placement_seed })
    }

    fn ask(&mut self, brokers: usize, command: Command, asked: Asked, outs: &mut Vec<ClientOut>) {
        let to = self.knowledge.random.between(0, brokers as u64 - 1) as usize;
        let call = self.knowledge.call(to, Request::Admin(command), outs);
        self.asked.insert(call, asked);
    }

    pub(super) fn wake(&mut self, now: u64, brokers: usize) -> Vec<ClientOut> {
        let mut outs = Vec::new();
        self.knowledge.refresh(now, brokers, &mut outs);
        if self.asked.is_empty() {
            if let Some(place) = self.made.iter().position(|made| !made) {
                let (name, replicas, settings) = self.plan.topics[place].clone();
                let command = self.new_topic(name, self.plan.partitions, replicas, settings);
                self.ask(brokers, command, Asked::Topic(place), &mut outs);
            } else if let Some((command, what)) = self.queued.pop_front().filter(|_| self.changes) {
                self.ask(brokers, command, Asked::Change(what), &mut outs);
            } else if self.changes && now >= self.next_change {
                let (low, high) = self.plan.pause_ms;
                self.next_change = now + self.knowledge.random.between(low, high);
                self.change(brokers, &mut outs);
            }
        }
        outs.push(ClientOut::Wake(if self.queued.is_empty() { 100 } else { 10 }));
        outs
    }

    fn change(&mut self, brokers: usize, outs: &mut Vec<ClientOut>) {
        let known = &self.knowledge.partitions;
        if known.is_empty() {
            return;
        }
        let place = self.knowledge.random.number() as usize % known.len();
        let (key, seen): (ReplicaKey, _) =
            known.iter().nth(place).map(|(key, seen)| (*key, seen.clone())).expect("one");
        let passing = known.values().filter(|seen| seen.topic.starts_with(PASSING) && seen.key.partition == 0);
        let passing: Vec<_> = passing.map(|seen| (seen.topic.to_string(), seen.key.topic)).collect();
        let partitions = known.keys().filter(|other| other.topic == key.topic).count();
        let topic = seen.topic.to_string();
        let choice = self.knowledge.random.between(0, 9);
        if self.knowledge.random.per_mille(700) && self.go_on_leaving(brokers, outs) {
            return;
        }
        if self.plan.moves_leaders && topic != SOLE && self.knowledge.random.per_mille(400) {
            self.flip(&topic, key.partition, seen.leader);
            return;
        }
        let choice = if self.plan.moves_leaders && choice < 4 { choice + 4 } else { choice };
        match choice {
            0 | 1 if passing.len() < PASSING_MAX => {
                // A name may come again.
                self.names += 1;
                let replicas = self.plan.replicas;
                let command = self.new_topic(format!("{PASSING}-{}", self.names % 5), 1, replicas, Vec::new());
                self.ask(brokers, command, Asked::Change("create topic"), outs);
            }
            0..=2 if !passing.is_empty() => {
                let (_, id) = passing[self.knowledge.random.number() as usize % passing.len()];
                outs.push(ClientOut::Noted(Noted::Deletes(id)));
                let command = DeleteTopics { topics: vec![TopicReference::Id(id)] };
                self.ask(brokers, Command::DeleteTopics(command), Asked::Change("delete topic"), outs);
            }
            // Groups find their journal by the number of partitions.
            3 if partitions < 4 && topic != OFFSETS_TOPIC => {
                let more = MorePartitions { topic, count: partitions as i32 + 1, assignments: None };
                let placement_seed = self.knowledge.random.number();
                let command = CreatePartitions { topics: vec![more], validate_only: false, placement_seed };
                self.ask(brokers, Command::CreatePartitions(command), Asked::Change("create partitions"), outs);
            }
            4 | 5 => {
                let command = ElectLeaders { kind: ElectionKind::Preferred, partitions: None };
                self.ask(brokers, Command::ElectLeaders(command), Asked::Change("elect leaders"), outs);
            }
            // Every replica is told again what was decided of its partition, which is not new.
            6 => {
                let value = self.knowledge.random.between(900_000, 1_000_000).to_string();
                let changes = vec![("max.message.bytes".to_owned(), SettingOperation::Set(Some(value)))];
                let resources = vec![ResourceChanges { resource: SettingsResource::Topic(topic), changes }];
                let command = AlterSettings { resources, validate_only: false };
                self.ask(brokers, Command::AlterSettings(command), Asked::Change("settings"), outs);
            }
            _ => {
                let cancels = self.knowledge.random.per_mille(150);
                let count = if topic == SOLE { 1 } else { self.plan.replicas as usize };
                let replicas = (!cancels).then(|| self.some_brokers(count));
                let wish = Reassignment { topic, partition: key.partition, replicas };
                let command = AlterReassignments { reassignments: vec![wish], allow_replication_factor_change: true };
                self.ask(brokers, Command::AlterReassignments(command), Asked::Change("reassignment"), outs);
            }
        }
    }

    /// The next step of the broker that is to leave; false if there is none for now.
    fn go_on_leaving(&mut self, brokers: usize, outs: &mut Vec<ClientOut>) -> bool {
        let Some(Leaving { broker, exodus }) = self.leaving else { return false };
        match exodus {
            Exodus::Cordon => {
                let command = CordonBroker { broker_id: BrokerId(broker), cordoned: true };
                self.ask(brokers, Command::CordonBroker(command), Asked::Change("cordon"), outs);
            }
            Exodus::Moving => {
                let has = |seen: &&PartitionSeen| seen.replicas.contains(&BrokerId(broker));
                let Some(seen) = self.knowledge.partitions.values().find(has).cloned() else {
                    self.leaving = Some(Leaving { broker, exodus: Exodus::Empty });
                    return false;
                };
                let count = if seen.topic.as_str() == SOLE { 1 } else { self.plan.replicas as usize };
                let (topic, replicas) = (seen.topic.to_string(), Some(self.some_brokers(count)));
                let wish = Reassignment { topic, partition: seen.key.partition, replicas };
                let command = AlterReassignments { reassignments: vec![wish], allow_replication_factor_change: true };
                self.ask(brokers, Command::AlterReassignments(command), Asked::Change("reassignment"), outs);
            }
            Exodus::Stopped => {
                let command = UnregisterBroker { broker_id: BrokerId(broker) };
                self.ask(brokers, Command::UnregisterBroker(command), Asked::Change("unregister"), outs);
            }
            Exodus::Empty | Exodus::Unregistered => return false,
        }
        true
    }

    /// Moves a partition's leader to another replica and back, so soon that some brokers hear of both at once. Every
    /// broker has a replica in runs that have this.
    fn flip(&mut self, topic: &str, partition: i32, leader: Option<BrokerId>) {
        let mut order = self.some_brokers(self.plan.replicas as usize);
        if let Some(leader) = leader {
            order.sort_by_key(|broker| *broker == leader.0);
        }
        for _ in 0..2 {
            let wish = Reassignment { topic: topic.to_owned(), partition, replicas: Some(order.clone()) };
            let command = AlterReassignments { reassignments: vec![wish], allow_replication_factor_change: true };
            self.queued.push_back((Command::AlterReassignments(command), "reassignment"));
            let (kind, partitions) = (ElectionKind::Preferred, Some(vec![(topic.to_owned(), partition)]));
            self.queued.push_back((Command::ElectLeaders(ElectLeaders { kind, partitions }), "flip"));
            let last = order.len() - 1;
            order.swap(0, last);
        }
    }

    /// So many, in any order.
    fn some_brokers(&mut self, count: usize) -> Vec<i32> {
        let leaving = self.leaving.map(|leaving| leaving.broker);
        let mut left: Vec<i32> = (0..self.plan.brokers as i32).filter(|id| Some(*id) != leaving).collect();
        let mut chosen = Vec::new();
        while chosen.len() < count && !left.is_empty() {
            let place = self.knowledge.random.number() as usize % left.len();
            chosen.push(left.swap_remove(place));
        }
        chosen
    }

    pub(super) fn returned(&mut self, call: CallId, answer: Answer) -> Vec<ClientOut> {
        match answer {
            Answer::Metadata(seen) => {
                self.knowledge.answered(call, seen);
            }
            Answer::Admin(reply) => match (self.asked.remove(&call), reply) {
                (Some(Asked::Topic(place)), Some(Reply::CreateTopics(outcomes))) => {
                    use odradek_metadata::CreateTopicError::AlreadyExists;
                    // Too few brokers are there yet, or it is there since an answer was lost.
                    self.made[place] = matches!(&outcomes[0].1, Ok(_) | Err(AlreadyExists(_)));
                }
                (Some(Asked::Change(what)), Some(reply)) if has_succeeded(&reply) => {
                    if let Some(leaving) = &mut self.leaving {
                        match what {
                            "cordon" => leaving.exodus = Exodus::Moving,
                            "unregister" => leaving.exodus = Exodus::Unregistered,
                            _ => {}
                        }
                    }
                    self.decided.push(what);
                }
                _ => {}
            },
            other => unreachable!("{other:?}"),
        }
        Vec::new()
    }

    pub(super) fn failed(&mut self, call: CallId) {
        if !self.knowledge.failed(call) {
            self.asked.remove(&call);
        }
    }
}

fn has_succeeded(reply: &Reply) -> bool {
    match reply {
        Reply::CreateTopics(outcomes) => outcomes.iter().all(|(_, outcome)| outcome.is_ok()),
        Reply::DeleteTopics(outcomes) => outcomes.iter().all(|(_, outcome)| outcome.is_ok()),
        Reply::CreatePartitions(outcomes) => outcomes.iter().all(|(_, outcome)| outcome.is_ok()),
        Reply::ElectLeaders(outcomes) => outcomes.iter().any(|(_, outcome)| outcome.is_ok()),
        Reply::BrokerState(outcome) => outcome.is_ok(),
        Reply::AlterSettings(outcomes) => outcomes.iter().all(|(_, outcome)| outcome.is_ok()),
        Reply::AlterReassignments(outcomes) => outcomes.iter().all(Result::is_ok),
        _ => false,
    }
}
