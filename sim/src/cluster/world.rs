// SPDX-License-Identifier: Apache-2.0
//! Machines, network, Lease API, clients and time of a run, and how what processes do becomes events. Knows no faults'
//! reasons: [`super::faults`] decides what breaks when.

mod damage;
mod electable;
mod lease;
mod network;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use odradek_coordination::quorum::{self, LeaseCall};
use odradek_coordination::{LeaseChange, LeaseView, Voter};
use odradek_disk::{Disk, Outage, SimulatedDisk};
use odradek_metadata::{Image, MetadataLog, Probe};
use odradek_model::{BrokerId, ControllerEpoch, DirectoryId, Offset};
use odradek_partition::Acks;
use odradek_replication::ReplicaKey;
use uuid::Uuid;

use self::damage::Damage;
use super::folder::{DATA, METADATA};
use super::message::{CallId, Endpoint, Message, Request};
use super::oracle::{Oracle, Violation};
use super::process::{Exit, Identity, Input, Out, Process, Shown};
use super::profile::{Profile, RETENTION};
use super::tally::{Happening, Tally};
use super::workload::{Administrator, Client, ClientOut, Noted};
use crate::Random;
use crate::quorum::LeaseApi;

/// A broker's deadline for a call of the Lease.
const LEASE_DEADLINE_MS: u64 = 1_000;
/// A probe that is not answered by then has failed.
const PROBE_DEADLINE_MS: u64 = 500;

/// A machine: a disk, and perhaps a process.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is another fault")]
pub(super) struct Machine {
    pub(super) voter: Voter,
    pub(super) disk: SimulatedDisk,
    pub(super) process: Option<Process>,
    /// Counts processes; events for an earlier one are void.
    pub(super) boot: u64,
    /// Counts starts of the kernel.
    boot_id: u64,
    pub(super) paused: bool,
    waiting: Vec<Input>,
    wake_at: u64,
    /// Whether it belongs to the cluster yet.
    pub(super) has_joined: bool,
    /// Whether it is to stop for good once it is empty.
    pub(super) is_leaving: bool,
    /// Whether it has left the cluster for good.
    pub(super) is_gone: bool,
    pub(super) is_full: bool,
    /// Whether its disk was full while its process ran, which may end for that.
    pub(super) has_bad_disk: bool,
}

impl Machine {
    /// The boot id of the kernel that runs.
    pub(super) fn kernel(&self) -> String {
        format!("kernel-{}-{}", self.voter.broker_id, self.boot_id)
    }

    pub(super) fn is_running(&self) -> bool {
        self.process.is_some()
    }
}

/// Trouble that comes of what happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Trouble {
    /// The process has ended; it is to be started again.
    Ended,
}

#[derive(Debug)]
enum Event {
    Input {
        broker: usize,
        boot: u64,
        input: Input,
    },
    Deliver {
        from: Endpoint,
        from_boot: u64,
        to: Endpoint,
        message: Message,
    },
    CallFails {
        call: CallId,
    },
    ProbeArrives {
        broker: usize,
        boot: u64,
        target: usize,
        probe: Option<Probe>,
    },
    LeaseReadArrives {
        broker: usize,
        boot: u64,
        call: LeaseCall,
    },
    LeaseWriteArrives {
        broker: usize,
        boot: u64,
        call: LeaseCall,
        base: Option<LeaseView>,
        change: LeaseChange,
        answered: bool,
    },
    Wake {
        broker: usize,
        boot: u64,
    },
    ClientWake {
        client: usize,
    },
}

/// A call without an answer yet.
#[derive(Clone, Copy, Debug)]
struct Calling {
    caller: Endpoint,
    boot: u64,
    callee: usize,
}

/// See the module.
#[derive(Debug)]
pub(super) struct World {
    pub(super) now: u64,
    pub(super) random: Random,
    pub(super) profile: Profile,
    pub(super) machines: Vec<Machine>,
    pub(super) clients: Vec<Client>,
    pub(super) lease: LeaseApi,
    pub(super) oracle: Oracle,
    /// Links that carry nothing, from and to.
    pub(super) cut: BTreeSet<(Endpoint, Endpoint)>,
    pub(super) lease_away: bool,
    /// The highest epoch of the Lease before it was rolled back, if it ever was.
    pub(super) lease_fell_from: ControllerEpoch,
    /// Whether the Lease API refuses most calls, as there are too many.
    pub(super) lease_throttled: bool,
    /// Brokers that cannot reach the Lease API.
    pub(super) lease_cut: BTreeSet<usize>,
    pub(super) healed: bool,
    pub(super) violation: Option<Violation>,
    /// What happened, if wanted; else only its hash.
    pub(super) story: Option<Vec<String>>,
    pub(super) hash: u64,
    pub(super) events: u64,
    pub(super) tally: Tally,
    /// The newest image that anybody has known to be committed.
    pub(super) newest_image: Arc<Image>,
    /// Partitions whose records were with a machine that lost power, and nowhere else.
    pub(super) may_be_leaderless: BTreeSet<ReplicaKey>,
    damage: Damage,
    /// What calls for a reaction of whoever breaks things.
    pub(super) troubles: Vec<(usize, Trouble)>,
    queue: BTreeMap<(u64, u64), Event>,
    next_event: u64,
    calls: BTreeMap<CallId, Calling>,
    /// Counts the folders that there have been.
    folders: u64,
}

impl World {
    pub(super) fn new(seed: u64, profile: Profile, tell: bool) -> Self {
        let mut world = Self {
            now: 0,
            random: Random::new(seed),
            machines: Vec::new(),
            clients: Vec::new(),
            lease: LeaseApi::new(),
            oracle: Oracle::default(),
            cut: BTreeSet::new(),
            lease_away: false,
            lease_fell_from: -1,
            lease_throttled: false,
            lease_cut: BTreeSet::new(),
            healed: false,
            violation: None,
            story: tell.then(Vec::new),
            hash: 0xcbf2_9ce4_8422_2325,
            events: 0,
            tally: Tally::default(),
            newest_image: Arc::default(),
            may_be_leaderless: BTreeSet::new(),
            damage: Damage::default(),
            troubles: Vec::new(),
            queue: BTreeMap::new(),
            next_event: 0,
            calls: BTreeMap::new(),
            folders: 0,
            profile,
        };
        for id in 0..world.profile.brokers + world.profile.joining {
            let machine = world.machine(id);
            world.machines.push(machine);
        }
        world
    }

    /// An empty folder with an identity of its own.
    fn folder(&mut self, id: usize) -> (SimulatedDisk, Voter) {
        let disk = SimulatedDisk::new(self.random.number());
        disk.create_dir_all(Path::new(DATA)).expect("a folder");
        disk.sync_dir(Path::new("/")).expect("synced");
        MetadataLog::format(&disk, Path::new(METADATA)).expect("formats");
        self.folders += 1;
        let directory_id = DirectoryId(Uuid::from_u128((u128::from(self.folders) << 32) | id as u128));
        (disk, Voter { broker_id: BrokerId(id as i32), directory_id })
    }

    fn machine(&mut self, id: usize) -> Machine {
        let (disk, voter) = self.folder(id);
        Machine {
            voter,
            disk,
            process: None,
            boot: 0,
            boot_id: 0,
            paused: false,
            waiting: Vec::new(),
            wake_at: u64::MAX,
            has_joined: id < self.profile.brokers,
            is_leaving: false,
            is_gone: false,
            is_full: false,
            has_bad_disk: false,
        }
    }

    pub(super) fn tell(&mut self, line: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            story.push(format!("{:>7} {}", self.now, line()));
        }
    }

    pub(super) fn mix(&mut self, number: u64) {
        self.hash = (self.hash ^ number).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(17);
    }

    fn schedule(&mut self, after_ms: u64, event: Event) {
        self.next_event += 1;
        self.queue.insert((self.now + after_ms, self.next_event), event);
    }

    pub(super) fn check(&mut self, outcome: Result<(), Violation>) {
        if let Err(violation) = outcome {
            self.violation.get_or_insert(violation);
        }
    }

    // === processes ===

    pub(super) fn start(&mut self, id: usize) {
        if self.machines[id].is_running() || !self.machines[id].has_joined {
            return;
        }
        let seed = self.random.number();
        let brokers = (0..self.machines.len()).map(|id| BrokerId(id as i32)).collect();
        let machine = &mut self.machines[id];
        machine.boot += 1;
        machine.paused = false;
        machine.waiting.clear();
        machine.wake_at = u64::MAX;
        machine.has_bad_disk = machine.is_full;
        let identity = Identity {
            id: BrokerId(id as i32),
            voter: machine.voter,
            boot: machine.boot,
            boot_id: machine.kernel(),
            brokers,
            seed,
        };
        let started = Process::start(identity, &self.profile, &machine.disk, self.now);
        self.tell(|| format!("start {id}"));
        match started {
            Ok(process) => {
                self.machines[id].process = Some(process);
                self.give(id, self.machines[id].boot, Input::Tick);
            }
            Err(reason) => self.ended_badly(id, &reason),
        }
    }

    /// The process ends without a word; the peers' connections break.
    pub(super) fn kill(&mut self, id: usize, outage: Outage) {
        if self.machines[id].process.take().is_none() && outage == Outage::ProcessDeath {
            return;
        }
        self.tell(|| format!("kill {id}: {outage:?}"));
        let machine = &mut self.machines[id];
        machine.disk.restart(outage);
        machine.paused = false;
        machine.waiting.clear();
        if outage != Outage::ProcessDeath {
            machine.boot_id += 1;
        }
        for other in 0..self.machines.len() {
            if other != id && !self.is_cut(Endpoint::Broker(id), Endpoint::Broker(other)) {
                let (after, boot) = (self.random.between(1, 5), self.machines[other].boot);
                let input = Input::ConnectionLost(BrokerId(id as i32));
                self.schedule(after, Event::Input { broker: other, boot, input });
            }
        }
        let calls: Vec<_> = self.calls.iter().filter(|(_, calling)| calling.callee == id).collect();
        let calls: Vec<_> = calls.into_iter().map(|(call, calling)| (*call, calling.caller)).collect();
        for (call, caller) in calls {
            if !self.is_cut(Endpoint::Broker(id), caller) {
                let after = self.random.between(1, 5);
                self.schedule(after, Event::CallFails { call });
            }
        }
    }

    /// The machine and its volume are gone; another with an empty folder takes the broker's place.
    pub(super) fn empty_folder(&mut self, id: usize) {
        self.kill(id, Outage::PowerLoss);
        self.tell(|| format!("the folder of {id} is empty"));
        let (disk, voter) = self.folder(id);
        let machine = &mut self.machines[id];
        machine.disk = disk;
        machine.voter = voter;
        machine.boot_id += 1;
        self.forget_damage(id);
    }

    /// Whether a folder was ever lost, or a broker has left.
    pub(super) fn has_lost_voters(&self) -> bool {
        self.folders > self.machines.len() as u64 || self.machines.iter().any(|machine| machine.is_gone)
    }

    /// A process has ended by itself.
    fn ended_badly(&mut self, id: usize, reason: &str) {
        let excused = self.machines[id].disk.is_crashed() || self.machines[id].has_bad_disk;
        self.tell(|| format!("{id} ended: {reason}"));
        self.kill(id, Outage::ProcessDeath);
        self.machines[id].disk.restart(Outage::ProcessDeath);
        self.troubles.push((id, Trouble::Ended));
        if !excused {
            self.violation.get_or_insert(Violation(format!("broker {id} ended: {reason}")));
        }
    }

    pub(super) fn pause(&mut self, id: usize) {
        self.tell(|| format!("pause {id}"));
        self.machines[id].paused = true;
    }

    pub(super) fn resume(&mut self, id: usize) {
        if !std::mem::take(&mut self.machines[id].paused) {
            return;
        }
        self.tell(|| format!("resume {id}"));
        let boot = self.machines[id].boot;
        for input in std::mem::take(&mut self.machines[id].waiting) {
            self.schedule(0, Event::Input { broker: id, boot, input });
        }
        self.schedule(0, Event::Input { broker: id, boot, input: Input::Tick });
    }

    pub(super) fn stop_cleanly(&mut self, id: usize) {
        self.tell(|| format!("clean stop of {id}"));
        let boot = self.machines[id].boot;
        self.schedule(0, Event::Input { broker: id, boot, input: Input::Stop });
    }

    // === events ===

    pub(super) fn next_time(&self) -> Option<u64> {
        self.queue.keys().next().map(|(at, _)| *at)
    }

    /// Lets the next event happen.
    pub(super) fn step(&mut self) {
        let Some(((at, _), event)) = self.queue.pop_first() else { return };
        self.now = at;
        self.events += 1;
        self.mix(at);
        match event {
            Event::Input { broker, boot, input } => self.give(broker, boot, input),
            Event::Wake { broker, boot } => {
                let machine = &mut self.machines[broker];
                if machine.boot == boot && machine.wake_at <= at {
                    machine.wake_at = u64::MAX;
                    self.give(broker, boot, Input::Tick);
                }
            }
            Event::ClientWake { client } => {
                let outs = self.clients[client].wake(at, self.machines.len());
                self.carry_out_for_client(client, outs);
            }
            Event::Deliver { from, from_boot, to, message } => self.deliver(from, from_boot, to, message),
            Event::CallFails { call } => self.call_fails(call),
            Event::ProbeArrives { broker, boot, target, probe } => {
                let (there, here) = (Endpoint::Broker(target), Endpoint::Broker(broker));
                let reached = !self.is_cut(here, there) && !self.is_cut(there, here);
                // A kernel answers for a paused process.
                let accepted = reached && self.machines.get(target).is_some_and(Machine::is_running);
                let after = if reached { 1 } else { PROBE_DEADLINE_MS };
                let input = match probe {
                    Some(probe) => Input::ProbeFinished(probe, accepted),
                    None => Input::Quorum(quorum::Input::Probed(BrokerId(target as i32), accepted)),
                };
                self.schedule(after, Event::Input { broker, boot, input });
            }
            Event::LeaseReadArrives { broker, boot, call } => self.lease_read_arrives(broker, boot, call),
            Event::LeaseWriteArrives { broker, boot, call, base, change, answered } => {
                self.lease_write_arrives(broker, boot, call, base.as_ref(), &change, answered);
            }
        }
    }

    fn give(&mut self, id: usize, boot: u64, input: Input) {
        let machine = &mut self.machines[id];
        if machine.boot != boot || !machine.is_running() {
            return;
        }
        if machine.paused {
            if !matches!(input, Input::Tick) {
                machine.waiting.push(input);
            }
            return;
        }
        self.note_late_commit(&input);
        let now = self.now;
        self.mix(id as u64);
        let Some(process) = &mut self.machines[id].process else { return };
        let outs = process.handle(now, input);
        if self.machines[id].disk.is_crashed() {
            // Nobody hears of what it was about to do, but checkers of what it has done.
            self.tally.note(Happening::CrashInACall);
            for out in outs {
                if let Out::Shown(shown) = out {
                    self.note_done(id, &shown);
                }
            }
            self.ended_badly(id, "its disk crashed");
            return;
        }
        for out in outs {
            self.carry_out(id, boot, out);
        }
        let machine = &mut self.machines[id];
        if let Some(process) = machine.process.as_ref().filter(|_| machine.boot == boot) {
            let wake_at = process.wake_at().max(now + 1);
            if wake_at < machine.wake_at {
                machine.wake_at = wake_at;
                self.schedule(wake_at - now, Event::Wake { broker: id, boot });
            }
        }
    }

    fn carry_out(&mut self, id: usize, boot: u64, out: Out) {
        let here = Endpoint::Broker(id);
        match out {
            Out::Send(to, message) => self.send(here, boot, to, message),
            Out::Call { to, call, request, deadline_ms } => {
                self.call(here, boot, to.0 as usize, call, request, deadline_ms);
            }
            Out::ReadLease(call) => {
                let after = self.random.between(1, 10);
                self.schedule(after, Event::LeaseReadArrives { broker: id, boot, call });
            }
            Out::WriteLease { call, base, change } => self.write_lease(id, boot, call, base, change),
            Out::ProbeMember(broker) => self.probe(id, boot, broker, None),
            Out::ProbeBroker(probe) => self.probe(id, boot, probe.broker_id, Some(probe)),
            Out::After(after, input) => self.schedule(after, Event::Input { broker: id, boot, input }),
            Out::Exit(Exit::Clean) => {
                self.tally.note(Happening::CleanStop);
                self.kill(id, Outage::ProcessDeath);
                self.troubles.push((id, Trouble::Ended));
            }
            Out::Exit(Exit::Failed(reason)) => self.ended_badly(id, &reason),
            Out::Shown(shown) => {
                self.tell(|| format!("{id} {}", shown.line()));
                if let Shown::Image(image) = &shown
                    && image.end_offset() > self.newest_image.end_offset()
                {
                    let before = std::mem::replace(&mut self.newest_image, Arc::clone(image));
                    self.note_doubtful(&before);
                    self.check_electable_since(&before);
                    if self.story.is_some() {
                        self.tell_changes(&before);
                    }
                }
                if let Shown::Recovered { opened, damaged } = &shown {
                    self.logs_recovered(id, opened, damaged);
                }
                self.note_done(id, &shown);
                let outcome = self.oracle.shown(id, boot, &shown);
                self.check(outcome);
            }
        }
    }

    /// What stands on the disk by now, whether or not the process lived to say so.
    fn note_done(&mut self, id: usize, shown: &Shown) {
        match shown {
            Shown::LogStartRaised { key, start, left } => self.log_start_raised(*key, *start, *left),
            Shown::DamageTold(keys) => self.damage_told(id, keys),
            _ => {}
        }
    }

    fn log_start_raised(&mut self, key: ReplicaKey, start: Offset, left: Option<u64>) {
        if left.is_some() {
            self.tally.note(Happening::LogStartRaised);
        }
        let topic = self.newest_image.topic_by_id(key.topic);
        let kept = topic.and_then(|topic| topic.overrides.get(RETENTION)?.parse().ok());
        let outcome = self.oracle.records.log_start_raised(key, start, (left, kept));
        self.check(outcome);
    }

    /// Partitions that come into the hands of a machine that has lost power, before the controller knows of it, may lose
    /// their leader with its next registration: also if they have come and lost it between two images.
    fn note_doubtful(&mut self, before: &Image) {
        let image = Arc::clone(&self.newest_image);
        let lost_power = |image: &Image, broker: &BrokerId| {
            let registered = image.broker(*broker).map(|registered| registered.boot_id.as_str());
            registered != Some(self.machines[broker.0 as usize].kernel().as_str())
        };
        let mut doubtful = Vec::new();
        for topic in image.topics() {
            let earlier = before.topic_by_id(topic.id);
            for (index, partition) in topic.partitions.iter().enumerate() {
                let same = earlier.and_then(|earlier| earlier.partitions.get(index));
                if same.is_some_and(|same| Arc::ptr_eq(same, partition)) {
                    continue;
                }
                let has_come = |broker: &&BrokerId| !same.is_some_and(|same| same.replicas.contains(broker));
                let mut came = partition.replicas.iter().filter(has_come);
                if partition.isr.iter().any(|broker| lost_power(&image, broker))
                    || came.any(|broker| before.broker(*broker).is_some() && lost_power(before, broker))
                {
                    doubtful.push(ReplicaKey { topic: topic.id, partition: index as i32 });
                }
            }
        }
        self.may_be_leaderless.extend(doubtful);
    }

    /// What the newest metadata says that the image before did not.
    fn tell_changes(&mut self, before: &Image) {
        let image = Arc::clone(&self.newest_image);
        for broker in image.brokers() {
            if before.broker(broker.id) != Some(broker) {
                let (epoch, active) = (broker.epoch, broker.is_active());
                self.tell(|| format!("  broker {} epoch {epoch} active {active}", broker.id));
            }
        }
        for topic in image.topics() {
            let earlier = before.topic_by_id(topic.id);
            for (index, partition) in topic.partitions.iter().enumerate() {
                if earlier.and_then(|earlier| earlier.partitions.get(index)) != Some(partition) {
                    let ids = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect::<Vec<_>>();
                    let (isr, elr, replicas) = (ids(&partition.isr), ids(&partition.elr), ids(&partition.replicas));
                    let (leader, epochs) = (partition.leader, (partition.leader_epoch, partition.partition_epoch));
                    self.tell(|| {
                        let leader = leader.map(|leader| leader.0);
                        format!(
                            "  {} {index}: {leader:?} {epochs:?} isr {isr:?} elr {elr:?} of {replicas:?}",
                            topic.name
                        )
                    });
                }
            }
        }
    }

    fn probe(&mut self, id: usize, boot: u64, target: BrokerId, probe: Option<Probe>) {
        let after = self.random.between(1, 20);
        self.schedule(after, Event::ProbeArrives { broker: id, boot, target: target.0 as usize, probe });
    }

    // === clients ===

    pub(super) fn add_client(&mut self, client: Client) {
        self.clients.push(client);
        self.schedule(1, Event::ClientWake { client: self.clients.len() - 1 });
    }

    /// Every run has one.
    pub(super) fn administrator(&mut self) -> &mut Administrator {
        let found = self.clients.iter_mut().find_map(|client| match client {
            Client::Administrator(administrator) => Some(administrator),
            _ => None,
        });
        found.expect("a run has one")
    }

    fn carry_out_for_client(&mut self, client: usize, outs: Vec<ClientOut>) {
        for out in outs {
            match out {
                ClientOut::Call { to, call, request, deadline_ms } => {
                    match &request {
                        Request::Produce { acks: Acks::None, .. } => self.tally.note(Happening::ProduceUnanswered),
                        Request::Produce { acks: Acks::Leader, .. } => self.tally.note(Happening::ProduceToLeader),
                        _ => {}
                    }
                    self.call(Endpoint::Client(client), 0, to, call, request, deadline_ms);
                }
                ClientOut::Wake(after) => self.schedule(after.max(1), Event::ClientWake { client }),
                ClientOut::Noted(noted) => {
                    self.mix(noted.number());
                    if self.story.is_some() && noted.is_news() {
                        self.tell(|| format!("client {client}: {noted:x?}"));
                    }
                    let outcome = self.oracle.noted(client, &noted);
                    self.check(outcome);
                    match &noted {
                        Noted::Committed { .. } => self.tally.note(Happening::OffsetCommitted),
                        Noted::Read { is_leader: false, .. } => self.tally.note(Happening::ReadFromFollower),
                        _ => {}
                    }
                    if let Noted::Acknowledged { key, .. } | Noted::Read { key, .. } = &noted {
                        self.check_electable(*key);
                    }
                }
            }
        }
    }
}
