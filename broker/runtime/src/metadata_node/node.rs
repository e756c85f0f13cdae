// SPDX-License-Identifier: Apache-2.0
//! The metadata of one broker as one state machine: its part in the quorum, the image of what is committed, and, while
//! it leads, the active controller. Inputs and time in, effects out; it must not know threads, sockets or clocks.
//!
//! One queue holds the quorum's effects until each is worked off, those that an append brings behind those that were
//! there: so replies never overtake the commit that they wait for, and what a controller decided after it was deposed is
//! refused by the quorum's append. Every ticket gets exactly one answer.
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use odradek_coordination::quorum::{
    self, AppendError, KnownBroker, LeaseCall, MemberStatus, Message, QuorumMember, QuorumSettings, QuorumStorage,
};
use odradek_coordination::{Holder, LeaseChange, LeaseView, Voter};
use odradek_metadata::{
    self as metadata, ActiveController, Command, ControllerSettings, Heartbeat, Image, Probe,
    REPLICATION_FEATURE_LEVEL, Record, Ticket, UpdateFeatureLevel, bootstrap,
};
use odradek_model::{BrokerId, ClusterId, ControllerEpoch, Timestamp};
use odradek_server::controller::{ControllerUnavailable, Decided, HeartbeatAnswer};

use super::storage::{QuorumLog, QuorumLogError};

/// The name of commands that the node gives itself; nobody waits for their answers.
const OWN_TICKET: Ticket = Ticket::MAX;

/// What the node is told.
#[derive(Debug)]
pub enum Input {
    /// Something for the quorum.
    Quorum(quorum::Input),
    /// A command to decide, under a name that comes once.
    Command(Ticket, Command),
    /// A broker is alive.
    Heartbeat(Ticket, Heartbeat),
    /// A connection with the broker was refused or reset.
    ConnectionLost(BrokerId),
    /// How a probe of the sessions ended.
    ProbeFinished(Probe, bool),
    /// The time of [`MetadataNode::wake_at`] has come.
    Tick,
}

/// What the node wants done, in this order.
#[derive(Debug)]
pub enum Effect {
    /// See [`quorum::Effect::ReadLease`].
    ReadLease(LeaseCall),
    /// See [`quorum::Effect::WriteLease`].
    WriteLease { call: LeaseCall, base: Option<LeaseView>, change: LeaseChange },
    /// See [`quorum::Effect::Send`].
    Send(BrokerId, Message),
    /// See [`quorum::Effect::Probe`].
    ProbeMember(BrokerId),
    /// Ask the broker whether it still accepts connections; the answer is [`Input::ProbeFinished`].
    ProbeBroker(Probe),
    /// A new image of what is committed.
    Publish(Arc<Image>),
    /// The answer to a command.
    Reply(Ticket, Result<Decided, ControllerUnavailable>),
    /// The answer to a heartbeat.
    HeartbeatReply(Ticket, Result<HeartbeatAnswer, ControllerUnavailable>),
    /// A controller is heard: an order to recover without voters is carried out, or was not needed.
    OrderIsOver,
    /// A clean stop is through.
    Resigned,
    /// Stop the process. Nothing follows but refusals.
    Stop(String),
}

/// Time and chance of one input.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Monotonic milliseconds.
    pub now_ms: u64,
    /// The time of day.
    pub wall_ms: Timestamp,
    /// Random: where placement begins.
    pub seed: u64,
}

/// Who a node is.
#[derive(Debug)]
pub struct NodeIdentity {
    /// Its cluster.
    pub cluster_id: ClusterId,
    /// Its process, as the Lease names it.
    pub holder: Holder,
    /// Its broker and data folder.
    pub voter: Voter,
    /// The brokers of the configuration, this one included.
    pub brokers: Vec<KnownBroker>,
}

/// What a node goes by.
#[derive(Debug)]
pub struct NodeSettings {
    /// Times and sizes of the quorum.
    pub quorum: QuorumSettings,
    /// What the controller's decisions depend on.
    pub controller: ControllerSettings,
    /// After so long without a heartbeat a broker is fenced.
    pub session_timeout_ms: i64,
}

/// What waits for an answer.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Command { registers: bool },
    Heartbeat,
}

#[derive(Debug)]
struct Active {
    epoch: ControllerEpoch,
    controller: ActiveController,
}

/// See the module.
#[derive(Debug)]
pub struct MetadataNode {
    identity: NodeIdentity,
    settings: NodeSettings,
    member: QuorumMember<QuorumLog>,
    /// Of what is committed (coordination rule 11).
    image: Image,
    active: Option<Active>,
    /// The controller before the newest one.
    former: Option<BrokerId>,
    /// By ticket. Bounded by the places for commands, and by what the controller lets wait.
    asked: BTreeMap<Ticket, Asked>,
    /// What the quorum was told last.
    known_brokers: Vec<KnownBroker>,
    /// When a connection with a broker was lost last: a new controller asks whether those are alive.
    lost: BTreeMap<BrokerId, u64>,
    from_quorum: VecDeque<quorum::Effect>,
    out: Vec<Effect>,
    moment: Moment,
    /// Whether there is an order to recover without voters.
    is_ordered: bool,
    stopped: bool,
}

impl MetadataNode {
    /// A node over an opened log. Feed it [`Input::Tick`] at once.
    ///
    /// # Errors
    /// [`QuorumLogError`]
    pub fn new(
        identity: NodeIdentity,
        settings: NodeSettings,
        log: QuorumLog,
        random_seed: u64,
    ) -> Result<Self, QuorumLogError> {
        let image = log.committed_image()?;
        let (quorum, me, voter) = (settings.quorum.clone(), identity.holder.clone(), identity.voter);
        let mut node = Self {
            identity,
            settings,
            member: QuorumMember::new(quorum, me, voter, log, random_seed),
            image,
            active: None,
            former: None,
            asked: BTreeMap::new(),
            known_brokers: Vec::new(),
            lost: BTreeMap::new(),
            from_quorum: VecDeque::new(),
            out: Vec::new(),
            moment: Moment { now_ms: 0, wall_ms: 0, seed: 0 },
            is_ordered: false,
            stopped: false,
        };
        node.tell_brokers();
        // The image is that of the disk, so there is nothing to wait for (rule 1e).
        node.tell(quorum::Input::ImageLoaded);
        Ok(node)
    }

    /// An administrator's order: if the metadata have to be recovered, then without these voters, who are gone for good
    /// (coordination rule 10). Before the first input; it stands until a controller is heard.
    pub fn recover_without(&mut self, voters: BTreeSet<Voter>) {
        self.is_ordered = true;
        self.tell(quorum::Input::RecoverWithout(voters));
    }

    /// Takes in what happened and says what is to be done. The monotonic time never goes back.
    pub fn handle(&mut self, moment: Moment, input: Input) -> Vec<Effect> {
        self.moment = moment;
        match input {
            _ if self.stopped => self.refuse_input(&input),
            Input::Quorum(input) => self.tell(input),
            Input::Command(ticket, command) => self.command(ticket, command),
            Input::Heartbeat(ticket, heartbeat) => {
                self.asked.insert(ticket, Asked::Heartbeat);
                if !self.control(metadata::Event::Heartbeat(ticket, heartbeat)) {
                    self.refuse(ticket, None);
                }
            }
            Input::ConnectionLost(broker) => {
                self.lost.insert(broker, moment.now_ms);
                self.lost.retain(|_, at| *at + self.settings.quorum.session_ms >= moment.now_ms);
                self.tell(quorum::Input::ConnectionLost(broker));
                self.control(metadata::Event::ConnectionLost(broker));
            }
            Input::ProbeFinished(probe, answered) => {
                self.control(metadata::Event::ProbeFinished { probe, answered });
            }
            Input::Tick => {
                if self.member.wake_at() <= moment.now_ms {
                    self.tell(quorum::Input::Tick);
                }
                let due = self.active.as_ref().is_some_and(|active| active.controller.next_tick() <= self.now());
                if due {
                    self.control(metadata::Event::Tick { placement_seed: moment.seed });
                }
            }
        }
        self.work_off();
        std::mem::take(&mut self.out)
    }

    /// When to send [`Input::Tick`] at the latest.
    pub fn wake_at(&self) -> u64 {
        let tick = self.active.as_ref().map_or(i64::MAX, |active| active.controller.next_tick());
        self.member.wake_at().min(u64::try_from(tick).unwrap_or(0))
    }

    /// Switches a mistake of the quorum on.
    #[cfg(feature = "planted-bugs")]
    pub fn plant(&mut self, bug: quorum::PlantedBug) {
        self.member.plant(bug);
    }

    /// What this broker's disk says of the voters.
    pub fn voter_sets(&self) -> &quorum::VoterSets {
        self.member.storage().voter_sets()
    }

    /// What the quorum's member is and knows.
    pub fn member(&self) -> MemberStatus {
        self.member.status()
    }

    /// Whether this broker decides.
    pub fn leads(&self) -> bool {
        self.active.is_some()
    }

    /// The image of what is committed and known to be so.
    #[cfg(test)]
    pub fn image(&self) -> &Image {
        &self.image
    }

    fn now(&self) -> metadata::MonotonicMs {
        self.moment.now_ms as i64
    }

    // === asking the two machines ===

    fn tell(&mut self, input: quorum::Input) {
        let effects = self.member.handle(self.moment.now_ms, input);
        self.from_quorum.extend(effects);
    }

    /// Has the active controller work off an event; whether there is one.
    fn control(&mut self, event: metadata::Event) -> bool {
        let (now, wall_ms) = (self.now(), self.moment.wall_ms);
        let Some(active) = &mut self.active else { return false };
        let effects = active.controller.handle(event, now, wall_ms);
        self.carry_out(effects);
        true
    }

    fn command(&mut self, ticket: Ticket, command: Command) {
        let mut registers = false;
        if let Command::RegisterBroker(registration) = &command {
            registers = true;
            // Only the process that has the folder's lock registers it, so the earlier process in the folder is over.
            let is_new = self.active.as_ref().is_some_and(|active| {
                let before = active.controller.image().broker(registration.broker_id);
                before.is_some_and(|before| {
                    before.directory_id == registration.directory_id && before.incarnation != registration.incarnation
                })
            });
            if is_new {
                self.control(metadata::Event::BrokerReplaced(registration.broker_id));
            }
        }
        self.asked.insert(ticket, Asked::Command { registers });
        if !self.control(metadata::Event::Command(ticket, command)) {
            self.refuse(ticket, None);
        }
    }

    // === what the controller wants ===

    fn carry_out(&mut self, effects: Vec<metadata::Effect>) {
        let epoch = self.active.as_ref().map_or(0, |active| active.epoch);
        for effect in effects {
            match effect {
                metadata::Effect::Append(records) => {
                    if !self.append(&records) {
                        // What follows was decided on records that are not there.
                        return;
                    }
                }
                metadata::Effect::Reply(ticket, reply) => {
                    let registered = matches!(self.asked.remove(&ticket), Some(Asked::Command { registers: true }));
                    if ticket == OWN_TICKET {
                        tracing::info!(?reply, "raised the feature level of an older log");
                    } else {
                        let end = self.image.end_offset();
                        self.out.push(Effect::Reply(ticket, Ok(Decided { reply, epoch, end })));
                    }
                    if registered {
                        self.raise_feature_level();
                    }
                }
                metadata::Effect::HeartbeatReply(ticket, reply) => {
                    self.asked.remove(&ticket);
                    self.out.push(Effect::HeartbeatReply(ticket, Ok((epoch, reply))));
                }
                metadata::Effect::Busy(ticket) => self.refuse(ticket, Some(ControllerUnavailable::Busy)),
                metadata::Effect::Probe(probe) => self.out.push(Effect::ProbeBroker(probe)),
            }
        }
    }

    /// Appends what the controller decided; if that fails, its image is ahead of the log and it is done.
    fn append(&mut self, records: &[Record]) -> bool {
        match self.member.append(self.moment.now_ms, records) {
            Ok((_, effects)) => {
                self.from_quorum.extend(effects);
                true
            }
            Err(error) => {
                self.from_quorum.extend(self.member.take_effects());
                let epoch = self.active.as_ref().map(|active| active.epoch);
                self.drop_active();
                match error {
                    AppendError::NotController => {}
                    AppendError::Storage(error) => {
                        tracing::error!(%error, "the controller's decision was not written");
                        if let Some(epoch) = epoch.filter(|_| !quorum::StorageError::is_fatal(&error)) {
                            self.begin_again(epoch);
                        }
                    }
                }
                false
            }
        }
    }

    // === what the quorum wants ===

    fn work_off(&mut self) {
        while let Some(effect) = self.from_quorum.pop_front() {
            match effect {
                quorum::Effect::ReadLease(call) => self.out.push(Effect::ReadLease(call)),
                quorum::Effect::WriteLease { call, base, change } => {
                    self.out.push(Effect::WriteLease { call, base, change });
                }
                quorum::Effect::Send(to, message) => self.out.push(Effect::Send(to, message)),
                quorum::Effect::Probe(broker) => self.out.push(Effect::ProbeMember(broker)),
                quorum::Effect::Committed(end) => self.committed(end),
                quorum::Effect::ReloadImage => match self.member.storage().committed_image() {
                    Ok(image) => self.image = image,
                    Err(error) => self.stop(error.to_string()),
                },
                quorum::Effect::Leading { epoch, recovered_without } => self.lead(epoch, &recovered_without),
                quorum::Effect::SteppedDown(epoch) => {
                    if self.active.as_ref().is_some_and(|active| active.epoch <= epoch) {
                        self.drop_active();
                    }
                }
                quorum::Effect::Resigned => self.out.push(Effect::Resigned),
                quorum::Effect::Stop(reason) => self.stop(reason),
            }
        }
    }

    fn committed(&mut self, end: odradek_model::Offset) {
        // An epoch record is a batch of its own; what stands before the last one says who led before.
        for end in [end - 1, end] {
            let before = self.image.controller().map(|controller| (controller.broker_id, controller.epoch));
            if let Err(error) = self.member.storage().apply(&mut self.image, end) {
                self.stop(format!("the metadata log: {error}"));
                return;
            }
            let epoch = self.image.controller().map(|controller| controller.epoch);
            if before.map(|(_, epoch)| epoch) != epoch {
                self.former = before.map(|(broker, _)| broker);
            }
        }
        if let Err(error) = self.member.storage_mut().write_snapshot_if_due(&self.image) {
            if quorum::StorageError::is_fatal(&error) {
                self.stop(format!("the metadata log: {error}"));
                return;
            }
            tracing::warn!(%error, "no snapshot of the metadata could be written; the log goes on growing");
        }
        self.out.push(Effect::Publish(Arc::new(self.image.clone())));
        if std::mem::take(&mut self.is_ordered) {
            self.tell(quorum::Input::RecoverWithout(BTreeSet::new()));
            self.out.push(Effect::OrderIsOver);
        }
        self.tell_brokers();
        // A deposed controller's image need not reach so far.
        if self.active.as_ref().is_some_and(|active| end <= active.controller.image().end_offset()) {
            self.control(metadata::Event::Committed(end));
        }
    }

    /// This broker leads; everything in its log is committed (rule 4).
    fn lead(&mut self, epoch: ControllerEpoch, recovered_without: &BTreeSet<Voter>) {
        if !recovered_without.is_empty() {
            let voters: Vec<_> = recovered_without.iter().map(ToString::to_string).collect();
            tracing::warn!(
                epoch,
                voters = voters.join(", "),
                "recovered the metadata without these voters: every partition waits for an election"
            );
        }
        if let Some(found) = self.image.cluster_id()
            && *found != self.identity.cluster_id
        {
            let ours = &self.identity.cluster_id;
            self.stop(format!("the metadata log belongs to cluster {found}, not to {ours}"));
            return;
        }
        self.drop_active();
        self.begin_again(epoch);
        let mut suspects: BTreeSet<_> = self.lost.keys().copied().chain(self.former).collect();
        suspects.remove(&self.identity.holder.broker_id);
        for broker in suspects {
            self.control(metadata::Event::ConnectionLost(broker));
        }
    }

    /// A controller over the whole log, which ends where the quorum's member says.
    fn begin_again(&mut self, epoch: ControllerEpoch) {
        let mut image = self.image.clone();
        let end = self.member.storage().position().end;
        if let Err(error) = self.member.storage().apply(&mut image, end) {
            self.stop(format!("the metadata log: {error}"));
            return;
        }
        let records = bootstrap(&image, &self.identity.cluster_id);
        if !records.is_empty() {
            for record in &records {
                image.apply_mut(epoch, record).expect("the first records of a log fit the empty image");
            }
            match self.member.append(self.moment.now_ms, &records) {
                Ok((_, effects)) => self.from_quorum.extend(effects),
                Err(error) => {
                    tracing::error!(%error, "the first records of the metadata log were not written");
                    self.from_quorum.extend(self.member.take_effects());
                    return;
                }
            }
        }
        let (committed, settings, timeout) =
            (self.image.end_offset(), self.settings.controller.clone(), self.settings.session_timeout_ms);
        let controller = ActiveController::new(epoch, image, committed, settings, timeout, self.now());
        self.active = Some(Active { epoch, controller });
        tracing::info!(epoch, end, "deciding about the metadata");
        self.raise_feature_level();
    }

    /// A log of an older version gets the level at which brokers replicate, once all brokers understand it.
    fn raise_feature_level(&mut self) {
        let Some(active) = &self.active else { return };
        let image = active.controller.image();
        let understood = image.brokers().all(|broker| broker.supported_feature_level >= REPLICATION_FEATURE_LEVEL);
        if image.feature_level() < REPLICATION_FEATURE_LEVEL && understood {
            let command = UpdateFeatureLevel { level: REPLICATION_FEATURE_LEVEL, validate_only: false };
            self.control(metadata::Event::Command(OWN_TICKET, Command::UpdateFeatureLevel(command)));
        }
    }

    // === the end of control and of the node ===

    /// Whoever waits is told that this broker is not the controller.
    fn drop_active(&mut self) {
        if self.active.take().is_some() {
            for ticket in self.asked.keys().copied().collect::<Vec<_>>() {
                self.refuse(ticket, None);
            }
        }
    }

    /// Answers a ticket with an error, by default that this broker is not the controller.
    fn refuse(&mut self, ticket: Ticket, error: Option<ControllerUnavailable>) {
        let known = self.member.status().controller;
        let error = error.unwrap_or(ControllerUnavailable::NotController {
            controller: known.holder.map(|holder| holder.broker_id),
            epoch: known.epoch,
        });
        match self.asked.remove(&ticket) {
            Some(Asked::Command { .. }) => self.out.push(Effect::Reply(ticket, Err(error))),
            Some(Asked::Heartbeat) => self.out.push(Effect::HeartbeatReply(ticket, Err(error))),
            None => {}
        }
    }

    fn refuse_input(&mut self, input: &Input) {
        match input {
            Input::Command(ticket, _) => {
                self.asked.insert(*ticket, Asked::Command { registers: false });
                self.refuse(*ticket, Some(ControllerUnavailable::Stopped));
            }
            Input::Heartbeat(ticket, _) => {
                self.asked.insert(*ticket, Asked::Heartbeat);
                self.refuse(*ticket, Some(ControllerUnavailable::Stopped));
            }
            Input::Quorum(_) | Input::ConnectionLost(_) | Input::ProbeFinished(..) | Input::Tick => {}
        }
    }

    fn stop(&mut self, reason: String) {
        self.stopped = true;
        self.drop_active();
        self.from_quorum.clear();
        self.out.push(Effect::Stop(reason));
    }

    /// Tells the quorum all brokers: those of the configuration, and those that are registered, which say their rack
    /// and their data folder themselves.
    fn tell_brokers(&mut self) {
        let mut brokers: BTreeMap<BrokerId, KnownBroker> =
            self.identity.brokers.iter().map(|broker| (broker.broker_id, broker.clone())).collect();
        for broker in self.image.brokers() {
            let registered_folder = Some(broker.directory_id);
            let known = KnownBroker { broker_id: broker.id, rack: broker.rack.clone(), registered_folder };
            brokers.insert(broker.id, known);
        }
        let brokers: Vec<_> = brokers.into_values().collect();
        if brokers != self.known_brokers {
            self.known_brokers.clone_from(&brokers);
            self.tell(quorum::Input::Brokers(brokers));
        }
    }
}
