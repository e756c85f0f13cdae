// SPDX-License-Identifier: Apache-2.0
//! The member itself: what it is, what it is told, whom it hears, and when it wants to be called again.

use std::collections::{BTreeMap, BTreeSet};

use odradek_model::{BrokerId, ControllerEpoch, Offset};
use thiserror::Error;
use tracing::{error, info, warn};

use super::candidate::Candidate;
use super::controller::Controlling;
use super::effect::{Effect, Input, KnownBroker};
use super::fetching::Fetching;
use super::follower::Follower;
use super::lease_knowledge::LeaseKnowledge;
use super::message::{FetchOutcome, Message, MessageBody, PromiseAnswer, RequestId, StatusAnswer};
use super::planted::Planted;
#[cfg(feature = "planted-bugs")]
use super::planted::PlantedBug;
use super::random::Random;
use super::storage::{Promise, QuorumStorage, StorageError};
use super::{LogPosition, QuorumSettings, VoterSet};
use crate::{Holder, Voter};

/// Timers that may follow from each other in one call: at most a Lease read, a give-up, a fetch and a question, each
/// of which sets its own next time later than now. Far more is a loop of our own making.
const MAX_TIMER_ROUNDS: usize = 32;

/// What a member is at present.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemberRole {
    /// It follows, or looks for somebody to follow.
    Follower,
    /// It holds the Lease (or asks for promises to get it, rule 10) and collects promises or catches up.
    Candidate,
    /// It has appended its epoch record; it leads once that is committed.
    Controller,
}

/// What a member tells about itself, for metrics and probes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberStatus {
    /// What it is.
    pub role: MemberRole,
    /// Whether its epoch record is committed, so that it may decide.
    pub leads: bool,
    /// The controller it knows; itself if it is one.
    pub controller: Promise,
    /// Whether it hears that controller.
    pub hears: bool,
    /// Its log.
    pub position: LogPosition,
    /// Up to where it knows records to be committed.
    pub commit_end: Offset,
    /// The voters it knows.
    pub voters: VoterSet,
    /// When the Lease last answered, in the caller's milliseconds. A holder for which this is old cannot renew.
    pub lease_answered_at: Option<u64>,
    /// Whether the Lease is missing, replaced or older than the logs (rule 10).
    pub lease_is_fallen: bool,
}

/// Why records were not appended.
#[derive(Debug, Error)]
pub enum AppendError<E> {
    /// This broker does not lead, or is about to stop.
    #[error("this broker is not the controller")]
    NotController,
    /// The log. If fatal, [`Effect::Stop`] follows; otherwise nothing has changed.
    #[error("{0}")]
    Storage(E),
}

/// When a peer was heard, and whether it is known to be out of reach.
#[derive(Clone, Debug, Default)]
pub(super) struct Contact {
    pub(super) heard_at: Option<u64>,
    probing_since: Option<u64>,
    pub(super) unreachable: bool,
}

#[derive(Debug)]
pub(super) enum Role {
    Follower(Follower),
    Candidate(Candidate),
    Controller(Controlling),
}

/// How far a clean stop has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Resignation {
    No,
    /// It holds nothing as soon as it can.
    Wanted,
    /// It holds nothing, and the caller was told.
    Told,
}

/// Whether a controller is heard, as it was said last.
#[derive(Clone, Copy, Debug)]
enum Hearing {
    NotYet,
    Heard,
    SilentSince(u64),
}

/// One broker's part in the quorum of the metadata log; see [`super`] for how to drive it.
#[derive(Debug)]
pub struct QuorumMember<S: QuorumStorage> {
    pub(super) settings: QuorumSettings,
    pub(super) me: Holder,
    pub(super) voter: Voter,
    pub(super) storage: S,
    pub(super) random: Random,
    pub(super) planted: Planted,
    pub(super) now: u64,
    pub(super) brokers: BTreeMap<BrokerId, KnownBroker>,
    /// By broker, for those it had to do with: known brokers and voters.
    pub(super) contacts: BTreeMap<BrokerId, Contact>,
    /// The highest epoch heard of and, once known, its controller. Answers below it are discarded (rule 11).
    pub(super) known: Promise,
    /// When that controller was last heard, or heard of for the first time in this process.
    pub(super) controller_heard_at: Option<u64>,
    hearing: Hearing,
    pub(super) commit_end: Offset,
    pub(super) lease: LeaseKnowledge,
    pub(super) fetching: Fetching,
    pub(super) role: Role,
    pub(super) image_is_loaded: bool,
    pub(super) resignation: Resignation,
    /// Voters that an administrator declared gone.
    pub(super) gone: BTreeSet<Voter>,
    /// Who was last said to be missing for a recovery.
    pub(super) said_missing: BTreeSet<Voter>,
    pub(super) effects: Vec<Effect>,
    next_request: RequestId,
    stopped: bool,
    wake_at: u64,
    fired: bool,
}

impl<S: QuorumStorage> QuorumMember<S> {
    /// A member with what is on its disk. `random_seed` is another one for each process.
    ///
    /// # Panics
    /// If holder and voter are of different brokers.
    pub fn new(settings: QuorumSettings, me: Holder, voter: Voter, storage: S, random_seed: u64) -> Self {
        assert_eq!(me.broker_id, voter.broker_id, "one broker");
        let mut random = Random::new(random_seed);
        let next_request = random.next();
        let known = storage.promised().clone();
        let commit_end = storage.start().end;
        Self {
            settings,
            me,
            voter,
            storage,
            random,
            planted: Planted::default(),
            now: 0,
            brokers: BTreeMap::new(),
            contacts: BTreeMap::new(),
            known,
            controller_heard_at: None,
            hearing: Hearing::NotYet,
            commit_end,
            lease: LeaseKnowledge::default(),
            fetching: Fetching::default(),
            role: Role::Follower(Follower::default()),
            image_is_loaded: false,
            resignation: Resignation::No,
            gone: BTreeSet::new(),
            said_missing: BTreeSet::new(),
            effects: Vec::new(),
            next_request,
            stopped: false,
            wake_at: 0,
            fired: false,
        }
    }

    /// Switches a mistake on.
    #[cfg(feature = "planted-bugs")]
    pub fn plant(&mut self, bug: PlantedBug) {
        self.planted.bug = Some(bug);
    }

    /// Takes in what happened and says what is to be done. `now_ms` never goes back.
    pub fn handle(&mut self, now_ms: u64, input: Input) -> Vec<Effect> {
        if self.stopped {
            return Vec::new();
        }
        self.now = self.now.max(now_ms);
        match input {
            Input::Tick => {}
            Input::Brokers(brokers) => {
                self.brokers = brokers.into_iter().map(|broker| (broker.broker_id, broker)).collect();
                let kept = |id: &BrokerId| self.brokers.contains_key(id);
                self.contacts.retain(|id, _| kept(id));
            }
            Input::ImageLoaded => self.image_is_loaded = true,
            Input::LeaseSeen(view) => self.lease_seen(view),
            Input::LeaseRead(call, outcome) => self.lease_read(call, outcome),
            Input::LeaseWritten(call, outcome) => self.lease_written(call, outcome),
            Input::Received(message) => self.received(message),
            Input::ConnectionLost(broker) => self.connection_lost(broker),
            Input::Probed(broker, alive) => self.probed(broker, alive),
            Input::Resign => self.resign(),
            Input::RecoverWithout(gone) => {
                if !gone.is_empty() {
                    let voters: Vec<_> = gone.iter().map(ToString::to_string).collect();
                    warn!(
                        voters = voters.join(", "),
                        "if the metadata are to be recovered, then without these voters, as ordered: what only they had \
                         may be lost"
                    );
                }
                self.gone = gone;
            }
        }
        self.run_timers();
        self.take_effects()
    }

    /// Appends what the controller decided. It is committed once [`Effect::Committed`] reaches the returned end; if
    /// [`Effect::SteppedDown`] comes first, its fate is unknown.
    ///
    /// # Errors
    /// [`AppendError`]
    pub fn append(
        &mut self,
        now_ms: u64,
        records: &S::Records,
    ) -> Result<(Offset, Vec<Effect>), AppendError<S::Error>> {
        self.now = self.now.max(now_ms);
        let epoch = match &self.role {
            Role::Controller(controlling) if controlling.leads && !self.resigns() && !self.stopped => controlling.epoch,
            _ => return Err(AppendError::NotController),
        };
        if let Err(error) = self.storage.append(epoch, records) {
            if error.is_fatal() {
                self.stop(format!("the metadata log failed: {error}"));
            }
            return Err(AppendError::Storage(error));
        }
        let end = self.storage.position().end;
        self.log_grew();
        self.run_timers();
        Ok((end, self.take_effects()))
    }

    /// When to call [`Self::handle`] with [`Input::Tick`] at the latest.
    pub fn wake_at(&self) -> u64 {
        self.wake_at
    }

    /// Effects of a failed [`Self::append`].
    pub fn take_effects(&mut self) -> Vec<Effect> {
        let mut effects = std::mem::take(&mut self.effects);
        if let Some(stop) = effects.iter().position(|effect| matches!(effect, Effect::Stop(_))) {
            effects.truncate(stop + 1);
        }
        effects
    }

    /// What it keeps on disk.
    pub fn storage(&self) -> &S {
        &self.storage
    }

    /// For snapshots, which the owner of the image writes; the log itself is the member's alone.
    pub fn storage_mut(&mut self) -> &mut S {
        &mut self.storage
    }

    /// What it is and knows.
    pub fn status(&self) -> MemberStatus {
        let (role, leads) = match &self.role {
            Role::Follower(_) => (MemberRole::Follower, false),
            Role::Candidate(_) => (MemberRole::Candidate, false),
            Role::Controller(controlling) => (MemberRole::Controller, controlling.leads),
        };
        MemberStatus {
            role,
            leads,
            controller: self.known.clone(),
            hears: self.hears(),
            position: self.storage.position(),
            commit_end: self.commit_end,
            voters: self.known_voters(),
            lease_answered_at: self.lease.answered_at,
            lease_is_fallen: self.lease.fallen.is_some(),
        }
    }

    // === whom it hears ===

    /// Whether the controller of the highest known epoch is heard (rule 1a); a controller hears itself.
    pub(super) fn hears(&self) -> bool {
        match (&self.role, &self.known.holder) {
            (Role::Controller(_), _) => true,
            (_, Some(holder)) if holder.broker_id != self.me.broker_id => {
                self.silent_at().is_some_and(|silent_at| self.now < silent_at) && !self.is_unreachable(holder.broker_id)
            }
            _ => false,
        }
    }

    /// Says when the controller falls silent, and when one is heard again: what else an outage of the network shows is
    /// said by those that notice it only.
    fn note_silence(&mut self) {
        let Promise { epoch, holder } = &self.known;
        self.hearing = match (self.hears(), self.hearing) {
            (true, Hearing::NotYet) => Hearing::Heard,
            (true, Hearing::SilentSince(since)) => {
                info!(epoch, ?holder, silent_ms = self.now - since, "a controller is heard again");
                Hearing::Heard
            }
            (false, Hearing::Heard) => {
                info!(epoch, ?holder, "the controller is not heard any more");
                Hearing::SilentSince(self.now)
            }
            (_, as_before) => as_before,
        };
    }

    /// From when on the controller is not heard any more, unless it answers before.
    pub(super) fn silent_at(&self) -> Option<u64> {
        self.controller_heard_at.map(|heard| heard + self.settings.session_ms + 1)
    }

    pub(super) fn is_unreachable(&self, broker: BrokerId) -> bool {
        self.contacts.get(&broker).is_some_and(|contact| contact.unreachable)
    }

    /// Takes note of an epoch and its controller. A higher epoch than its own ends candidacy and control (rule 8).
    pub(super) fn hear_of(&mut self, controller: &Promise) {
        let news = controller.epoch > self.known.epoch
            || (controller.epoch == self.known.epoch && self.known.holder.is_none() && controller.holder.is_some());
        if !news {
            return;
        }
        self.known = controller.clone();
        self.controller_heard_at = Some(self.now);
        if let Some(holder) = &controller.holder
            && let Some(contact) = self.contacts.get_mut(&holder.broker_id)
        {
            contact.unreachable = false;
        }
        self.fetching.restart(self.now);
        if self.own_epoch().is_some_and(|own| own < controller.epoch) {
            self.step_down("a higher epoch was heard of");
        }
    }

    /// Takes note that the message's sender speaks as the controller it knows.
    pub(super) fn heard_controller(&mut self, sender: &Holder) {
        if self.known.holder.as_ref() == Some(sender) {
            self.controller_heard_at = Some(self.now);
        }
    }

    /// The epoch under which it is candidate or controller.
    pub(super) fn own_epoch(&self) -> Option<ControllerEpoch> {
        match &self.role {
            Role::Follower(_) => None,
            Role::Candidate(candidate) => Some(candidate.epoch),
            Role::Controller(controlling) => Some(controlling.epoch),
        }
    }

    /// The voters in the newest view of the Lease, else the newest set on disk.
    pub(super) fn known_voters(&self) -> VoterSet {
        match &self.lease.newest {
            Some(view) => view.voters.iter().copied().collect(),
            None => self.storage.voter_sets().newest.as_ref().map(|set| set.voters.clone()).unwrap_or_default(),
        }
    }

    fn connection_lost(&mut self, broker: BrokerId) {
        self.fetching.connection_lost(broker, self.now + self.settings.retry_ms);
        self.inquiry_unreachable(broker);
        if !self.brokers.contains_key(&broker) && !self.contacts.contains_key(&broker) {
            return;
        }
        let contact = self.contacts.entry(broker).or_default();
        if contact.probing_since.is_none() && !contact.unreachable {
            contact.probing_since = Some(self.now);
            self.effects.push(Effect::Probe(broker));
        }
    }

    fn probed(&mut self, broker: BrokerId, alive: bool) {
        let Some(contact) = self.contacts.get_mut(&broker) else { return };
        let Some(since) = contact.probing_since.take() else { return };
        // What was heard since the probe began is newer than its failure.
        if alive || contact.heard_at.is_some_and(|heard| heard > since) {
            return;
        }
        contact.unreachable = true;
        if self.known.holder.as_ref().is_some_and(|holder| holder.broker_id == broker) {
            // A take that is based on an old view is refused.
            self.want_lease_read();
        }
        self.voters_due_now();
    }

    // === messages ===

    fn received(&mut self, message: Message) {
        let from = message.sender.broker_id;
        if from == self.me.broker_id {
            warn!(sender = %message.sender, "a message with this broker's own id was ignored");
            return;
        }
        let voter = message.voter();
        if self.brokers.contains_key(&from) || self.known_voters().contains(&voter) {
            let now = self.now;
            let contact = self.contacts.entry(from).or_default();
            contact.heard_at = Some(now);
            contact.unreachable = false;
        }
        let Message { sender, request, body, .. } = message;
        if self.known.holder.as_ref().is_some_and(|holder| holder.broker_id == from && *holder != sender) {
            // Another process of that broker: the one that led is gone, though its address answers. Should this be a
            // late message of an earlier process, then the next answer of the controller corrects it.
            self.controller_heard_at = None;
        }
        match body {
            MessageBody::Fetch(fetch) => self.fetch_received(&sender, voter, request, &fetch),
            MessageBody::Fetched(answer) => self.fetched(&sender, request, answer),
            MessageBody::FetchSnapshot(fetch) => self.snapshot_wanted(&sender, request, &fetch),
            MessageBody::SnapshotPart(part) => self.snapshot_part(&sender, request, &part),
            MessageBody::AskPromise(epoch) => self.promise_wanted(&sender, request, epoch),
            MessageBody::Promised(answer) => self.promised(voter, &answer),
            MessageBody::AskStatus => {
                let answer = self.status_answer();
                self.send(from, request, MessageBody::Status(Box::new(answer)));
            }
            MessageBody::Status(answer) => self.status_received(voter, request, *answer),
            // Rule 8, told at once: it may be the only one that a lost view of the Lease told of the epoch, and follow
            // nobody below it, while the sender, of a later process, goes on without it.
            MessageBody::Announce(epoch) if epoch < self.known.epoch => {
                self.answer_fetch(from, request, FetchOutcome::NotController);
            }
            MessageBody::Announce(epoch) => {
                self.hear_of(&Promise { epoch, holder: Some(sender.clone()) });
                self.heard_controller(&sender);
                if self.known.holder.as_ref() == Some(&sender) {
                    self.fetching.announced(self.now);
                }
            }
            MessageBody::HandOver(view) => self.lease_seen(view),
        }
    }

    /// Rule 2.
    fn promise_wanted(&mut self, candidate: &Holder, request: RequestId, epoch: ControllerEpoch) {
        let granted = epoch > 0 && self.keep_promise(epoch, candidate);
        if self.stopped {
            return;
        }
        if granted {
            self.hear_of(&Promise { epoch, holder: Some(candidate.clone()) });
            self.heard_controller(candidate);
        }
        let promised = self.storage.promised().clone();
        let answer = PromiseAnswer { epoch, granted, promised, position: self.storage.position() };
        self.send(candidate.broker_id, request, MessageBody::Promised(answer));
    }

    /// Promises, durably; whether the promise is kept.
    pub(super) fn keep_promise(&mut self, epoch: ControllerEpoch, holder: &Holder) -> bool {
        let outcome = self.storage.promise(epoch, holder);
        let kept = self.stored(outcome).unwrap_or(false);
        if kept && self.known.epoch == epoch && self.known.holder.as_ref() != Some(holder) {
            // In this epoch it follows nobody else any more. Another is known if a stranger raised the epoch in the
            // Lease, which was rolled back before anybody took it.
            self.known.holder = Some(holder.clone());
            self.controller_heard_at = Some(self.now);
            self.fetching.restart(self.now);
        }
        kept
    }

    /// Whether a clean stop is wanted.
    pub(super) fn resigns(&self) -> bool {
        self.resignation != Resignation::No
    }

    pub(super) fn status_answer(&self) -> StatusAnswer {
        StatusAnswer {
            hears: self.hears().then(|| self.known.clone()),
            promised: self.storage.promised().clone(),
            position: self.storage.position(),
            voter_sets: self.storage.voter_sets().clone(),
        }
    }

    /// Sends a question; its number.
    pub(super) fn ask(&mut self, to: BrokerId, body: MessageBody) -> RequestId {
        self.next_request = self.next_request.wrapping_add(1);
        self.send(to, self.next_request, body);
        self.next_request
    }

    /// A number for a question that goes to several.
    pub(super) fn new_request(&mut self) -> RequestId {
        self.next_request = self.next_request.wrapping_add(1);
        self.next_request
    }

    pub(super) fn send(&mut self, to: BrokerId, request: RequestId, body: MessageBody) {
        let message = Message { sender: self.me.clone(), directory_id: self.voter.directory_id, request, body };
        self.effects.push(Effect::Send(to, message));
    }

    /// The brokers to talk to: all known ones and the voters, without itself.
    pub(super) fn peers(&self) -> BTreeSet<BrokerId> {
        let mut peers: BTreeSet<_> = self.brokers.keys().copied().collect();
        peers.extend(self.known_voters().iter().map(|voter| voter.broker_id));
        peers.remove(&self.me.broker_id);
        peers
    }

    // === the end of roles and processes ===

    /// Becomes a follower. What it held is answered, what it decided beyond the committed end is void.
    pub(super) fn step_down(&mut self, why: &str) {
        let role = std::mem::replace(&mut self.role, Role::Follower(Follower::default()));
        self.fetching = Fetching::default();
        self.fetching.restart(self.now);
        match role {
            Role::Follower(_) => {}
            Role::Candidate(candidate) => info!(epoch = candidate.epoch, why, "no candidate for controller any more"),
            Role::Controller(controlling) => {
                info!(epoch = controlling.epoch, why, "not the controller any more");
                self.effects.push(Effect::SteppedDown(controlling.epoch));
                for (broker, held) in controlling.held {
                    self.answer_fetch(broker, held.request, FetchOutcome::NotController);
                }
            }
        }
    }

    /// The value, or `None` after an error; a fatal one stops the process.
    pub(super) fn stored<T>(&mut self, outcome: Result<T, S::Error>) -> Option<T> {
        match outcome {
            Ok(value) => Some(value),
            Err(error) if error.is_fatal() => {
                self.stop(format!("the metadata log failed: {error}"));
                None
            }
            Err(error) => {
                warn!(%error, "the metadata log refused a change; it is tried again");
                None
            }
        }
    }

    pub(super) fn stop(&mut self, reason: String) {
        if !self.stopped {
            error!(reason, "the broker must stop");
            self.stopped = true;
            self.wake_at = u64::MAX;
            self.effects.push(Effect::Stop(reason));
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped
    }

    // === time ===

    /// Whether the time has come; if not, the member wants to be woken then.
    pub(super) fn due(&mut self, at: u64) -> bool {
        if self.now >= at {
            self.fired = true;
            true
        } else {
            self.wake_at = self.wake_at.min(at);
            false
        }
    }

    fn run_timers(&mut self) {
        for _ in 0..MAX_TIMER_ROUNDS {
            self.wake_at = u64::MAX;
            self.fired = false;
            if self.stopped {
                return;
            }
            let role = std::mem::discriminant(&self.role);
            self.note_silence();
            self.lease_timers();
            match &self.role {
                Role::Follower(_) => self.follower_timers(),
                Role::Candidate(_) => self.candidate_timers(),
                Role::Controller(_) => self.controller_timers(),
            }
            // A new role has timers of its own.
            if !self.fired && role == std::mem::discriminant(&self.role) {
                return;
            }
        }
        panic!("timers of a quorum member set each other off without end");
    }
}
