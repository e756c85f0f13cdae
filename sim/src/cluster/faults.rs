// SPDX-License-Identifier: Apache-2.0
//! What breaks, by chance, within the budget of the run; and what ends later. Must not know what brokers make of it.

mod damage;

use std::collections::BTreeSet;
use std::sync::Arc;

use odradek_coordination::Voter;
use odradek_disk::Outage;
use odradek_model::BrokerId;
use odradek_replication::ReplicaKey;

use super::message::Endpoint;
use super::process::Process;
use super::profile::Emphasis;
use super::tally::Happening;
use super::workload::Exodus;
use super::world::{Trouble, World};

/// How often the fall of the Lease waits for a quiet moment.
const LEASE_FALL_ATTEMPTS: u32 = 10;
/// How often a loss of power waits for one.
const POWER_LOSS_ATTEMPTS: u32 = 20;
/// After a loss of power that partitions are to survive nothing else breaks for so long: a session, and the way back into
/// the ISR. What breaks before takes away what the machine without its memory hung on.
const ALONE_MS: u64 = 8_000;

/// What ends or comes later.
#[derive(Debug)]
enum Later {
    Start(usize),
    Resume(usize),
    Mend(Vec<(Endpoint, Endpoint)>),
    LeaseBack,
    LeaseMend(usize),
    /// A clean stop that takes too long ends all the same.
    KillIfRunning(usize, u64),
    DiskRoom(usize),
    LeaseFalls(u32),
    Join(usize),
    /// The next broker of a rolling restart.
    Roll(usize),
    /// A loss of power, unless it has to wait so often once more for a whole cluster.
    PowerLoss(usize, u32),
    /// The loss of a folder, likewise.
    EmptyFolder(usize, u32),
    /// Damage to a log, likewise.
    DamageLog(usize, u32),
    LeaseUnthrottled,
    /// A broker that is to leave for good is looked after.
    Leave(usize),
}

impl Later {
    /// Whether it breaks something.
    fn breaks(&self) -> bool {
        matches!(
            self,
            Self::KillIfRunning(..)
                | Self::LeaseFalls(_)
                | Self::Roll(_)
                | Self::PowerLoss(..)
                | Self::EmptyFolder(..)
                | Self::DamageLog(..)
        )
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Faults {
    later: Vec<(u64, Later)>,
    next: u64,
    /// Nothing breaks before.
    quiet_until: u64,
    /// Brokers between an end and the start after it.
    returning: BTreeSet<usize>,
}

impl Faults {
    pub(super) fn new(world: &mut World) -> Self {
        let mut faults = Self { later: Vec::new(), next: 0, quiet_until: 0, returning: BTreeSet::new() };
        let (low, high) = world.profile.pause_ms;
        faults.next = world.now + world.random.between(low, high);
        if world.profile.leaving {
            let last = world.profile.brokers - 1;
            faults.later(world, 500, world.profile.faults_ms / 3, Later::Leave(last));
        }
        for id in world.profile.brokers..world.machines.len() {
            faults.later(world, 500, world.profile.faults_ms, Later::Join(id));
        }
        faults
    }

    /// When something breaks or ends next.
    pub(super) fn next_time(&self) -> u64 {
        self.later.iter().map(|(at, _)| *at).min().unwrap_or(u64::MAX).min(self.next)
    }

    fn later(&mut self, world: &mut World, low: u64, high: u64, later: Later) {
        let at = world.now + world.random.between(low, high);
        self.later.push((at, later));
    }

    /// Lets happen what is due.
    pub(super) fn act(&mut self, world: &mut World) {
        for (id, trouble) in std::mem::take(&mut world.troubles) {
            match trouble {
                Trouble::Ended => self.start_later(world, id),
            }
        }
        let now = world.now;
        let (due, later) = std::mem::take(&mut self.later).into_iter().partition(|(at, _)| *at <= now);
        self.later = later;
        for (_, later) in due {
            if now < self.quiet_until && later.breaks() {
                self.later.push((self.quiet_until, later));
            } else {
                self.happen(world, later);
            }
        }
        if now >= self.next && now < self.quiet_until {
            self.next = self.quiet_until;
        } else if now >= self.next {
            let (low, high) = world.profile.pause_ms;
            self.next = now + world.random.between(low, high);
            self.fault(world);
        }
    }

    fn start_later(&mut self, world: &mut World, id: usize) {
        if world.machines[id].is_leaving && world.administrator().exodus() >= Some(Exodus::Empty) {
            return;
        }
        if self.returning.insert(id) {
            let long = world.random.per_mille(200);
            self.later(world, 20, if long { 15_000 } else { 1_500 }, Later::Start(id));
        }
    }

    fn happen(&mut self, world: &mut World, later: Later) {
        match later {
            Later::Start(id) => {
                self.returning.remove(&id);
                world.start(id);
            }
            Later::Resume(id) => world.resume(id),
            Later::Mend(links) => {
                world.tell(|| format!("mend {links:?}"));
                for link in links {
                    world.cut.remove(&link);
                }
            }
            Later::LeaseBack => {
                world.tell(|| "Lease API back".to_owned());
                world.lease_away = false;
            }
            Later::LeaseMend(id) => {
                world.lease_cut.remove(&id);
            }
            Later::KillIfRunning(id, boot) => {
                if world.machines[id].boot == boot && world.machines[id].is_running() {
                    self.kill(world, id, Outage::ProcessDeath);
                }
            }
            Later::DiskRoom(id) => disk_room(world, id),
            Later::LeaseFalls(attempts) => self.lease_falls(world, attempts),
            Later::Join(id) => {
                world.tell(|| format!("{id} joins"));
                world.tally.note(Happening::Join);
                world.machines[id].has_joined = true;
                world.start(id);
            }
            Later::PowerLoss(id, attempts) => self.power_loss(world, id, attempts),
            Later::EmptyFolder(id, attempts) => self.empty_folder(world, id, attempts),
            Later::DamageLog(id, attempts) => self.damage_log(world, id, attempts),
            Later::Leave(id) => self.leave(world, id),
            Later::LeaseUnthrottled => world.lease_throttled = false,
            Later::Roll(id) => {
                self.stop(world, id);
                if id + 1 < world.profile.brokers {
                    self.later(world, 1_000, 6_000, Later::Roll(id + 1));
                }
            }
        }
    }

    fn kill(&mut self, world: &mut World, id: usize, outage: Outage) {
        world.kill(id, outage);
        self.start_later(world, id);
    }

    /// One step of a broker on its way out: it is stopped once it has no replicas, and gone once it is unregistered.
    fn leave(&mut self, world: &mut World, id: usize) {
        world.machines[id].is_leaving = true;
        world.administrator().let_leave(id as i32);
        let is_running = world.machines[id].is_running();
        match world.administrator().exodus() {
            Some(Exodus::Empty) if world.newest_image.partitions_on(BrokerId(id as i32)).next().is_some() => {
                world.administrator().has_more();
            }
            Some(Exodus::Empty) if is_running => self.stop(world, id),
            Some(Exodus::Empty) if !self.returning.contains(&id) => world.administrator().has_stopped(),
            Some(Exodus::Unregistered) => {
                world.tell(|| format!("{id} has left"));
                world.tally.note(Happening::Leave);
                let machine = &mut world.machines[id];
                (machine.is_gone, machine.has_joined) = (true, false);
                return;
            }
            _ => {}
        }
        self.later(world, 200, 400, Later::Leave(id));
    }

    fn stop(&mut self, world: &mut World, id: usize) {
        if world.machines[id].is_running() && !world.machines[id].paused {
            world.stop_cleanly(id);
            let boot = world.machines[id].boot;
            self.later(world, 3_000, 20_000, Later::KillIfRunning(id, boot));
        }
    }

    fn fault(&mut self, world: &mut World) {
        let n = world.machines.iter().filter(|machine| machine.has_joined).count();
        let mut id = world.random.between(0, n as u64 - 1) as usize;
        if world.random.per_mille(250)
            && let Some(leader) = world.controller()
        {
            id = leader;
        }
        let running = world.machines[id].is_running() && !world.machines[id].paused;
        let emphasis = world.profile.emphasis;
        let dwells = world.random.per_mille(600);
        let roll = match emphasis {
            Emphasis::Restarts if dwells => world.random.between(0, 44),
            Emphasis::Elections if dwells => world.random.between(0, 30),
            Emphasis::Stale if dwells => world.random.pick(&[0, 0, 20, 45, 90, 90, 90]),
            Emphasis::Network if dwells => world.random.between(45, 74),
            Emphasis::Disks | Emphasis::Beyond if dwells => world.random.between(75, 99),
            _ => world.random.between(0, 99),
        };
        let empties = if matches!(emphasis, Emphasis::Disks | Emphasis::Beyond) { 80 } else { 15 };
        if world.random.per_mille(empties) {
            self.empty_folder(world, id, POWER_LOSS_ATTEMPTS);
            return;
        }
        if world.random.per_mille(empties) {
            self.damage_log(world, id, POWER_LOSS_ATTEMPTS);
            return;
        }
        match roll {
            0..20 => {
                if world.machines[id].is_running() {
                    world.tally.note(Happening::Kill);
                }
                self.kill(world, id, Outage::ProcessDeath);
            }
            20..30 if running => {
                world.tally.note(Happening::Pause);
                world.pause(id);
                self.later(world, 10, 10_000, Later::Resume(id));
            }
            30..42 => self.stop(world, id),
            42..45 => {
                world.tally.note(Happening::RollingRestart);
                self.later(world, 0, 100, Later::Roll(0));
            }
            45..62 => self.partition(world, id),
            62..67 => {
                world.tell(|| "Lease API away".to_owned());
                world.tally.note(Happening::LeaseApiAway);
                world.lease_away = true;
                self.later(world, 100, 12_000, Later::LeaseBack);
            }
            67..69 => {
                world.tell(|| "Lease API throttled".to_owned());
                world.tally.note(Happening::LeaseApiThrottled);
                world.lease_throttled = true;
                self.later(world, 1_000, 12_000, Later::LeaseUnthrottled);
            }
            69..72 => {
                world.tally.note(Happening::LeaseApiCutOff);
                world.lease_cut.insert(id);
                self.later(world, 100, 12_000, Later::LeaseMend(id));
            }
            72..75 => self.lease_falls(world, LEASE_FALL_ATTEMPTS),
            75..85 if running => {
                let call = world.random.between(0, 40);
                world.machines[id].disk.crash_at(Some(call));
            }
            85..90 if running => {
                world.tell(|| format!("the disk of {id} is full"));
                world.tally.note(Happening::DiskFull);
                world.machines[id].has_bad_disk = true;
                world.machines[id].is_full = true;
                world.machines[id].disk.set_capacity(Some(0));
                self.later(world, 50, 6_000, Later::DiskRoom(id));
            }
            90..100 => {
                let waits = emphasis != Emphasis::Beyond && world.random.per_mille(600);
                self.power_loss(world, id, if waits { POWER_LOSS_ATTEMPTS } else { 0 });
            }
            _ => {}
        }
    }

    /// With attempts it waits for a whole cluster; without, it comes when it comes, and partitions may end leaderless.
    fn power_loss(&mut self, world: &mut World, id: usize, attempts: u32) {
        let outage = world.random.pick(&[Outage::PowerLoss, Outage::PowerLossOfAllUnsynced]);
        if world.may_lose_power(id) {
            world.tally.note(Happening::PowerLoss);
            self.quiet_until = world.now + ALONE_MS;
            world.excuse_sole(id);
            self.kill(world, id, outage);
        } else if attempts == 0 {
            world.tally.note(Happening::PowerLossBeyond);
            world.excuse_lost(id);
            self.kill(world, id, outage);
        } else if attempts > 1 {
            self.later(world, 50, 800, Later::PowerLoss(id, attempts - 1));
        }
    }

    /// A folder is lost only while every voter is there that anybody knows, another one has what it had of the metadata,
    /// and nobody needs the word of all of them, as whoever repairs a fallen Lease does. If partitions are to survive it,
    /// it waits for a whole cluster as a loss of power does.
    fn empty_folder(&mut self, world: &mut World, id: usize, attempts: u32) {
        let lost = world.machines[id].voter;
        let bearable = world.is_lease_newest()
            && world.settled_voters().is_some_and(|voters| voters.len() > 1 || !voters.contains(&lost));
        if bearable && world.may_lose_power(id) {
            world.tally.note(Happening::FolderEmptied);
            self.quiet_until = world.now + ALONE_MS;
        } else if bearable && world.profile.emphasis == Emphasis::Beyond {
            world.tally.note(Happening::FolderEmptiedBeyond);
        } else {
            if attempts > 1 {
                self.later(world, 50, 800, Later::EmptyFolder(id, attempts - 1));
            }
            return;
        }
        world.expect_leaderless(id);
        world.empty_folder(id);
        self.start_later(world, id);
    }

    fn cut(&mut self, world: &mut World, links: Vec<(Endpoint, Endpoint)>) {
        world.tell(|| format!("cut {links:?}"));
        let both = links.iter().any(|(from, to)| links.contains(&(*to, *from)));
        if !links.is_empty() {
            world.tally.note(if both { Happening::LinksCut } else { Happening::LinksCutOneWay });
        }
        world.cut.extend(links.iter().copied());
        self.later(world, 50, 12_000, Later::Mend(links));
    }

    fn partition(&mut self, world: &mut World, id: usize) {
        let n = world.machines.len();
        let mut links = Vec::new();
        let here = Endpoint::Broker(id);
        if world.random.per_mille(500) {
            // One broker alone, perhaps in one direction, perhaps from the clients too.
            let way = world.random.between(0, 2);
            let mut others: Vec<_> = (0..n).filter(|other| *other != id).map(Endpoint::Broker).collect();
            if world.random.per_mille(300) {
                others.extend((0..world.clients.len()).map(Endpoint::Client));
            }
            for other in others {
                if way != 1 {
                    links.push((here, other));
                }
                if way != 2 {
                    links.push((other, here));
                }
            }
        } else if world.random.per_mille(300) && n > 1 {
            // One link alone.
            let other = (id + 1 + world.random.between(0, n as u64 - 2) as usize) % n;
            links = vec![(here, Endpoint::Broker(other)), (Endpoint::Broker(other), here)];
        } else {
            let side: Vec<bool> = (0..n).map(|_| world.random.per_mille(500)).collect();
            for a in 0..n {
                for b in (0..n).filter(|b| side[a] != side[*b]) {
                    links.push((Endpoint::Broker(a), Endpoint::Broker(b)));
                }
            }
        }
        self.cut(world, links);
    }

    /// The Lease is deleted or rolled back, while every broker has seen its present voters.
    fn lease_falls(&mut self, world: &mut World, attempts: u32) {
        if world.settled_voters().is_none_or(|voters| voters.is_empty()) || !world.is_quiet() {
            if attempts > 0 {
                self.later(world, 50, 1_000, Later::LeaseFalls(attempts - 1));
            }
            return;
        }
        if world.random.per_mille(250) {
            world.tell(|| "Lease stolen".to_owned());
            world.tally.note(Happening::LeaseStolen);
            world.lease.steal();
            if let Some(view) = world.lease.read() {
                world.let_watches_see(&view);
            }
            return;
        }
        if world.random.per_mille(400) {
            world.tell(|| "Lease deleted".to_owned());
            world.tally.note(Happening::LeaseDeleted);
            world.lease.delete();
            return;
        }
        // Of earlier voters some may be gone for good: then only an administrator's word helps.
        let same_voters = world.random.per_mille(600) || world.has_lost_voters();
        let steps = world.random.between(1, 6) as usize;
        world.roll_lease_back(steps, same_voters);
    }

    /// Everything is mended.
    pub(super) fn heal(&mut self, world: &mut World) {
        world.tell(|| "healed".to_owned());
        world.healed = true;
        world.cut.clear();
        world.lease_away = false;
        world.lease_throttled = false;
        world.lease_cut.clear();
        self.later.clear();
        for id in 0..world.machines.len() {
            world.machines[id].disk.crash_at(None);
            disk_room(world, id);
            world.machines[id].has_joined = !world.machines[id].is_gone;
            world.resume(id);
            world.start(id);
        }
    }
}

/// The disk takes bytes again.
fn disk_room(world: &mut World, id: usize) {
    world.machines[id].is_full = false;
    world.machines[id].disk.set_capacity(None);
}

impl World {
    /// The broker that decides about the metadata, if one does.
    pub(super) fn controller(&self) -> Option<usize> {
        let leads = |(id, process): (usize, &Process)| process.leads().then(|| (process.member().controller.epoch, id));
        let processes = self.machines.iter().enumerate().filter_map(|(id, m)| m.process.as_ref().map(|p| (id, p)));
        processes.filter_map(leads).max().map(|(_, id)| id)
    }

    /// The voters that the Lease names, if every broker runs, knows them as the newest, and each of them is there. Of a
    /// voter set that changes nobody knows the outcome yet.
    fn settled_voters(&self) -> Option<BTreeSet<Voter>> {
        let voters: BTreeSet<Voter> = self.lease.read()?.voters.into_iter().collect();
        let mut members = self.machines.iter().filter(|machine| machine.has_joined);
        let seen = members.all(|machine| {
            machine.process.as_ref().is_some_and(|process| {
                let known = process.voter_sets();
                known.pending.is_empty() && known.newest.as_ref().is_some_and(|newest| newest.voters == voters)
            })
        });
        let is_there =
            |voter: &Voter| self.machines.iter().any(|machine| machine.has_joined && machine.voter == *voter);
        (seen && voters.iter().all(is_there)).then_some(voters)
    }

    /// Whether nothing is broken at present, as far as brokers and network go.
    fn is_quiet(&self) -> bool {
        let mut members = self.machines.iter().filter(|machine| machine.has_joined);
        self.cut.is_empty()
            && !self.lease_away
            && !self.lease_throttled
            && self.lease_cut.is_empty()
            && members.all(|machine| machine.is_running() && !machine.paused && !machine.is_full)
    }

    /// Whether every partition of several replicas survives the broker's loss of what is not synced, and remains
    /// available: the cluster is whole, and each has another replica in sync that has not lost power since it registered.
    pub(super) fn may_lose_power(&self, id: usize) -> bool {
        let (image, broker) = (&self.newest_image, BrokerId(id as i32));
        let is_safe = |other: &BrokerId| {
            let registered = image.broker(*other).map(|registered| registered.boot_id.as_str());
            *other != broker && registered == Some(self.machines[other.0 as usize].kernel().as_str())
        };
        let has_another = |isr: &[BrokerId]| !isr.contains(&broker) || isr.iter().any(is_safe);
        let members = self.machines.iter().filter(|machine| machine.has_joined).count();
        self.is_quiet()
            // What it has decided about whoever it did not hear is committed too.
            && self.controller().and_then(|id| self.machines[id].process.as_ref()).is_some_and(|process| {
                let member = process.member();
                member.commit_end == member.position.end
            })
            // Whoever serves is registered; an earlier process of it no more.
            && self.machines.iter().filter_map(|machine| machine.process.as_ref()).all(Process::serves)
            && image.brokers().filter(|broker| broker.is_active()).count() == members
            && image.partitions_on(broker).all(|(_, _, p)| p.replicas.len() == 1 || has_another(&p.isr))
    }

    /// From now on partitions of the broker may lack a leader for ever: it may be the last that had everything. Those of
    /// which it has the only replica may lose records, since it leads them again whatever it has lost.
    pub(super) fn excuse_lost(&mut self, id: usize) {
        self.expect_leaderless(id);
        self.excuse_sole(id);
    }

    /// From now on partitions of which the broker has the only replica may lose records.
    fn excuse_sole(&mut self, id: usize) {
        let image = Arc::clone(&self.newest_image);
        for (key, topic, partition) in image.partitions_on(BrokerId(id as i32)) {
            // Another that is only being added may be taken away again.
            if partition.replicas.len() - partition.adding.len() <= 1 {
                let key = ReplicaKey { topic: key.topic, partition: key.partition };
                self.may_be_leaderless.insert(key);
                if !topic.overrides.contains_key("flush.messages") {
                    self.oracle.records.excuse(key);
                }
            }
        }
    }

    /// From now on partitions of the broker may lack a leader for ever.
    fn expect_leaderless(&mut self, id: usize) {
        let image = Arc::clone(&self.newest_image);
        let keys = image.partitions_on(BrokerId(id as i32)).map(|(key, _, _)| key);
        self.may_be_leaderless.extend(keys.map(|key| ReplicaKey { topic: key.topic, partition: key.partition }));
    }
}
