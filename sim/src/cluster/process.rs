// SPDX-License-Identifier: Apache-2.0
//! One process of a broker: the real metadata node, life, replicas, fetchers and proposals, joined as the runtime and
//! the server join them, without tasks and sockets: inputs and time in, [`Out`] out. It must not know faults.
//!
//! - `confirming`: reads that wait for other replicas' word.
//! - `control`: the metadata node, the broker's life, and whatever is asked of the controller.
//! - `replicas`: images become roles; effects of replicas.
//! - `fetching`: what this broker follows.
//! - `groups`: coordinators over the journals that it leads.
//! - `serving`: what others ask of it.

mod confirming;
mod control;
mod fetching;
mod groups;
mod replicas;
mod serving;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex};

use odradek_coordination::quorum::{self, KnownBroker, LeaseCall, QuorumSettings, VoterSets};
use odradek_coordination::{Holder, LeaseChange, LeaseView, Voter};
use odradek_disk::SimulatedDisk;
use odradek_metadata::{
    ControllerSettings, Endpoint as Address, Image, MetadataLog, PartitionKey, Probe, RegisterBroker,
    SESSION_TIMEOUT_MS, SUPPORTED_FEATURE_LEVEL, Ticket,
};
use odradek_model::{BrokerId, ClusterId, Offset, Timestamp};
use odradek_partition::{BrokerStatus, Brokers, IsrChange, LocalBroker, MonotonicTime, WaitToken};
use odradek_replication::{FetcherId, Following, Proposals, ReplicaKey};
use odradek_runtime::lifecycle::{self, BrokerLifecycle};
use odradek_runtime::metadata_node::{self as node, MetadataNode, NodeIdentity, NodeSettings, QuorumLog};
use uuid::Uuid;

use self::confirming::Confirming;
use self::control::{Asker, Purpose};
use self::fetching::RunningFetcher;
use self::groups::Coordinators;
use self::replicas::Replica;
use self::serving::Parked;
use super::folder::{Folder, METADATA};
use super::message::{Answer, CallId, Endpoint, Message, Request, rack_name};
use super::profile::{Planted, Profile};
use crate::Random;

/// The time of day when a run begins.
const WALL_MS: Timestamp = 1_700_000_000_000;
/// Between checkpoints (`replica.high.watermark.checkpoint.interval.ms`).
const CHECKPOINT_INTERVAL_MS: u64 = 5_000;
/// Between looks for what retention lets go (`log.retention.check.interval.ms`, far shorter).
const RETENTION_INTERVAL_MS: u64 = 1_500;

/// What happens to a process.
#[derive(Debug)]
pub(super) enum Input {
    /// For the metadata node.
    Quorum(quorum::Input),
    ConnectionLost(BrokerId),
    ProbeFinished(Probe, bool),
    Called(Endpoint, CallId, Request),
    Returned(CallId, Answer),
    /// No answer will come, or none that anybody waits for.
    CallFailed(CallId),
    /// The time to open the replicas is over.
    Recover,
    /// The newest image is to be taken over.
    TakeImage,
    FlushBegins(ReplicaKey),
    FlushEnds(ReplicaKey),
    Checkpoint,
    /// A request has waited long enough.
    WaitOver(u64),
    Stop,
    /// The Lease was not given back in time.
    HandOverTakesTooLong,
    Tick,
}

/// What a process does to the world around it.
#[derive(Debug)]
pub(super) enum Out {
    Send(Endpoint, Message),
    /// A request; without an answer before the deadline it comes back as [`Input::CallFailed`].
    Call {
        to: BrokerId,
        call: CallId,
        request: Request,
        deadline_ms: u64,
    },
    ReadLease(LeaseCall),
    WriteLease {
        call: LeaseCall,
        base: Option<LeaseView>,
        change: LeaseChange,
    },
    ProbeMember(BrokerId),
    ProbeBroker(Probe),
    After(u64, Input),
    Exit(Exit),
    /// For the checkers alone.
    Shown(Shown),
}

/// How a process ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Exit {
    Clean,
    Failed(String),
}

/// What checkers see of a process.
#[derive(Debug)]
pub(super) enum Shown {
    /// An image of what is committed.
    Image(Arc<Image>),
    /// It proposes an ISR.
    Proposed(ReplicaKey, IsrChange),
    /// It was told that a proposal was surely refused.
    Refused(ReplicaKey, IsrChange),
    Leads,
    /// Retention lets the log begin later.
    LogStartRaised {
        key: ReplicaKey,
        /// Nothing from here on was let go.
        start: Offset,
        /// Bytes that are left; `None` if it failed in between.
        left: Option<u64>,
    },
    /// It has opened its replicas: all, and those whose logs are damaged.
    Recovered {
        opened: Vec<ReplicaKey>,
        damaged: Vec<ReplicaKey>,
    },
    /// The controller knows of these damaged logs.
    DamageTold(Vec<ReplicaKey>),
}

impl Shown {
    /// For the story.
    pub(super) fn line(&self) -> String {
        match self {
            Self::Image(image) => format!("knows the metadata up to {}", image.end_offset()),
            Self::Proposed(key, change) => {
                let in_sync: Vec<_> = change.in_sync.iter().map(|member| member.broker.0).collect();
                format!("proposes {in_sync:?} for {} of {}", key.partition, key.topic)
            }
            Self::Refused(key, _) => format!("is refused for {} of {}", key.partition, key.topic),
            Self::LogStartRaised { key, start, left } => {
                format!("drops what is below {start} of {} of {}, and keeps {left:?} bytes", key.partition, key.topic)
            }
            Self::Leads => "decides about the metadata".to_owned(),
            Self::Recovered { opened, damaged } => format!("has {} replicas, damaged {damaged:?}", opened.len()),
            Self::DamageTold(keys) => format!("has told of the damaged {keys:?}"),
        }
    }
}

/// Who a process is.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) id: BrokerId,
    pub(super) voter: Voter,
    /// Counts the processes of the broker.
    pub(super) boot: u64,
    /// Of the machine: another after a loss of power.
    pub(super) boot_id: String,
    /// All brokers that the configuration names.
    pub(super) brokers: Vec<BrokerId>,
    pub(super) seed: u64,
}

/// The cluster of every run.
pub(super) fn cluster_id() -> ClusterId {
    ClusterId::new("simulated").expect("an id")
}

/// The brokers as the applied image has them.
#[derive(Debug, Default)]
struct Heard(Mutex<Arc<Image>>);

impl Brokers for Heard {
    fn status(&self, broker: BrokerId) -> Option<BrokerStatus> {
        let image = self.0.lock().expect("nobody panics with it");
        let (epoch, fenced, shutting_down) = {
            let broker = image.broker(broker)?;
            (broker.epoch, broker.fenced, broker.shutting_down_at.is_some())
        };
        Some(BrokerStatus { epoch, fenced, shutting_down })
    }
}

/// See the module.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of another part")]
pub(super) struct Process {
    id: BrokerId,
    now: u64,
    random: Random,
    planted: Option<Planted>,
    registration: RegisterBroker,
    node: MetadataNode,
    node_inputs: VecDeque<node::Input>,
    node_is_busy: bool,
    life: BrokerLifecycle,
    /// Opened with the replicas, once the broker is registered.
    folder: Folder,
    newest: Arc<Image>,
    applied: Arc<Image>,
    takes_image: bool,
    has_recovered: bool,
    /// Whether clients are served.
    serves: bool,
    /// Whether the end has begun.
    is_ending: bool,
    is_over: bool,
    local: LocalBroker,
    heard: Arc<Heard>,
    replicas: BTreeMap<ReplicaKey, Replica>,
    fetchers: BTreeMap<FetcherId, RunningFetcher>,
    following: Following,
    proposals: Proposals,
    coordinators: Coordinators,
    confirming: Confirming,
    /// Whose logs were found damaged by recovery.
    damaged: Vec<PartitionKey>,
    /// Whether the registration on its way says so.
    tells_damage: bool,
    /// Whose logs were cut.
    cut: Vec<ReplicaKey>,
    parked: BTreeMap<u64, Parked>,
    tokens: BTreeMap<WaitToken, u64>,
    woken: VecDeque<u64>,
    asked: BTreeMap<Ticket, Asker>,
    calls: BTreeMap<CallId, Purpose>,
    next_number: u64,
    next_lag_tick: u64,
    next_checkpoint: u64,
    next_retention: u64,
    lag_ms: u64,
    image_lag: u64,
    /// Of one partition in an answer to a fetch.
    answer_bytes: usize,
    led: bool,
    out: Vec<Out>,
}

impl Process {
    /// Opens what is on the disk, or says what the disk refused.
    pub(super) fn start(identity: Identity, profile: &Profile, disk: &SimulatedDisk, now: u64) -> Result<Self, String> {
        let Identity { id, voter, boot, boot_id, brokers, seed } = identity;
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let opened = MetadataLog::open(Arc::new(disk.clone()), Path::new(METADATA));
        let (log, _, _) = opened.map_err(|error| text(&error))?;
        let folder = Folder::open(disk, &boot_id).map_err(|error| text(&error))?;
        let incarnation = Uuid::from_u128((u128::from(boot) << 32) | id.0 as u128);
        let racks = profile.racks;
        let rack_of = |broker: BrokerId| racks.then(|| rack_name((broker.0 % 3) as u8));
        let known = |broker_id| KnownBroker { broker_id, rack: rack_of(broker_id), registered_folder: None };
        let node_identity = NodeIdentity {
            cluster_id: cluster_id(),
            holder: Holder { broker_id: id, incarnation: incarnation.to_string() },
            voter,
            brokers: brokers.into_iter().map(known).collect(),
        };
        let mut controller = ControllerSettings::default();
        if let Some(Planted::Controller(bug)) = profile.planted {
            controller.planted = Some(bug);
        }
        let settings = NodeSettings {
            quorum: QuorumSettings {
                lease_poll_ms: 2_000,
                replace_voter_after_ms: 10_000,
                unread_lease_pause_max_ms: QuorumSettings::default().retry_ms,
                ..QuorumSettings::default()
            },
            controller,
            session_timeout_ms: SESSION_TIMEOUT_MS,
        };
        let mut random = Random::new(seed);
        let storage = QuorumLog::new(log).map_err(|error| text(&error))?;
        let mut metadata =
            MetadataNode::new(node_identity, settings, storage, random.number()).map_err(|error| text(&error))?;
        if let Some(Planted::Quorum(bug)) = profile.planted {
            metadata.plant(bug);
        }
        let registration = RegisterBroker {
            broker_id: id,
            cluster_id: cluster_id(),
            incarnation,
            directory_id: voter.directory_id,
            endpoints: vec![Address { listener: "PLAIN".into(), host: "h".into(), port: 1, security_protocol: 0 }],
            rack: rack_of(id),
            boot_id,
            clean_shutdown_of: folder.clean_shutdown_of(),
            damaged_logs: Vec::new(),
            supported_feature_level: SUPPORTED_FEATURE_LEVEL,
        };
        let heard = Arc::new(Heard::default());
        let brokers = Arc::clone(&heard) as Arc<dyn Brokers>;
        Ok(Self {
            id,
            now,
            random,
            planted: profile.planted,
            registration,
            node: metadata,
            node_inputs: VecDeque::new(),
            node_is_busy: false,
            life: BrokerLifecycle::new(id),
            folder,
            newest: Arc::default(),
            applied: Arc::default(),
            takes_image: false,
            has_recovered: false,
            serves: false,
            is_ending: false,
            is_over: false,
            local: LocalBroker { id, replica_lag_time_max_ms: profile.lag_ms, brokers },
            heard,
            replicas: BTreeMap::new(),
            fetchers: BTreeMap::new(),
            following: Following::default(),
            proposals: Proposals::default(),
            coordinators: Coordinators::default(),
            confirming: Confirming::default(),
            damaged: Vec::new(),
            tells_damage: false,
            cut: Vec::new(),
            parked: BTreeMap::new(),
            tokens: BTreeMap::new(),
            woken: VecDeque::new(),
            asked: BTreeMap::new(),
            calls: BTreeMap::new(),
            // Names of this process's calls are no other's.
            next_number: (boot << 40) | ((id.0 as u64) << 32),
            next_lag_tick: now,
            next_checkpoint: now + CHECKPOINT_INTERVAL_MS,
            next_retention: now + RETENTION_INTERVAL_MS,
            lag_ms: profile.lag_ms as u64,
            image_lag: profile.image_lag,
            answer_bytes: profile.answer_bytes,
            led: false,
            out: Vec::new(),
        })
    }

    /// Takes in what happened and says what follows.
    pub(super) fn handle(&mut self, now: u64, input: Input) -> Vec<Out> {
        self.now = now;
        if self.is_over {
            return Vec::new();
        }
        match input {
            Input::Quorum(input) => self.tell_node(node::Input::Quorum(input)),
            Input::ConnectionLost(broker) => {
                self.tell_node(node::Input::ConnectionLost(broker));
            }
            Input::ProbeFinished(probe, answered) => {
                self.tell_node(node::Input::ProbeFinished(probe, answered));
            }
            Input::Called(from, call, request) => self.called(from, call, request),
            Input::Returned(call, answer) => self.returned(call, answer),
            Input::CallFailed(call) => self.call_failed(call),
            Input::Recover => self.recover(),
            Input::TakeImage => self.take_image(),
            Input::FlushBegins(key) => self.flush_begins(key),
            Input::FlushEnds(key) => self.flush_ends(key),
            Input::Checkpoint => self.checkpoint_cut(),
            Input::WaitOver(parked) => self.wait_over(parked),
            Input::Stop => self.tell_life(lifecycle::Input::Stop),
            Input::HandOverTakesTooLong => self.end(),
            Input::Tick => {}
        }
        self.let_time_pass();
        self.settle();
        if self.node.leads() && !self.led {
            self.out.push(Out::Shown(Shown::Leads));
        }
        self.led = self.node.leads();
        std::mem::take(&mut self.out)
    }

    /// When to send [`Input::Tick`] at the latest.
    pub(super) fn wake_at(&self) -> u64 {
        let fetchers = self.fetchers.values().filter_map(RunningFetcher::wake_at).min();
        let proposals = self.proposals.due_at().map(|due| due.0 as u64);
        [self.node.wake_at(), self.life.wake_at(), self.next_lag_tick, self.next_checkpoint, self.next_retention]
            .into_iter()
            .chain(fetchers)
            .chain(proposals)
            .chain(self.confirming.wake_at())
            .min()
            .unwrap_or(u64::MAX)
    }

    /// Whether it decides about the metadata.
    pub(super) fn leads(&self) -> bool {
        self.node.leads()
    }

    /// What the quorum's member is and knows.
    pub(super) fn member(&self) -> quorum::MemberStatus {
        self.node.member()
    }

    /// Up to where it has applied the metadata.
    pub(super) fn applied_end(&self) -> Offset {
        self.applied.end_offset()
    }

    /// The end of a replica's log, and its high watermark.
    pub(super) fn ends(&self, key: ReplicaKey) -> Option<(Offset, Offset)> {
        let partition = &self.replicas.get(&key)?.partition;
        Some((partition.log_end_offset(), partition.high_watermark()))
    }

    /// Where a replica's log begins.
    pub(super) fn log_start(&self, key: ReplicaKey) -> Option<Offset> {
        Some(self.replicas.get(&key)?.partition.log_start_offset())
    }

    /// What its disk says of the voters.
    pub(super) fn voter_sets(&self) -> &VoterSets {
        self.node.voter_sets()
    }

    /// Whether it serves clients.
    pub(super) fn serves(&self) -> bool {
        self.serves
    }

    fn let_time_pass(&mut self) {
        if self.node.wake_at() <= self.now {
            self.tell_node(node::Input::Tick);
        }
        if self.life.wake_at() <= self.now {
            self.tell_life(lifecycle::Input::Tick);
        }
        if self.next_lag_tick <= self.now {
            self.next_lag_tick = self.now + self.lag_ms / 2;
            self.tick_replicas();
            self.decide_again();
        }
        if self.next_checkpoint <= self.now {
            self.next_checkpoint = self.now + CHECKPOINT_INTERVAL_MS;
            self.write_checkpoints();
        }
        if self.next_retention <= self.now {
            self.next_retention = self.now + RETENTION_INTERVAL_MS;
            self.maintain_logs();
        }
    }

    /// Works off what one call of a machine has brought to others.
    fn settle(&mut self) {
        loop {
            if let Some(parked) = self.woken.pop_front() {
                self.wake(parked);
                continue;
            }
            let any = self.ask_leaders() | self.propose() | self.confirm_reads();
            if !any && self.woken.is_empty() {
                return;
            }
        }
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    fn monotonic(&self) -> MonotonicTime {
        MonotonicTime(self.now as i64)
    }

    fn wall_ms(&self) -> Timestamp {
        WALL_MS + self.now as i64
    }

    fn call(&mut self, to: BrokerId, request: Request, purpose: Purpose, deadline_ms: u64) -> CallId {
        let call = self.number();
        self.calls.insert(call, purpose);
        self.out.push(Out::Call { to, call, request, deadline_ms });
        call
    }

    fn answer(&mut self, to: Endpoint, call: CallId, answer: Answer) {
        self.out.push(Out::Send(to, Message::Return(call, answer)));
    }

    fn fail(&mut self, reason: String) {
        if !std::mem::replace(&mut self.is_over, true) {
            self.out.push(Out::Exit(Exit::Failed(reason)));
        }
    }
}
