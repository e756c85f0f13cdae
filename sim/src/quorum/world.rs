// SPDX-License-Identifier: Apache-2.0
//! Brokers, network, Lease API and time of a run, and how effects of members become events. Knows no faults' reasons:
//! [`super::run`] decides what breaks when.

mod lease_calls;

use std::collections::{BTreeMap, BTreeSet};

use lease_calls::LeaseRequest;
pub(super) use lease_calls::Throttling;
use odradek_coordination::quorum::{
    AppendError, Effect, Input, KnownBroker, MemberStatus, Message, QuorumMember, QuorumSettings, QuorumStorage,
    VoterSets,
};
use odradek_coordination::{Holder, Voter};
use odradek_disk::Outage;
use odradek_model::{BrokerId, DirectoryId, Offset};
use uuid::Uuid;

use super::store::{Storage, Store};
use super::{Happening, LeaseApi, Oracle, Planted, Profile, Tally, Violation};
use crate::Random;

/// A process of a broker.
#[derive(Debug)]
struct Process {
    member: QuorumMember<Storage>,
    holder: Holder,
    /// Up to where its committed records were compared.
    compared: Offset,
    leads: bool,
    /// Whether it knows that the Lease has fallen.
    found_fallen: bool,
    /// The next wake-up that was scheduled.
    wake_at: u64,
}

/// A broker: a disk, and perhaps a process.
#[derive(Debug)]
pub(super) struct Broker {
    pub(super) id: BrokerId,
    pub(super) voter: Voter,
    store: Store,
    process: Option<Process>,
    /// Counts processes; events for an earlier one are void.
    pub(super) boot: u64,
    /// A paused process gets what waits for it when it goes on.
    pub(super) paused: bool,
    waiting: Vec<Input>,
    /// It was asked to stop cleanly, and never leads again.
    pub(super) stopping: bool,
}

impl Broker {
    pub(super) fn is_running(&self) -> bool {
        self.process.is_some()
    }
}

/// Trouble for one broker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Trouble {
    Kill,
    Pause,
    CutOff,
    /// It has died; it comes back.
    Start,
}

#[derive(Debug)]
enum Event {
    Input {
        broker: usize,
        boot: u64,
        input: Input,
    },
    /// A message at the door: whether anybody is there decides itself only then.
    Deliver {
        from: usize,
        from_boot: u64,
        to: usize,
        message: Message,
    },
    ProbeArrives {
        broker: usize,
        boot: u64,
        target: usize,
    },
    LeaseCallArrives(LeaseRequest),
    Wake {
        broker: usize,
        boot: u64,
    },
}

/// See the module.
#[derive(Debug)]
pub(super) struct World {
    pub(super) now: u64,
    pub(super) random: Random,
    pub(super) profile: Profile,
    pub(super) brokers: Vec<Broker>,
    pub(super) lease: LeaseApi,
    pub(super) oracle: Oracle,
    /// Links that carry nothing, from and to.
    pub(super) cut: BTreeSet<(usize, usize)>,
    pub(super) lease_away: bool,
    /// Brokers that cannot reach the Lease API.
    pub(super) lease_cut: BTreeSet<usize>,
    pub(super) throttling: Option<Throttling>,
    pub(super) healed: bool,
    pub(super) violation: Option<Violation>,
    /// What happened, if wanted; else only its hash.
    pub(super) story: Option<Vec<String>>,
    pub(super) hash: u64,
    pub(super) events: u64,
    pub(super) tally: Tally,
    /// Aimed trouble, and after how long.
    pub(super) troubles: Vec<(u64, usize, Trouble)>,
    queue: BTreeMap<(u64, u64), Event>,
    next_event: u64,
    next_directory: u128,
    next_record: u64,
}

impl World {
    pub(super) fn new(seed: u64, profile: Profile, tell: bool) -> Self {
        let mut lease = LeaseApi::new();
        lease.without_compare_and_set = profile.planted == Some(Planted::LeaseWithoutCompareAndSet);
        let mut world = Self {
            now: 0,
            random: Random::new(seed),
            brokers: Vec::new(),
            lease,
            oracle: Oracle::default(),
            cut: BTreeSet::new(),
            lease_away: false,
            lease_cut: BTreeSet::new(),
            throttling: None,
            healed: false,
            violation: None,
            story: tell.then(Vec::new),
            hash: 0xcbf2_9ce4_8422_2325,
            events: 0,
            tally: Tally::default(),
            troubles: Vec::new(),
            queue: BTreeMap::new(),
            next_event: 0,
            next_directory: 0,
            next_record: 0,
            profile,
        };
        for id in 0..world.profile.brokers {
            let (voter, store) = (world.new_voter(id), world.new_store());
            world.brokers.push(Broker {
                id: BrokerId(id as i32),
                voter,
                store,
                process: None,
                boot: 0,
                paused: false,
                waiting: Vec::new(),
                stopping: false,
            });
        }
        for id in 0..world.profile.brokers {
            world.start(id);
        }
        world
    }

    fn new_voter(&mut self, id: usize) -> Voter {
        self.next_directory += 1;
        Voter { broker_id: BrokerId(id as i32), directory_id: DirectoryId(Uuid::from_u128(self.next_directory)) }
    }

    fn new_store(&mut self) -> Store {
        if self.profile.real_log { Store::log(self.random.number()) } else { Store::memory() }
    }

    /// What the broker keeps of the voters.
    pub(super) fn voter_sets(&self, id: usize) -> VoterSets {
        match &self.brokers[id].process {
            Some(process) => process.member.storage().voter_sets().clone(),
            None => self.brokers[id].store.voter_sets(),
        }
    }

    pub(super) fn tell(&mut self, line: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            story.push(format!("{:>7} {}", self.now, line()));
        }
    }

    fn mix(&mut self, number: u64) {
        self.hash = (self.hash ^ number).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(17);
    }

    fn schedule(&mut self, after_ms: u64, event: Event) {
        self.next_event += 1;
        self.queue.insert((self.now + after_ms, self.next_event), event);
    }

    // === processes ===

    pub(super) fn start(&mut self, id: usize) {
        if self.brokers[id].is_running() {
            return;
        }
        let seed = self.random.number();
        let known: Vec<_> = (0..self.profile.brokers)
            .map(|id| KnownBroker {
                broker_id: BrokerId(id as i32),
                rack: Some(format!("rack-{}", id % 3)),
                registered_folder: None,
            })
            .collect();
        let broker = &mut self.brokers[id];
        broker.boot += 1;
        broker.paused = false;
        broker.stopping = false;
        broker.waiting.clear();
        let boot = broker.boot;
        let holder = Holder { broker_id: broker.id, incarnation: format!("{boot}") };
        let storage = broker.store.open();
        let compared = storage.start().end;
        let settings = QuorumSettings {
            session_ms: self.profile.session_ms,
            replace_voter_after_ms: self.profile.replace_voter_after_ms,
            max_answer_bytes: self.profile.max_answer_bytes,
            // In a short history nobody is to miss much of the time in which the Lease answers.
            unread_lease_pause_max_ms: QuorumSettings::default().retry_ms,
            ..QuorumSettings::default()
        };
        let mut member = QuorumMember::new(settings, holder.clone(), broker.voter, storage, seed);
        if let Some(Planted::Member(bug)) = self.profile.planted {
            member.plant(bug);
        }
        broker.process =
            Some(Process { member, holder, compared, leads: false, found_fallen: false, wake_at: u64::MAX });
        self.tell(|| format!("start {id}"));
        let loading = self.random.between(0, 200);
        self.schedule(0, Event::Input { broker: id, boot, input: Input::Brokers(known) });
        self.schedule(loading, Event::Input { broker: id, boot, input: Input::ImageLoaded });
    }

    /// kill -9: the peers' connections break.
    pub(super) fn kill(&mut self, id: usize) {
        let Some(process) = self.brokers[id].process.take() else { return };
        self.tell(|| format!("kill {id}"));
        self.tally.note(Happening::Killed);
        if self.lease.read().is_some_and(|view| view.holder.as_ref() == Some(&process.holder)) {
            self.tally.note(Happening::HolderKilled);
        }
        let outage = self.random.pick(&[Outage::ProcessDeath, Outage::PowerLoss, Outage::PowerLossOfAllUnsynced]);
        self.brokers[id].store.outage(outage);
        self.brokers[id].paused = false;
        for other in 0..self.brokers.len() {
            if other != id && !self.cut.contains(&(id, other)) {
                let after = self.random.between(1, 5);
                self.connection_lost(other, id, after);
            }
        }
    }

    fn connection_lost(&mut self, broker: usize, peer: usize, after_ms: u64) {
        let boot = self.brokers[broker].boot;
        let input = Input::ConnectionLost(BrokerId(peer as i32));
        self.schedule(after_ms, Event::Input { broker, boot, input });
    }

    /// A new folder, so another voter (rule 9).
    pub(super) fn empty_folder(&mut self, id: usize) {
        self.kill(id);
        self.tell(|| format!("empty {id}"));
        self.tally.note(Happening::FolderEmptied);
        if self.profile.planted != Some(Planted::EmptiedFolderKeepsIdentity) {
            self.brokers[id].voter = self.new_voter(id);
        }
        self.brokers[id].store = self.new_store();
    }

    pub(super) fn pause(&mut self, id: usize) {
        self.tell(|| format!("pause {id}"));
        self.tally.note(Happening::Paused);
        self.brokers[id].paused = true;
    }

    pub(super) fn resume(&mut self, id: usize) {
        if !std::mem::take(&mut self.brokers[id].paused) {
            return;
        }
        self.tell(|| format!("resume {id}"));
        let boot = self.brokers[id].boot;
        for input in std::mem::take(&mut self.brokers[id].waiting) {
            self.schedule(0, Event::Input { broker: id, boot, input });
        }
        self.schedule(0, Event::Input { broker: id, boot, input: Input::Tick });
    }

    pub(super) fn status(&self, id: usize) -> Option<MemberStatus> {
        self.brokers[id].process.as_ref().map(|process| process.member.status())
    }

    /// Lets a leader append; whether somebody did.
    pub(super) fn append(&mut self, id: usize) -> Option<Offset> {
        self.next_record += 1;
        let record = self.next_record;
        let now = self.now;
        let broker = &mut self.brokers[id];
        if broker.paused {
            return None;
        }
        let process = broker.process.as_mut()?;
        match process.member.append(now, &[record]) {
            Ok((end, effects)) => {
                self.carry_out(id, effects);
                Some(end)
            }
            Err(AppendError::NotController) => None,
            Err(AppendError::Storage(error)) => {
                let effects = process.member.take_effects();
                if !broker.store.is_crashed() {
                    self.violation = Some(Violation(format!("an append failed: {error}")));
                }
                self.carry_out(id, effects);
                None
            }
        }
    }

    pub(super) fn compact(&mut self, id: usize) {
        let broker = &mut self.brokers[id];
        let Some(process) = broker.process.as_mut().filter(|_| !broker.paused) else { return };
        let committed = process.member.status().commit_end;
        if let Err(error) = process.member.storage_mut().compact(committed) {
            assert!(broker.store.is_crashed(), "a snapshot failed: {error}");
            self.kill_in_the_middle(id);
            return;
        }
        self.tally.note(Happening::SnapshotMade);
    }

    /// The process dies in the middle of one of the next changes to its disk.
    pub(super) fn crash_soon(&mut self, id: usize) {
        let call = self.random.between(0, 7);
        if self.brokers[id].is_running() {
            self.brokers[id].store.crash_at(call);
        }
    }

    /// Nobody hears of what it was about to do.
    fn kill_in_the_middle(&mut self, id: usize) {
        self.tell(|| format!("crash {id}"));
        self.tally.note(Happening::CrashedInCall);
        self.troubles.push((0, id, Trouble::Start));
        self.kill(id);
    }

    pub(super) fn stop_cleanly(&mut self, id: usize) {
        if !self.brokers[id].is_running() {
            return;
        }
        self.tell(|| format!("clean stop of {id}"));
        self.tally.note(Happening::StoppedCleanly);
        self.brokers[id].stopping = true;
        self.input(id, Input::Resign);
    }

    pub(super) fn input(&mut self, id: usize, input: Input) {
        let boot = self.brokers[id].boot;
        self.schedule(0, Event::Input { broker: id, boot, input });
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
                let due = self.brokers[broker].process.as_mut().is_some_and(|process| {
                    let due = process.wake_at <= at;
                    if due {
                        process.wake_at = u64::MAX;
                    }
                    due
                });
                if due {
                    self.give(broker, boot, Input::Tick);
                }
            }
            Event::Deliver { from, from_boot, to, message } => {
                if self.cut.contains(&(from, to)) {
                    return;
                }
                if self.brokers[to].is_running() {
                    let boot = self.brokers[to].boot;
                    self.give(to, boot, Input::Received(message));
                } else if self.brokers[from].boot == from_boot && !self.cut.contains(&(to, from)) {
                    self.connection_lost(from, to, 1);
                }
            }
            Event::ProbeArrives { broker, boot, target } => {
                let reached = self.brokers[target].is_running()
                    && !self.cut.contains(&(broker, target))
                    && !self.cut.contains(&(target, broker));
                self.give(broker, boot, Input::Probed(BrokerId(target as i32), reached));
            }
            Event::LeaseCallArrives(request) => self.lease_call_arrives(request),
        }
    }

    fn give(&mut self, id: usize, boot: u64, input: Input) {
        let broker = &mut self.brokers[id];
        if broker.boot != boot || !broker.is_running() {
            return;
        }
        if broker.paused {
            if !matches!(input, Input::Tick) {
                broker.waiting.push(input);
            }
            return;
        }
        if self.story.is_some() && !matches!(input, Input::Tick | Input::Brokers(_)) {
            let line = format!("{id} <- {}", brief(&format!("{input:?}")));
            self.tell(|| line);
        }
        let now = self.now;
        let Some(process) = &mut self.brokers[id].process else { return };
        let effects = process.member.handle(now, input);
        let fallen = process.member.status().lease_is_fallen;
        let known = std::mem::replace(&mut process.found_fallen, fallen);
        if fallen && !known {
            self.tally.note(Happening::LeaseFoundFallen);
        }
        self.carry_out(id, effects);
    }

    fn carry_out(&mut self, id: usize, effects: Vec<Effect>) {
        if self.brokers[id].store.is_crashed() {
            self.kill_in_the_middle(id);
            return;
        }
        for effect in effects {
            self.effect(id, effect);
        }
        let now = self.now;
        let Broker { process: Some(process), boot, .. } = &mut self.brokers[id] else { return };
        let (boot, wake_at) = (*boot, process.member.wake_at().max(now + 1));
        if wake_at < process.wake_at {
            process.wake_at = wake_at;
            self.schedule(wake_at - now, Event::Wake { broker: id, boot });
        }
    }

    fn effect(&mut self, id: usize, effect: Effect) {
        if !self.brokers[id].is_running() {
            return;
        }
        let boot = self.brokers[id].boot;
        match effect {
            Effect::Send(to, message) => self.send(id, boot, to.0 as usize, message),
            Effect::Probe(target) => {
                let after = self.random.between(1, 20);
                self.schedule(after, Event::ProbeArrives { broker: id, boot, target: target.0 as usize });
            }
            Effect::ReadLease(call) => self.read_lease(id, boot, call),
            Effect::WriteLease { call, base, change } => self.write_lease(id, boot, call, base, change),
            Effect::Committed(end) => self.committed(id, end),
            Effect::Leading { epoch, .. } => {
                self.tell(|| format!("{id} leads epoch {epoch}"));
                self.tally.note(Happening::Led);
                if let Some(process) = &mut self.brokers[id].process {
                    process.leads = true;
                    let holder = process.holder.clone();
                    self.check(|oracle| oracle.lead(&holder, epoch));
                }
            }
            Effect::SteppedDown(epoch) => {
                self.tell(|| format!("{id} leads epoch {epoch} no more"));
                self.tally.note(Happening::SteppedDown);
                if let Some(process) = &mut self.brokers[id].process {
                    process.leads = false;
                }
            }
            Effect::ReloadImage => self.tally.note(Happening::SnapshotInstalled),
            Effect::Resigned => self.tally.note(Happening::Resigned),
            Effect::Stop(reason) => self.violation = Some(Violation(format!("broker {id} stopped: {reason}"))),
        }
    }

    fn check(&mut self, check: impl FnOnce(&mut Oracle) -> Result<(), Violation>) {
        if let Err(violation) = check(&mut self.oracle) {
            self.violation.get_or_insert(violation);
        }
    }

    fn committed(&mut self, id: usize, end: Offset) {
        let Some(process) = &mut self.brokers[id].process else { return };
        let storage = process.member.storage_mut();
        assert!(end <= storage.position().end, "a broker applies only what it has");
        storage.committed(end);
        // What came in a snapshot was compared where that was made.
        let from = std::mem::replace(&mut process.compared, end).max(storage.start().end).min(end);
        let holder = process.holder.clone();
        let records = storage.numbers(from, end);
        self.mix(end as u64);
        self.tell(|| format!("{id} committed {end}"));
        self.check(|oracle| oracle.commit(&holder, from, &records));
    }

    fn send(&mut self, from: usize, from_boot: u64, to: usize, message: Message) {
        if to >= self.brokers.len() {
            return;
        }
        let (loss, delay) = if self.healed { (0, 0) } else { (self.profile.loss, self.profile.delay) };
        if self.random.per_mille(loss) {
            self.tally.note(Happening::MessageLost);
            return;
        }
        let after = if self.random.per_mille(delay) {
            self.tally.note(Happening::MessageLate);
            self.random.between(50, 8_000)
        } else {
            self.random.between(1, 4)
        };
        if self.random.per_mille(loss / 4) {
            self.tally.note(Happening::MessageRepeated);
            let again = after + self.random.between(1, 2_000);
            self.schedule(again, Event::Deliver { from, from_boot, to, message: message.clone() });
        }
        self.schedule(after, Event::Deliver { from, from_boot, to, message });
    }
}

/// Long numbers of folders shortened.
fn brief(text: &str) -> String {
    text.replace("00000000-0000-0000-0000-0000000000", "")
}
