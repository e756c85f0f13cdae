// SPDX-License-Identifier: Apache-2.0
//! The life of a broker in its cluster (`BrokerLifecycleManager` in Kafka): it registers, recovers its replicas, is
//! unfenced by its heartbeats, serves, and asks before it stops. A state machine: what happens and time in, effects
//! out; [`task`] drives it. It must not know replicas, sockets or how the controller is reached.
//!
//! ```text
//! registering -> awaiting its registration in the image -> recovering -> catching up -> serving -> stopping -> over
//!      ^                                                                     |              |
//!      +------------ the controller does not know the registration ----------+--------------+
//! ```
//!
//! What recovery finds damaged is told by registering once more: the controller knows it before it can elect the broker.
//!
//! While it recovers it asks to stay fenced; heartbeats say how much of the metadata it has applied, and the controller
//! unfences it once that holds the registration. It serves when it has applied that as well: then it knows what it leads.
pub(crate) mod task;

use odradek_metadata::{Heartbeat, HeartbeatReply, Image, RegisterBroker, RegisterBrokerError};
use odradek_model::{BrokerEpoch, BrokerId, Offset};

/// Between heartbeats (`broker.heartbeat.interval.ms` in Kafka): a third of the session, so that two may be lost.
const HEARTBEAT_INTERVAL_MS: u64 = 2_000;
/// After a question without a usable answer: long enough not to busy a controller that is just being elected.
const RETRY_MS: u64 = 250;
/// Between heartbeats of a broker that waits for leave to stop.
const STOPPING_INTERVAL_MS: u64 = 100;
/// A broker that gets no leave to stop for so long stops all the same: its sessions end by themselves.
const STOP_DEADLINE_MS: u64 = 20_000;

/// Another process of the broker's id that is alive for so long has not just ended: its session would be over after 6 s, or
/// 6 s after the controller changed.
const OTHER_PROCESS_MS: u64 = 20_000;

/// Who has heard of no controller for so long, a session, is given up by it if there is one: nobody is left to give leave.
const UNHEARD_MS: u64 = 6_000;

/// What became of a heartbeat that was not answered as hoped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoHeartbeat {
    /// The controller knows no such registration.
    Stale,
    /// No controller answered.
    Unanswered,
}

/// What this broker's newest image says of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OwnRegistration {
    /// The end of the image.
    pub end: Offset,
    /// The epoch under which this process is registered in it.
    pub epoch: Option<BrokerEpoch>,
    /// Whether it may lead and be in sync.
    pub active: bool,
    /// Whether no other broker is registered.
    pub alone: bool,
}

impl OwnRegistration {
    /// What the image says of the process that registers so.
    pub fn of(image: &Image, registration: &RegisterBroker) -> Self {
        let own = image.broker(registration.broker_id).filter(|own| own.incarnation == registration.incarnation);
        Self {
            end: image.end_offset(),
            epoch: own.map(|own| own.epoch),
            active: own.is_some_and(|own| own.is_active()),
            alone: image.brokers().count() <= 1,
        }
    }
}

/// What happens to the broker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// The answer to [`Effect::Register`]; `None` if no controller gave one.
    Registered(Option<Result<BrokerEpoch, RegisterBrokerError>>),
    /// A committed image came, which may not be applied yet.
    ImageSeen(OwnRegistration),
    /// All replicas of [`Effect::Recover`]'s image are open, and their logs are whole.
    Recovered,
    /// All are open that can be, and some logs are damaged or gone: the registration says so from now on, until the
    /// controller has taken it.
    RecoveredWithDamage,
    /// An image was applied in full.
    Applied(OwnRegistration),
    /// The answer to [`Effect::Heartbeat`].
    HeartbeatAnswered(Result<HeartbeatReply, NoHeartbeat>),
    /// The broker is to stop.
    Stop,
    /// The time of [`BrokerLifecycle::wake_at`] has come.
    Tick,
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Register at the controller, wherever it is. One at a time.
    Register,
    /// Open all replicas of the newest image.
    Recover,
    /// Send a heartbeat to the controller. One at a time.
    Heartbeat(Heartbeat),
    /// Open the listeners for clients.
    Serve,
    /// Nothing of the cluster's depends on this process any more.
    MayStop,
    /// The broker cannot be part of the cluster.
    Fail(RegisterBrokerError),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Registering,
    AwaitingImage,
    Recovering,
    CatchingUp,
    Serving,
    Over,
}

/// See the module.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, none of which excludes another")]
pub struct BrokerLifecycle {
    broker_id: BrokerId,
    phase: Phase,
    epoch: Option<BrokerEpoch>,
    /// Of the newest committed image.
    seen: OwnRegistration,
    /// Of the newest applied image.
    applied: OwnRegistration,
    has_recovered: bool,
    has_served: bool,
    registering: bool,
    /// Whether damage was found while a registration was on its way, which does not tell it.
    damage_is_untold: bool,
    register_at: u64,
    /// Since when another process has the id.
    refused_since: Option<u64>,
    beating: bool,
    beat_at: u64,
    /// What the last heartbeat said.
    told: Option<(Offset, bool, bool)>,
    /// Until when leave to stop is waited for.
    stop_by: Option<u64>,
    /// When the stop began, or a heartbeat was answered since.
    heard_at: u64,
    now: u64,
    effects: Vec<Effect>,
}

impl BrokerLifecycle {
    /// A broker whose process has just begun. Feed it [`Input::Tick`] once there is a controller to ask.
    pub fn new(broker_id: BrokerId) -> Self {
        Self {
            broker_id,
            phase: Phase::Registering,
            epoch: None,
            seen: OwnRegistration::default(),
            applied: OwnRegistration::default(),
            has_recovered: false,
            has_served: false,
            registering: false,
            damage_is_untold: false,
            register_at: 0,
            refused_since: None,
            beating: false,
            beat_at: u64::MAX,
            told: None,
            stop_by: None,
            heard_at: 0,
            now: 0,
            effects: Vec::new(),
        }
    }

    /// Takes in what happened and says what is to be done. `now_ms` is monotonic.
    pub fn handle(&mut self, now_ms: u64, input: Input) -> Vec<Effect> {
        self.now = self.now.max(now_ms);
        match input {
            _ if self.phase == Phase::Over => {}
            Input::Registered(outcome) => self.registered(outcome),
            Input::ImageSeen(seen) => self.seen = seen,
            Input::Recovered => {
                self.has_recovered = true;
                if self.phase == Phase::Recovering {
                    self.phase = Phase::CatchingUp;
                }
            }
            Input::RecoveredWithDamage => {
                self.has_recovered = true;
                self.damage_is_untold = self.registering;
                // Without an epoch no heartbeat asks to be unfenced.
                self.epoch = None;
                self.phase = Phase::Registering;
                self.register_at = self.now;
            }
            Input::Applied(applied) => self.applied = applied,
            Input::HeartbeatAnswered(answer) => self.answered(answer),
            Input::Stop => {
                if self.stop_by.is_none() {
                    self.stop_by = Some(self.now + STOP_DEADLINE_MS);
                    self.heard_at = self.now;
                }
            }
            Input::Tick => {}
        }
        self.go_on();
        std::mem::take(&mut self.effects)
    }

    /// When to send [`Input::Tick`] at the latest.
    pub fn wake_at(&self) -> u64 {
        let register = if self.phase == Phase::Registering && !self.registering { self.register_at } else { u64::MAX };
        let beat = if self.epoch.is_some() && !self.beating { self.beat_at } else { u64::MAX };
        let stop = self.stop_by.map_or(u64::MAX, |by| by.min(self.heard_at + UNHEARD_MS));
        if self.phase == Phase::Over { u64::MAX } else { register.min(beat).min(stop) }
    }

    fn registered(&mut self, outcome: Option<Result<BrokerEpoch, RegisterBrokerError>>) {
        self.registering = false;
        let damage_is_untold = std::mem::take(&mut self.damage_is_untold);
        match outcome {
            Some(Ok(_)) if damage_is_untold => self.register_at = self.now,
            Some(Ok(epoch)) => {
                self.epoch = Some(epoch);
                self.refused_since = None;
                self.phase = Phase::AwaitingImage;
                self.told = None;
                self.beat_at = self.now + HEARTBEAT_INTERVAL_MS;
            }
            Some(Err(RegisterBrokerError::HandingOver)) => self.register_at = self.now,
            // Before it served, the session may be that of a process that has ended; later, another process has taken the id.
            Some(Err(RegisterBrokerError::LiveSession(_))) if !self.has_served && self.may_be_over() => {
                self.register_at = self.now + RETRY_MS;
            }
            Some(Err(error)) => {
                self.effects.push(Effect::Fail(error));
                self.phase = Phase::Over;
            }
            None => self.register_at = self.now + RETRY_MS,
        }
    }

    /// Whether the session of another process with this id may be that of one that has ended.
    fn may_be_over(&mut self) -> bool {
        self.now < *self.refused_since.get_or_insert(self.now) + OTHER_PROCESS_MS
    }

    fn answered(&mut self, answer: Result<HeartbeatReply, NoHeartbeat>) {
        self.beating = false;
        match answer {
            Ok(reply) if reply.may_stop && self.stop_by.is_some() => self.over(),
            Ok(_) => {
                self.heard_at = self.now;
                let interval = if self.stop_by.is_some() { STOPPING_INTERVAL_MS } else { HEARTBEAT_INTERVAL_MS };
                self.beat_at = self.now + interval;
            }
            // Whoever stops does not register anew for that.
            Err(NoHeartbeat::Stale) if self.stop_by.is_some() => self.over(),
            Err(NoHeartbeat::Stale) => {
                self.epoch = None;
                self.phase = Phase::Registering;
                self.register_at = self.now;
            }
            Err(NoHeartbeat::Unanswered) => self.beat_at = self.now + RETRY_MS,
        }
    }

    fn over(&mut self) {
        self.phase = Phase::Over;
        self.effects.push(Effect::MayStop);
    }

    fn go_on(&mut self) {
        if let Some(by) = self.stop_by
            && self.phase != Phase::Over
        {
            // Before it served, and alone, nobody waits for what it has.
            let in_vain = self.now >= by || self.now >= self.heard_at + UNHEARD_MS;
            if in_vain || self.epoch.is_none() || !self.has_served || self.applied.alone {
                self.over();
            }
        }
        if self.phase == Phase::Over {
            return;
        }
        if self.phase == Phase::Registering && !self.registering && self.now >= self.register_at {
            self.registering = true;
            self.effects.push(Effect::Register);
        }
        if self.phase == Phase::AwaitingImage && self.seen.epoch == self.epoch {
            if self.has_recovered {
                self.phase = Phase::CatchingUp;
            } else {
                self.phase = Phase::Recovering;
                self.effects.push(Effect::Recover);
            }
        }
        if self.phase == Phase::CatchingUp && self.applied.active && self.applied.epoch == self.epoch {
            self.phase = Phase::Serving;
            if !self.has_served {
                self.has_served = true;
                self.effects.push(Effect::Serve);
            }
        }
        self.beat();
    }

    fn beat(&mut self) {
        let Some(broker_epoch) = self.epoch else { return };
        let wants_fence = !self.has_recovered;
        let wants_shutdown = self.stop_by.is_some();
        // What the controller waits for is told at once.
        let news = match self.told {
            _ if self.phase == Phase::AwaitingImage => false,
            None => true,
            Some((end, fence, shutdown)) => {
                let progress = self.phase == Phase::CatchingUp && self.applied.end > end;
                progress || (fence, shutdown) != (wants_fence, wants_shutdown)
            }
        };
        if self.beating || !(news || self.now >= self.beat_at) {
            return;
        }
        self.beating = true;
        let metadata_end = self.applied.end;
        self.told = Some((metadata_end, wants_fence, wants_shutdown));
        let broker_id = self.broker_id;
        self.effects.push(Effect::Heartbeat(Heartbeat {
            broker_id,
            broker_epoch,
            metadata_end,
            wants_fence,
            wants_shutdown,
        }));
    }
}

#[cfg(test)]
mod tests;
