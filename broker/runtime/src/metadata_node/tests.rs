// SPDX-License-Identifier: Apache-2.0
//! Nodes of one cluster on simulated disks, with a Lease in memory and a network that carries every message in 1 ms:
//! who decides, what is answered, and what is left of it after a death.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test says what went wrong by failing, and times aloud")]
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;

use odradek_coordination::quorum::{self, KnownBroker, QuorumSettings};
use odradek_coordination::{ControllerLease, Holder, InProcessLease, Voter};
use odradek_disk::{Disk, SimulatedDisk};
use odradek_metadata::{
    Command, ControllerSettings, CreateTopics, Endpoint, Heartbeat, MetadataLog, NewTopic, RegisterBroker, Reply,
    SESSION_TIMEOUT_MS, SUPPORTED_FEATURE_LEVEL,
};
use odradek_model::{BrokerId, ClusterId, DirectoryId, TopicId};
use odradek_server::controller::{ControllerUnavailable, Decided, HeartbeatAnswer};
use uuid::Uuid;

use super::node::{Effect, Input, MetadataNode, Moment, NodeIdentity, NodeSettings};
use super::storage::QuorumLog;

const FOLDER: &str = "/data/metadata";

struct Host {
    disk: SimulatedDisk,
    directory: DirectoryId,
    node: Option<MetadataNode>,
    starts: u32,
    stopped: Option<String>,
}

struct Cluster {
    now_ms: u64,
    lease: InProcessLease,
    hosts: BTreeMap<i32, Host>,
    /// By the time at which they come, in the order in which they were sent.
    inputs: BTreeMap<u64, VecDeque<(i32, Input)>>,
    replies: BTreeMap<u64, Result<Decided, ControllerUnavailable>>,
    heartbeats: BTreeMap<u64, Result<HeartbeatAnswer, ControllerUnavailable>>,
    next_ticket: u64,
    cut_off: BTreeSet<i32>,
}

fn cluster_id() -> ClusterId {
    ClusterId::new("c").unwrap()
}

fn directory(id: i32) -> DirectoryId {
    DirectoryId(Uuid::from_u128(0xd1 + id as u128))
}

fn incarnation(id: i32, starts: u32) -> Uuid {
    Uuid::from_u128((u128::from(starts) << 64) | (0xabc0 + id as u128))
}

fn empty_disk(seed: u64) -> SimulatedDisk {
    let disk = SimulatedDisk::new(seed);
    disk.create_dir_all(Path::new("/data")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk
}

impl Cluster {
    fn new(brokers: i32) -> Self {
        let hosts = (0..brokers).map(|id| {
            let disk = empty_disk(id as u64);
            MetadataLog::format(&disk, Path::new(FOLDER)).unwrap();
            (id, Host { disk, directory: directory(id), node: None, starts: 0, stopped: None })
        });
        let mut cluster = Self {
            now_ms: 0,
            lease: InProcessLease::new("uid", &cluster_id()),
            hosts: hosts.collect(),
            inputs: BTreeMap::new(),
            replies: BTreeMap::new(),
            heartbeats: BTreeMap::new(),
            next_ticket: 0,
            cut_off: BTreeSet::new(),
        };
        for id in 0..brokers {
            cluster.start(id);
        }
        cluster
    }

    fn start(&mut self, id: i32) {
        let brokers = self
            .hosts
            .keys()
            .map(|id| KnownBroker { broker_id: BrokerId(*id), rack: None, registered_folder: None })
            .collect();
        let host = self.hosts.get_mut(&id).unwrap();
        host.starts += 1;
        let (log, _, _) = MetadataLog::open(Arc::new(host.disk.clone()), Path::new(FOLDER)).unwrap();
        let identity = NodeIdentity {
            cluster_id: cluster_id(),
            holder: Holder { broker_id: BrokerId(id), incarnation: incarnation(id, host.starts).to_string() },
            voter: Voter { broker_id: BrokerId(id), directory_id: host.directory },
            brokers,
        };
        let settings = NodeSettings {
            quorum: QuorumSettings { lease_poll_ms: 1_000, ..QuorumSettings::default() },
            controller: ControllerSettings::default(),
            session_timeout_ms: SESSION_TIMEOUT_MS,
        };
        let seed = u64::from(host.starts) * 100 + id as u64;
        host.node = Some(MetadataNode::new(identity, settings, QuorumLog::new(log).unwrap(), seed).unwrap());
        self.give(id, Input::Tick);
    }

    /// The process dies; all that have a connection with it see it reset.
    fn kill(&mut self, id: i32) {
        self.hosts.get_mut(&id).unwrap().node = None;
        // What was on its way to the process, outcomes of its calls among it, is not for the next one.
        for inputs in self.inputs.values_mut() {
            inputs.retain(|(to, _)| *to != id);
        }
        for other in self.alive() {
            self.later(1, other, Input::ConnectionLost(BrokerId(id)));
        }
    }

    /// The dead process's volume is emptied.
    fn wipe(&mut self, id: i32) -> Voter {
        let host = self.hosts.get_mut(&id).unwrap();
        host.disk = empty_disk(100 + id as u64);
        host.directory = directory(100 + id);
        MetadataLog::format(&host.disk, Path::new(FOLDER)).unwrap();
        Voter { broker_id: BrokerId(id), directory_id: host.directory }
    }

    fn alive(&self) -> Vec<i32> {
        self.hosts.iter().filter(|(_, host)| host.node.is_some()).map(|(id, _)| *id).collect()
    }

    fn later(&mut self, delay_ms: u64, to: i32, input: Input) {
        self.inputs.entry(self.now_ms + delay_ms).or_default().push_back((to, input));
    }

    fn give(&mut self, id: i32, input: Input) {
        let moment = Moment { now_ms: self.now_ms, wall_ms: self.now_ms as i64, seed: self.now_ms };
        let Some(node) = self.hosts.get_mut(&id).and_then(|host| host.node.as_mut()) else { return };
        for effect in node.handle(moment, input) {
            self.carry_out(id, effect);
        }
    }

    fn carry_out(&mut self, id: i32, effect: Effect) {
        match effect {
            Effect::ReadLease(call) => {
                let found = self.lease.read().map_err(|error| error.to_string());
                self.later(2, id, Input::Quorum(quorum::Input::LeaseRead(call, found)));
            }
            Effect::WriteLease { call, base, change } => {
                let outcome = self.lease.compare_and_set(&base.unwrap(), &change).map_err(|error| error.to_string());
                self.later(2, id, Input::Quorum(quorum::Input::LeaseWritten(call, outcome)));
            }
            Effect::Send(to, message) => {
                if !self.cut_off.contains(&id) && !self.cut_off.contains(&to.0) {
                    self.later(1, to.0, Input::Quorum(quorum::Input::Received(message)));
                }
            }
            Effect::ProbeMember(broker) => {
                let alive = self.alive().contains(&broker.0) && !self.cut_off.contains(&broker.0);
                self.later(1, id, Input::Quorum(quorum::Input::Probed(broker, alive)));
            }
            Effect::ProbeBroker(probe) => {
                let alive = self.alive().contains(&probe.broker_id.0);
                self.later(1, id, Input::ProbeFinished(probe, alive));
            }
            Effect::Publish(_) | Effect::OrderIsOver | Effect::Resigned => {}
            Effect::Reply(ticket, answer) => {
                assert!(self.replies.insert(ticket, answer).is_none(), "ticket {ticket} has two answers");
            }
            Effect::HeartbeatReply(ticket, answer) => {
                assert!(self.heartbeats.insert(ticket, answer).is_none(), "ticket {ticket} has two answers");
            }
            Effect::Stop(reason) => self.hosts.get_mut(&id).unwrap().stopped = Some(reason),
        }
    }

    /// Lets time pass until the condition holds; the milliseconds that took.
    fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) -> u64 {
        let began = self.now_ms;
        while !condition(self) {
            assert!(self.now_ms < began + 60_000, "{what}: not within a minute");
            let wakes = self.hosts.values().filter_map(|host| host.node.as_ref().map(MetadataNode::wake_at));
            let next = self.inputs.keys().next().copied().into_iter().chain(wakes).min().unwrap_or(self.now_ms + 1);
            self.now_ms = self.now_ms.max(next);
            if let Some(mut due) = self.inputs.remove(&self.now_ms) {
                while let Some((id, input)) = due.pop_front() {
                    self.give(id, input);
                }
            }
            for id in self.alive() {
                if self.hosts[&id].node.as_ref().unwrap().wake_at() <= self.now_ms {
                    self.give(id, Input::Tick);
                }
            }
        }
        self.now_ms - began
    }

    fn node(&self, id: i32) -> &MetadataNode {
        self.hosts[&id].node.as_ref().unwrap()
    }

    fn leader(&self) -> Option<i32> {
        self.alive()
            .into_iter()
            .filter(|id| self.node(*id).leads())
            .max_by_key(|id| self.node(*id).member().controller.epoch)
    }

    fn until_led(&mut self) -> i32 {
        self.until("a controller", |cluster| cluster.leader().is_some());
        self.leader().unwrap()
    }

    fn send(&mut self, to: i32, command: Command) -> u64 {
        self.next_ticket += 1;
        let ticket = self.next_ticket;
        self.give(to, Input::Command(ticket, command));
        ticket
    }

    /// Has a command decided at once.
    fn decide(&mut self, to: i32, command: Command) -> Result<Decided, ControllerUnavailable> {
        let ticket = self.send(to, command);
        self.until("an answer", |cluster| cluster.replies.contains_key(&ticket));
        self.replies.remove(&ticket).unwrap()
    }

    fn register(&mut self, to: i32, id: i32) -> i64 {
        let decided = self.decide(to, registration(id, self.hosts[&id].starts, self.hosts[&id].directory)).unwrap();
        let Reply::RegisterBroker(outcome) = decided.reply else { panic!("{decided:?}") };
        outcome.unwrap()
    }

    fn beat(&mut self, to: i32, id: i32, broker_epoch: i64) -> Result<HeartbeatAnswer, ControllerUnavailable> {
        self.next_ticket += 1;
        let ticket = self.next_ticket;
        let heartbeat = Heartbeat {
            broker_id: BrokerId(id),
            broker_epoch,
            metadata_end: self.node(to).image().end_offset(),
            wants_fence: false,
            wants_shutdown: false,
        };
        self.give(to, Input::Heartbeat(ticket, heartbeat));
        self.until("an answer", |cluster| cluster.heartbeats.contains_key(&ticket));
        self.heartbeats.remove(&ticket).unwrap()
    }
}

fn registration(id: i32, starts: u32, directory_id: DirectoryId) -> Command {
    Command::RegisterBroker(RegisterBroker {
        broker_id: BrokerId(id),
        cluster_id: cluster_id(),
        incarnation: incarnation(id, starts),
        directory_id,
        endpoints: vec![Endpoint { listener: "plain".into(), host: "h".into(), port: 1, security_protocol: 0 }],
        rack: None,
        boot_id: "boot".into(),
        clean_shutdown_of: None,
        damaged_logs: Vec::new(),
        supported_feature_level: SUPPORTED_FEATURE_LEVEL,
    })
}

fn topic(name: &str) -> Command {
    let topic = NewTopic {
        name: name.to_owned(),
        id: TopicId(Uuid::from_u128(name.bytes().fold(1, |hash, byte| hash * 31 + u128::from(byte)))),
        partitions: 1,
        replication_factor: -1,
        assignments: Vec::new(),
        settings: Vec::new(),
    };
    Command::CreateTopics(CreateTopics { topics: vec![topic], validate_only: false, placement_seed: 1 })
}

#[test]
fn one_broker_leads_at_once_and_after_a_restart_its_earlier_process_is_over() {
    let mut cluster = Cluster::new(1);
    let led_after = cluster.until("a controller", |cluster| cluster.leader().is_some());
    assert!(led_after < 20, "{led_after} ms with a Lease that answers in 2 ms");
    let image = cluster.node(0).image();
    assert_eq!((image.cluster_id(), image.feature_level()), (Some(&cluster_id()), SUPPORTED_FEATURE_LEVEL));
    let epoch = cluster.register(0, 0);
    let (controller_epoch, reply) = cluster.beat(0, 0, epoch).unwrap();
    assert_eq!((controller_epoch, reply.unwrap().fenced), (1, false));
    let created = cluster.decide(0, topic("t")).unwrap();
    assert!(matches!(&created.reply, Reply::CreateTopics(outcomes) if outcomes[0].1.is_ok()), "{created:?}");
    assert_eq!(created.end, cluster.node(0).image().end_offset());
    assert_eq!(cluster.node(0).image().partition_count(), 1);

    cluster.kill(0);
    cluster.start(0);
    cluster.until_led();
    assert_eq!(cluster.node(0).member().controller.epoch, 2);
    assert_eq!(cluster.node(0).image().partition_count(), 1, "what was committed is there");
    // The same folder: nobody waits for the end of the former process's session.
    let next = cluster.register(0, 0);
    assert!(next > epoch);
    assert!(matches!(cluster.beat(0, 0, epoch), Ok((2, Err(_)))), "the former process is not heard any more");
    assert!(!cluster.beat(0, 0, next).unwrap().1.unwrap().fenced);
    assert!(cluster.node(0).image().topics().all(|topic| topic.partitions[0].leader == Some(BrokerId(0))));
}

/// Three registered brokers, all voters, and which of them is the controller.
fn three_voters() -> (Cluster, i32) {
    let mut cluster = Cluster::new(3);
    let leader = cluster.until_led();
    for id in 0..3 {
        let epoch = cluster.register(leader, id);
        assert!(!cluster.beat(leader, id, epoch).unwrap().1.unwrap().fenced);
    }
    cluster.until("three voters", |cluster| cluster.node(leader).member().voters.len() == 3);
    (cluster, leader)
}

#[test]
fn three_brokers_have_one_controller_and_another_soon_after_its_death() {
    let (mut cluster, leader) = three_voters();
    let other = (0..3).find(|id| *id != leader).unwrap();
    let refused = cluster.decide(other, topic("t")).unwrap_err();
    let expected = ControllerUnavailable::NotController { controller: Some(BrokerId(leader)), epoch: 1 };
    assert_eq!(refused, expected);
    let end = cluster.decide(leader, topic("t")).unwrap().end;
    cluster.until("all to know it", |cluster| (0..3).all(|id| cluster.node(id).image().end_offset() >= end));

    cluster.kill(leader);
    let took = cluster.until("another controller", |cluster| cluster.leader().is_some());
    println!("another controller after {took} ms");
    assert!(took < 1_500, "{took} ms");
    let next = cluster.leader().unwrap();
    assert!(cluster.node(next).image().topic("t").is_some());
    // It asks at once whether its predecessor is alive, and does not wait for the end of its new session.
    let fenced = cluster.until("the dead broker to be fenced", |cluster| {
        cluster.node(next).image().broker(BrokerId(leader)).is_some_and(|broker| broker.fenced)
    });
    println!("its predecessor fenced {fenced} ms later");
    assert!(fenced < 100, "{fenced} ms");
    assert!(cluster.decide(next, topic("u")).is_ok(), "two of three voters commit");
}

#[test]
fn a_broker_with_an_emptied_folder_is_a_voter_again_soon_after_it_is_registered() {
    let (mut cluster, leader) = three_voters();
    let wiped = (0..3).find(|id| *id != leader).unwrap();
    cluster.kill(wiped);
    cluster.until("the dead broker to be fenced", |cluster| {
        cluster.node(leader).image().broker(BrokerId(wiped)).is_some_and(|broker| broker.fenced)
    });
    let emptied = cluster.wipe(wiped);
    cluster.start(wiped);
    cluster.register(leader, wiped);
    let took = cluster.until("the new folder in place of the old one", |cluster| {
        let voters = &cluster.node(leader).member().voters;
        voters.len() == 3 && voters.contains(&emptied)
    });
    println!("a voter again after {took} ms");
    assert!(took < 2_000, "{took} ms, and 30,000 if the old folder is waited for");
    assert_eq!(cluster.leader(), Some(leader));
}

#[test]
fn a_controller_that_is_cut_off_answers_nothing_and_refuses_what_waited_when_it_learns_of_another() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.until_led();
    let epoch = cluster.register(leader, leader);
    cluster.beat(leader, leader, epoch).unwrap().1.unwrap();
    cluster.until("three voters", |cluster| cluster.node(leader).member().voters.len() == 3);
    cluster.cut_off.insert(leader);
    let created = cluster.send(leader, topic("lost"));
    // An error, too, was decided on what is not committed.
    let again = cluster.send(leader, topic("lost"));
    cluster.until("another controller", |cluster| cluster.leader().is_some_and(|id| id != leader));
    cluster.until("answers", |cluster| [created, again].iter().all(|ticket| cluster.replies.contains_key(ticket)));
    for ticket in [created, again] {
        let answer = cluster.replies.remove(&ticket).unwrap();
        assert!(matches!(answer, Err(ControllerUnavailable::NotController { epoch: 2.., .. })), "{answer:?}");
    }
    cluster.cut_off.clear();
    let next = cluster.leader().unwrap();
    let epoch = cluster.register(next, next);
    cluster.beat(next, next, epoch).unwrap().1.unwrap();
    let end = cluster.decide(next, topic("kept")).unwrap().end;
    cluster.until("the former to follow", |cluster| cluster.node(leader).image().end_offset() >= end);
    let image = cluster.node(leader).image();
    assert!(image.topic("kept").is_some() && image.topic("lost").is_none());
}

#[test]
fn a_full_disk_refuses_one_decision_and_not_the_next() {
    let mut cluster = Cluster::new(1);
    cluster.until_led();
    let epoch = cluster.register(0, 0);
    cluster.beat(0, 0, epoch).unwrap().1.unwrap();
    let end = cluster.node(0).image().end_offset();
    cluster.hosts[&0].disk.set_capacity(Some(0));
    let refused = cluster.decide(0, topic("t")).unwrap_err();
    assert!(matches!(refused, ControllerUnavailable::NotController { .. }), "{refused:?}");
    assert_eq!(cluster.node(0).image().end_offset(), end);
    cluster.hosts[&0].disk.set_capacity(None);
    assert!(cluster.decide(0, topic("t")).is_ok());
    assert_eq!(cluster.node(0).member().controller.epoch, 1, "it leads all the while");
    assert!(cluster.hosts[&0].stopped.is_none());
}

#[test]
fn the_level_of_an_older_log_rises_as_soon_as_its_brokers_understand_it() {
    use odradek_metadata::records::{ClusterRecord, ControllerChangeRecord, FeatureLevelRecord};
    let mut cluster = Cluster::new(1);
    cluster.kill(0);
    let disk = empty_disk(9);
    MetadataLog::format(&disk, Path::new(FOLDER)).unwrap();
    let (mut log, _, _) = MetadataLog::open(Arc::new(disk.clone()), Path::new(FOLDER)).unwrap();
    let holder = format!("0/{}", incarnation(0, 1));
    log.promise(odradek_metadata::Promise { epoch: 1, holder: holder.clone(), voters: Vec::new() }).unwrap();
    let first = [
        ControllerChangeRecord {
            controller_epoch: 1,
            broker_id: 0,
            incarnation: incarnation(0, 1).to_string(),
            ..ControllerChangeRecord::default()
        }
        .into(),
        ClusterRecord { cluster_id: "c".into() }.into(),
        FeatureLevelRecord { level: 1 }.into(),
    ];
    log.append(1, &first).unwrap();
    drop(log);
    cluster.hosts.get_mut(&0).unwrap().disk = disk;
    cluster.lease = InProcessLease::new("old", &cluster_id());
    let view = cluster.lease.read().unwrap().unwrap();
    let voters = vec![Voter { broker_id: BrokerId(0), directory_id: directory(0) }];
    let change = odradek_coordination::LeaseChange { epoch: 1, holder: Some(holder.parse().unwrap()), voters };
    cluster.lease.compare_and_set(&view, &change).unwrap();
    cluster.inputs.clear();
    cluster.start(0);
    cluster.until_led();
    let epoch = cluster.register(0, 0);
    assert_eq!(cluster.node(0).image().feature_level(), SUPPORTED_FEATURE_LEVEL);
    assert!(!cluster.beat(0, 0, epoch).unwrap().1.unwrap().fenced);
}
