// SPDX-License-Identifier: Apache-2.0
//! One run: a cluster is made, things break, everything heals; then all must be there, everywhere, and go on.

use std::collections::BTreeMap;

use odradek_metadata::PartitionKey;
use odradek_model::OFFSETS_TOPIC;
use odradek_replication::ReplicaKey;

use super::faults::Faults;
use super::folder::log_folder;
use super::oracle::{Entry, Violation, entries_on_disk};
use super::profile::{Profile, RETENTION, RETENTION_BYTES};
use super::tally::{Happening, Tally};
use super::workload::{Administrator, Client, Committer, Consumer, Plan, Producer, ProducerKind, SOLE};
use super::world::World;

/// Until the cluster has a controller, its brokers and its topics.
const READY_WITHIN_MS: u64 = 20_000;
/// After healing, so long until every partition has its leader and all its replicas, and every producer its
/// acknowledgements: the longest session, Lease, back-off and replacement of a voter, one after another, with room.
const PROGRESS_WITHIN_MS: u64 = 90_000;
/// After healing records are still written for so long.
const PRODUCES_ON_MS: u64 = 1_500;
/// Events of a run; more are a storm.
const MAX_EVENTS: u64 = 3_000_000;

/// What became of a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// What went wrong.
    pub violation: Option<Violation>,
    /// Records acknowledged by all in sync.
    pub acknowledged: u64,
    /// Records read by consumers.
    pub read: u64,
    /// Events that happened.
    pub events: u64,
    /// Simulated time.
    pub time_ms: u64,
    /// After healing, so long until everything was whole.
    pub healed_ms: u64,
    /// A number for the whole history and for what is on the disks at its end.
    pub hash: u64,
    /// What happened how often.
    pub tally: Tally,
    /// The history, if wanted.
    pub story: Vec<String>,
}

/// Runs the seed's history; `tell` keeps it as text.
pub fn run(seed: u64, profile: &Profile, tell: bool) -> Outcome {
    let mut run = Run { world: World::new(seed, profile.clone(), tell), healed_ms: 0 };
    run.begin();
    if run.goes_on() {
        run.faults();
    }
    if run.goes_on() {
        run.heal();
    }
    let world = run.world;
    Outcome {
        violation: world.violation,
        acknowledged: world.oracle.records.acknowledged,
        read: world.oracle.records.read,
        events: world.events,
        time_ms: world.now,
        healed_ms: run.healed_ms,
        hash: world.hash,
        tally: world.tally,
        story: world.story.unwrap_or_default(),
    }
}

struct Run {
    world: World,
    healed_ms: u64,
}

impl Run {
    fn goes_on(&self) -> bool {
        self.world.violation.is_none()
    }

    /// Lets everything up to the time happen, or up to an event that calls for a reaction.
    fn until(&mut self, time: u64) {
        while self.goes_on() && self.world.next_time().is_some_and(|at| at <= time) {
            self.world.step();
            if !self.world.troubles.is_empty() {
                return;
            }
            if self.world.events > MAX_EVENTS {
                self.world.violation = Some(Violation(format!("a storm of {MAX_EVENTS} events")));
            }
        }
        self.world.now = self.world.now.max(time);
    }

    fn administrator(&mut self) -> &mut Administrator {
        self.world.administrator()
    }

    /// The cluster comes up and gets its topics; nothing breaks yet.
    fn begin(&mut self) {
        self.world.healed = true;
        for id in 0..self.world.profile.brokers {
            self.world.start(id);
        }
        let profile = self.world.profile.clone();
        let topics = (0..profile.topics).map(|topic| {
            let mut settings = vec![("min.insync.replicas".to_owned(), Some(profile.min_in_sync.to_string()))];
            if topic == 0 && profile.flushes {
                settings.push(("flush.messages".to_owned(), Some("1".to_owned())));
            }
            if topic == 1 && profile.retention {
                settings.push((RETENTION.to_owned(), Some(RETENTION_BYTES.to_string())));
            }
            (format!("topic-{topic}"), profile.replicas as i16, settings)
        });
        let needed = ("min.insync.replicas".to_owned(), Some(profile.min_in_sync.to_string()));
        let journal = (OFFSETS_TOPIC.to_owned(), profile.replicas as i16, vec![needed]);
        let sole = profile.sole.then(|| (SOLE.to_owned(), 1, Vec::new()));
        let plan = Plan {
            topics: topics.chain(sole).chain([journal]).collect(),
            partitions: 2,
            replicas: profile.replicas as i16,
            moves_leaders: profile.moves_leaders,
            pause_ms: profile.admin_ms,
            brokers: self.world.machines.len(),
        };
        let seed = self.world.random.number();
        self.world.add_client(Client::Administrator(Box::new(Administrator::new(0, plan, seed))));
        while self.goes_on() && !self.administrator().has_made_all() {
            let next = self.world.now + 50;
            self.until(next);
            if next > READY_WITHIN_MS {
                let states = self.states();
                self.world.violation = Some(Violation(format!("not ready within {READY_WITHIN_MS} ms: {states}")));
            }
        }
        let kinds = [ProducerKind::Idempotent, ProducerKind::Idempotent, ProducerKind::All, ProducerKind::Leader];
        for kind in kinds.into_iter().chain([ProducerKind::None]) {
            let (client, seed) = (self.world.clients.len(), self.world.random.number());
            self.world.add_client(Client::Producer(Box::new(Producer::new(client, kind, seed))));
        }
        for rack in 0..2 {
            let (client, seed) = (self.world.clients.len(), self.world.random.number());
            let rack = profile.racks.then_some(rack);
            self.world.add_client(Client::Consumer(Box::new(Consumer::new(client, rack, seed))));
        }
        for _ in 0..2 {
            let (client, seed) = (self.world.clients.len(), self.world.random.number());
            self.world.add_client(Client::Committer(Box::new(Committer::new(client, seed))));
        }
        self.world.healed = false;
    }

    fn faults(&mut self) {
        let mut faults = Faults::new(&mut self.world);
        self.administrator().changes = true;
        let end = self.world.now + self.world.profile.faults_ms;
        while self.goes_on() && self.world.now < end {
            let next = faults.next_time().min(end).max(self.world.now);
            self.until(next);
            faults.act(&mut self.world);
            for what in self.administrator().take_decided() {
                self.world.tell(|| format!("decided: {what}"));
                self.world.tally.note(Happening::AdminCommand);
                match what {
                    "reassignment" => self.world.tally.note(Happening::Reassignment),
                    "settings" => self.world.tally.note(Happening::SettingsAltered),
                    "flip" => self.world.tally.note(Happening::LeadersFlipped),
                    _ => {}
                }
            }
        }
        self.administrator().end();
        faults.heal(&mut self.world);
    }

    /// Everything must become whole and go on; then the disks are looked at.
    fn heal(&mut self) {
        let healed_at = self.world.now;
        while self.goes_on() {
            let next = self.world.now + 100;
            self.until(next);
            for (id, _) in std::mem::take(&mut self.world.troubles) {
                self.world.start(id);
            }
            let waited = self.world.now - healed_at;
            if waited > PRODUCES_ON_MS {
                for client in &mut self.world.clients {
                    match client {
                        Client::Producer(producer) => producer.produces = false,
                        Client::Committer(committer) => committer.commits = false,
                        Client::Consumer(_) | Client::Administrator(_) => {}
                    }
                }
                if self.what_is_missing().is_none() {
                    self.healed_ms = waited;
                    break;
                }
            }
            if waited > PROGRESS_WITHIN_MS {
                let missing = self.what_is_missing().unwrap_or_default();
                let states = self.states();
                let reason = format!("not whole {waited} ms after healing: {missing}\n{states}");
                self.world.violation = Some(Violation(reason));
            }
        }
        if self.goes_on() {
            self.check_disks();
        }
    }

    fn states(&self) -> String {
        let state = |(id, machine): (usize, &super::world::Machine)| match &machine.process {
            Some(process) => {
                let member = process.member();
                format!(
                    "{id}: {:?}, leads {}, serves {}, controller {:?}, metadata up to {}",
                    member.role,
                    process.leads(),
                    process.serves(),
                    member.controller,
                    member.commit_end
                )
            }
            None => format!("{id}: not running"),
        };
        self.world.machines.iter().enumerate().map(state).collect::<Vec<_>>().join("\n")
    }

    /// What is not yet as it must become; `None` if all is.
    fn what_is_missing(&mut self) -> Option<String> {
        let world = &self.world;
        if world.controller().is_none() {
            return Some("nobody decides about the metadata".to_owned());
        }
        let image = &world.newest_image;
        if let Some(broker) = image.brokers().find(|broker| !broker.is_active()) {
            return Some(format!("broker {} is not active", broker.id));
        }
        if image.brokers().count() < world.machines.iter().filter(|machine| !machine.is_gone).count() {
            return Some("not all brokers are registered".to_owned());
        }
        let mut stay = world.machines.iter().enumerate().filter(|(_, machine)| !machine.is_gone);
        if let Some((id, _)) = stay.find(|(_, machine)| {
            machine
                .process
                .as_ref()
                .is_none_or(|process| !process.serves() || process.applied_end() < image.end_offset())
        }) {
            return Some(format!("broker {id} does not serve, or is behind"));
        }
        let mut ends = BTreeMap::new();
        for topic in image.topics() {
            for (index, partition) in topic.partitions.iter().enumerate() {
                let key = ReplicaKey { topic: topic.id, partition: index as i32 };
                let Some(leader) = partition.leader else {
                    if world.may_be_leaderless.contains(&key) {
                        continue;
                    }
                    return Some(format!("{} {index} has no leader: {partition:?}", topic.name));
                };
                if partition.isr.len() < partition.replicas.len() || partition.is_reassigning() {
                    return Some(format!("{} {index} is not whole: {partition:?}", topic.name));
                }
                let end_of = |id: usize| world.machines[id].process.as_ref().and_then(|p| p.ends(key));
                let Some((end, high_watermark)) = end_of(leader.0 as usize) else {
                    return Some(format!("{} {index}: its leader does not have it", topic.name));
                };
                let behind = partition.replicas.iter().find(|broker| {
                    end_of(broker.0 as usize).is_none_or(|(other, committed)| other != end || committed != end)
                });
                if high_watermark != end || behind.is_some() {
                    return Some(format!(
                        "{} {index}: committed up to {high_watermark} of {end}, {behind:?} is behind",
                        topic.name
                    ));
                }
                ends.insert(key, end);
            }
        }
        let journals = image.topic(OFFSETS_TOPIC).map(|topic| topic.id);
        for (client, waiting) in world.clients.iter().enumerate() {
            match waiting {
                Client::Producer(producer) => {
                    if let Some(key) = producer.waiting().find(|key| ends.contains_key(key)) {
                        return Some(format!("client {client} waits for an acknowledgement of {key:?}"));
                    }
                }
                Client::Consumer(consumer) => {
                    let is_behind = |(key, end): &(&ReplicaKey, &i64)| {
                        Some(key.topic) != journals && consumer.position(**key) < **end
                    };
                    if let Some((key, end)) = ends.iter().find(is_behind) {
                        let position = consumer.position(*key);
                        return Some(format!("client {client} has read {key:?} up to {position} of {end}"));
                    }
                }
                Client::Committer(committer) => {
                    if committer.waiting().is_some_and(|key| ends.contains_key(&key)) {
                        return Some(format!("client {client} waits for the coordinator of its group"));
                    }
                }
                Client::Administrator(_) => {}
            }
        }
        None
    }

    /// What is on the disks: everything committed, the same everywhere.
    fn check_disks(&mut self) {
        let image = std::sync::Arc::clone(&self.world.newest_image);
        let idempotent: Vec<bool> = self
            .world
            .clients
            .iter()
            .map(|client| matches!(client, Client::Producer(producer) if producer.is_idempotent()))
            .collect();
        for key in self.world.oracle.records.keys().collect::<Vec<_>>() {
            let at = PartitionKey { topic: key.topic, partition: key.partition };
            let Some((topic, partition)) = image.topic_by_id(key.topic).zip(image.partition(at)) else {
                if !self.world.oracle.records.may_be_deleted(key.topic) {
                    self.world.violation = Some(Violation(format!("{key:?} is gone, and nobody deleted it")));
                    return;
                }
                continue;
            };
            if partition.leader.is_none() {
                // What may be lost is not served: that is how it is seen.
                self.world.tally.note(Happening::LeaderlessAtEnd);
                continue;
            }
            let mut first: Option<(usize, Vec<Entry>)> = None;
            for broker in &partition.replicas {
                let id = broker.0 as usize;
                let mut log = entries_on_disk(&self.world.machines[id].disk, &log_folder(&topic.name, key.partition));
                // What lies below the log's start goes with its segment. Nobody reads it, and it may be anything: a follower
                // has it in common with its leader from the leader's start on.
                let start = self.world.machines[id].process.as_ref().and_then(|process| process.log_start(key));
                log.retain(|entry| Some(entry.offset) >= start);
                let is_idempotent = |client: u64| idempotent.get(client as usize).copied().unwrap_or(false);
                let outcome = self.world.oracle.records.check_log(key, id, &log, is_idempotent);
                self.world.check(outcome);
                for entry in &log {
                    self.world.mix(entry.value ^ (entry.offset as u64) << 40);
                }
                match &first {
                    Some((other, same)) if !is_same(same, &log) => {
                        let place = same.iter().zip(&log).position(|(a, b)| a != b);
                        let reason = format!("{key:?}: the logs of brokers {other} and {id} differ at {place:?}");
                        self.world.violation.get_or_insert(Violation(reason));
                    }
                    Some(_) => {}
                    None => first = Some((id, log)),
                }
            }
        }
    }
}

/// Whether two logs are equal where both hold something: retention lets each go what it may in its own time.
fn is_same(some: &[Entry], others: &[Entry]) -> bool {
    let start = |log: &[Entry]| log.first().map_or(0, |entry| entry.offset);
    let from = start(some).max(start(others));
    some.iter().filter(|entry| entry.offset >= from).eq(others.iter().filter(|entry| entry.offset >= from))
}
