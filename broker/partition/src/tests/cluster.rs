// SPDX-License-Identifier: Apache-2.0
//! A cluster at one moment and everything that may happen next. Replicas are the real ones; the controller, the
//! network and time are the least that lets them meet every order of events.

mod fingerprint;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use odradek_model::{BrokerEpoch, BrokerId, Offset, TopicId, TopicIdPartition, TopicName, TopicPartition};

use super::controller::{BROKERS, Controller, Metadata, all_brokers};
use super::properties::Committed;
use super::small_log::{Contents, SmallLog, produced};
use crate::{
    Acks, BrokerStatus, Brokers, Effect, FetchAnswer, FetchPlan, FollowerFetch, FollowerFetchError, FollowerFetched,
    FollowerStep, Followership, IsrAnswer, IsrChange, Leadership, LeadershipError, LocalBroker, MonotonicTime,
    Partition, PartitionSettings, PlantedBug,
};

const LAG_TIME_MAX_MS: i64 = 10;

/// How often the costly things may happen in one history.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Budget {
    pub(super) appends: u8,
    pub(super) kills: u8,
    /// Restarts that lose the last record of the log.
    pub(super) power_losses: u8,
    /// Brokers fenced while they live.
    pub(super) fences: u8,
    pub(super) moves: u8,
    /// Times that the lag time passes.
    pub(super) lags: u8,
    /// Messages lost, late or overtaken.
    pub(super) faults: u8,
}

/// Where a history begins and what may happen in it.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) in_sync: Vec<i32>,
    pub(super) min_in_sync: i32,
    pub(super) budget: Budget,
    pub(super) bug: Option<PlantedBug>,
    pub(super) controller_remembers_refusals: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Action {
    Append(BrokerId),
    /// A broker hears the next metadata.
    Hear(BrokerId),
    /// A broker hears the newest metadata and nothing of what was between.
    HearNewest(BrokerId),
    /// A broker hears once more what it heard last.
    HearAgain(BrokerId),
    SendFetch(BrokerId),
    ServeFetch(BrokerId),
    /// A fetch of an incarnation that is over arrives.
    ServeOldFetch(BrokerId),
    TakeAnswer(BrokerId),
    LoseAnswer(BrokerId),
    /// An answer does not arrive before the follower asks again.
    DelayAnswer(BrokerId),
    TakeLateAnswer(BrokerId),
    Tick(BrokerId),
    LagTimePasses,
    ServeIsrChange(usize),
    /// The leader gives up waiting; the change may still arrive.
    GiveUpIsrChange(usize),
    TakeIsrAnswer(usize),
    LoseIsrAnswer(usize),
    Kill(BrokerId),
    Restart(BrokerId),
    RestartAfterPowerLoss(BrokerId),
    Fence(BrokerId),
    Unfence(BrokerId),
    MoveLeader(BrokerId),
}

/// The metadata as one broker has heard it.
#[derive(Debug, Default)]
struct Heard(Mutex<Option<Arc<Metadata>>>);

impl Brokers for Heard {
    fn status(&self, broker: BrokerId) -> Option<BrokerStatus> {
        self.0.lock().expect("no test panics with it").as_ref()?.status(broker)
    }
}

#[derive(Debug)]
pub(super) struct Broker {
    id: BrokerId,
    pub(super) epoch: BrokerEpoch,
    pub(super) log: SmallLog,
    pub(super) partition: Option<Partition>,
    heard: Arc<Heard>,
    /// Index of the last metadata heard.
    seen: usize,
}

impl Clone for Broker {
    fn clone(&self) -> Self {
        let log = SmallLog::new(self.log.contents().clone());
        let heard = Arc::new(Heard(Mutex::new(self.heard.0.lock().expect("no test panics with it").clone())));
        let local = local_broker(self.id, &heard);
        let partition = self.partition.as_ref().map(|partition| partition.fork(local, Box::new(log.clone())));
        Self { id: self.id, epoch: self.epoch, log, partition, heard, seen: self.seen }
    }
}

fn local_broker(id: BrokerId, heard: &Arc<Heard>) -> LocalBroker {
    let brokers: Arc<dyn Brokers> = Arc::clone(heard) as Arc<dyn Brokers>;
    LocalBroker { id, replica_lag_time_max_ms: LAG_TIME_MAX_MS, brokers }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Fetch {
    plan: FetchPlan,
    request: FollowerFetch,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Answered {
    plan: FetchPlan,
    answer: FetchAnswer,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct IsrMessage {
    sender: BrokerId,
    sender_epoch: BrokerEpoch,
    change: IsrChange,
}

/// Most ISR changes or answers on their way at once; beyond it senders wait.
const ISR_MESSAGES_MAX: usize = 3;

/// A cluster at one moment.
#[derive(Clone, Debug)]
pub(super) struct Cluster {
    pub(super) brokers: [Rc<Broker>; BROKERS],
    pub(super) controller: Controller,
    history: Vec<Arc<Metadata>>,
    requests: BTreeMap<BrokerId, Fetch>,
    old_requests: BTreeMap<BrokerId, Fetch>,
    answers: BTreeMap<BrokerId, Answered>,
    late_answers: BTreeMap<BrokerId, Answered>,
    isr_changes: Vec<IsrMessage>,
    isr_answers: Vec<(IsrMessage, IsrAnswer)>,
    now: MonotonicTime,
    budget: Budget,
    bug: Option<PlantedBug>,
    min_in_sync: i32,
    pub(super) committed: Committed,
}

fn partition(broker: BrokerId, log: &SmallLog, heard: &Arc<Heard>, min_in_sync: i32) -> Partition {
    thread_local! {
        static ID: TopicIdPartition = {
            let topic = TopicName::new("orders").expect("a name");
            TopicIdPartition { id: TopicId::ZERO, topic_partition: TopicPartition { topic, partition: 0 } }
        };
    }
    let settings = PartitionSettings { min_insync_replicas: min_in_sync, flush_messages: None };
    Partition::new(ID.with(Clone::clone), local_broker(broker, heard), settings, Box::new(log.clone()), 0)
}

impl Cluster {
    pub(super) fn new(setup: &Setup) -> Self {
        let in_sync = setup.in_sync.iter().copied().map(BrokerId).collect();
        let mut controller = Controller::new(in_sync, setup.min_in_sync as usize);
        controller.remembers_refusals = setup.controller_remembers_refusals;
        let first = Arc::new(controller.now.clone());
        let broker = |id: i32| {
            let (log, heard) = (SmallLog::new(Contents::default()), Arc::new(Heard::default()));
            let partition = Some(partition(BrokerId(id), &log, &heard, setup.min_in_sync));
            Rc::new(Broker { id: BrokerId(id), epoch: i64::from(id), log, partition, heard, seen: 0 })
        };
        let mut cluster = Self {
            brokers: [broker(0), broker(1), broker(2)],
            controller,
            history: vec![first],
            requests: BTreeMap::new(),
            old_requests: BTreeMap::new(),
            answers: BTreeMap::new(),
            late_answers: BTreeMap::new(),
            isr_changes: Vec::new(),
            isr_answers: Vec::new(),
            now: MonotonicTime(0),
            budget: setup.budget,
            bug: setup.bug,
            min_in_sync: setup.min_in_sync,
            committed: Committed::default(),
        };
        for id in all_brokers() {
            if let Some(bug) = cluster.bug {
                cluster.on(id, |partition| {
                    partition.plant(bug);
                    Vec::new()
                });
            }
            cluster.take_metadata(id);
        }
        cluster
    }

    pub(super) fn broker(&self, id: BrokerId) -> &Broker {
        &self.brokers[id.0 as usize]
    }

    pub(super) fn replica(&self, id: BrokerId) -> Option<&Partition> {
        self.broker(id).partition.as_ref()
    }

    fn broker_mut(&mut self, id: BrokerId) -> &mut Broker {
        Rc::make_mut(&mut self.brokers[id.0 as usize])
    }

    /// Calls a live replica and carries its effects out.
    fn on(&mut self, id: BrokerId, call: impl FnOnce(&mut Partition) -> Vec<Effect>) {
        let sender_epoch = self.broker(id).epoch;
        let Some(partition) = Rc::make_mut(&mut self.brokers[id.0 as usize]).partition.as_mut() else { return };
        for effect in call(partition) {
            match effect {
                Effect::Checkpoint => partition.checkpointed(),
                Effect::ProposeIsr(change) => {
                    self.isr_changes.push(IsrMessage { sender: id, sender_epoch, change });
                }
                Effect::Flush => {}
                other => unreachable!("nobody waits: {other:?}"),
            }
        }
    }

    fn metadata_changed(&mut self) {
        self.history.push(Arc::new(self.controller.now.clone()));
    }

    /// A broker acts on the metadata that it has seen last.
    fn take_metadata(&mut self, id: BrokerId) {
        let seen = self.broker(id).seen;
        let metadata = Arc::clone(&self.history[seen]);
        let before = self.broker(id).heard.0.lock().expect("no test panics with it").replace(Arc::clone(&metadata));
        let now = self.now;
        self.on(id, |partition| match metadata.leader {
            Some(leader) if leader == id => {
                let leadership = Leadership {
                    leader_epoch: metadata.leader_epoch,
                    partition_epoch: metadata.partition_epoch,
                    replicas: all_brokers().collect(),
                    in_sync: metadata.in_sync.clone(),
                };
                partition.lead(leadership, now).expect("the disk is good")
            }
            Some(leader) => {
                let (leader_epoch, partition_epoch) = (metadata.leader_epoch, metadata.partition_epoch);
                partition.follow(Followership { leader, leader_epoch, partition_epoch }, now)
            }
            None => partition.resign(),
        });
        let brokers_changed = before.is_some_and(|before| before.brokers != metadata.brokers);
        if brokers_changed && self.isr_changes.len() < ISR_MESSAGES_MAX {
            self.on(id, |partition| partition.brokers_changed(now));
        }
    }

    /// Everything that may happen now.
    pub(super) fn actions(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        let budget = &self.budget;
        for id in all_brokers() {
            let broker = self.broker(id);
            let status = self.controller.now.brokers[id.0 as usize];
            if let Some(partition) = &broker.partition {
                if broker.seen + 1 < self.history.len() {
                    actions.push(Action::Hear(id));
                }
                if broker.seen + 2 < self.history.len() {
                    actions.push(Action::HearNewest(id));
                }
                if partition.leadership().is_some() {
                    if budget.appends > 0 {
                        actions.push(Action::Append(id));
                    }
                    if partition.pending_isr_change().is_some() && budget.faults > 0 {
                        actions.push(Action::HearAgain(id));
                    }
                    if partition.pending_isr_change().is_none() && self.isr_changes.len() < ISR_MESSAGES_MAX {
                        actions.push(Action::Tick(id));
                    }
                }
                let asks = self.requests.contains_key(&id) || self.answers.contains_key(&id);
                if partition.following().is_some() && !asks {
                    actions.push(Action::SendFetch(id));
                }
                if self.answers.contains_key(&id) {
                    actions.push(Action::TakeAnswer(id));
                    if budget.faults > 0 {
                        actions.push(Action::LoseAnswer(id));
                        actions.push(Action::DelayAnswer(id));
                    }
                }
                if self.late_answers.contains_key(&id) {
                    actions.push(Action::TakeLateAnswer(id));
                }
                if budget.kills > 0 {
                    actions.push(Action::Kill(id));
                }
                if !status.fenced && budget.fences > 0 {
                    actions.push(Action::Fence(id));
                }
                if status.fenced && status.epoch == broker.epoch {
                    actions.push(Action::Unfence(id));
                }
                if budget.moves > 0 && !status.fenced && self.controller.now.leader != Some(id) {
                    actions.push(Action::MoveLeader(id));
                }
            } else {
                if !status.fenced {
                    actions.push(Action::Fence(id));
                }
                actions.push(Action::Restart(id));
                if budget.power_losses > 0 && !broker.log.contents().records.is_empty() {
                    actions.push(Action::RestartAfterPowerLoss(id));
                }
            }
            let alive = |id| self.replica(id).is_some();
            if self.requests.get(&id).is_some_and(|fetch| alive(fetch.plan.leader)) {
                actions.push(Action::ServeFetch(id));
            }
            if self.old_requests.get(&id).is_some_and(|fetch| alive(fetch.plan.leader)) {
                actions.push(Action::ServeOldFetch(id));
            }
        }
        if budget.lags > 0 {
            actions.push(Action::LagTimePasses);
        }
        for (at, message) in self.isr_changes.iter().enumerate() {
            actions.push(Action::ServeIsrChange(at));
            let waits = self.replica(message.sender).and_then(Partition::pending_isr_change) == Some(&message.change);
            if budget.faults > 0 && waits && self.isr_changes.len() < ISR_MESSAGES_MAX {
                actions.push(Action::GiveUpIsrChange(at));
            }
        }
        for at in 0..self.isr_answers.len() {
            actions.push(Action::TakeIsrAnswer(at));
            if budget.faults > 0 {
                actions.push(Action::LoseIsrAnswer(at));
            }
        }
        actions
    }

    /// Lets it happen.
    pub(super) fn apply(&mut self, action: Action) {
        match action {
            Action::Append(id) => {
                self.budget.appends -= 1;
                self.on(id, |partition| {
                    let appended = partition.append(produced(), Acks::Leader, None, 0);
                    appended.map_or_else(|_| Vec::new(), |(_, effects)| effects)
                });
            }
            Action::Hear(id) => {
                self.broker_mut(id).seen += 1;
                self.take_metadata(id);
            }
            Action::HearNewest(id) => {
                self.broker_mut(id).seen = self.history.len() - 1;
                self.take_metadata(id);
            }
            Action::HearAgain(id) => {
                self.budget.faults -= 1;
                self.take_metadata(id);
            }
            Action::SendFetch(id) => self.send_fetch(id),
            Action::ServeFetch(id) => {
                let fetch = self.requests.remove(&id).expect("it is on its way");
                if let Some(answer) = self.serve(&fetch) {
                    self.answers.insert(id, Answered { plan: fetch.plan, answer });
                }
            }
            Action::ServeOldFetch(id) => {
                let fetch = self.old_requests.remove(&id).expect("it is on its way");
                self.serve(&fetch);
            }
            Action::TakeAnswer(id) => {
                let answered = self.answers.remove(&id).expect("it is on its way");
                self.take_answer(id, answered);
            }
            Action::LoseAnswer(id) => {
                self.budget.faults -= 1;
                self.answers.remove(&id);
            }
            Action::DelayAnswer(id) => {
                self.budget.faults -= 1;
                let late = self.answers.remove(&id).expect("it is on its way");
                self.late_answers.insert(id, late);
            }
            Action::TakeLateAnswer(id) => {
                let answered = self.late_answers.remove(&id).expect("it is on its way");
                self.take_answer(id, answered);
            }
            Action::Tick(id) => {
                let now = self.now;
                self.on(id, |partition| partition.tick(now));
            }
            Action::LagTimePasses => {
                self.budget.lags -= 1;
                self.now.0 += LAG_TIME_MAX_MS + 1;
            }
            Action::ServeIsrChange(at) => {
                let message = self.isr_changes.remove(at);
                let before = self.controller.now.clone();
                let answer = self.controller.alter(message.sender, message.sender_epoch, &message.change);
                if self.controller.now != before {
                    self.metadata_changed();
                }
                self.isr_answers.push((message, answer));
            }
            Action::GiveUpIsrChange(at) => {
                self.budget.faults -= 1;
                let IsrMessage { sender, change, .. } = self.isr_changes[at].clone();
                self.on(sender, |partition| partition.isr_answered(&change, IsrAnswer::Retry));
            }
            Action::TakeIsrAnswer(at) => {
                let (IsrMessage { sender, change, .. }, answer) = self.isr_answers.remove(at);
                self.on(sender, |partition| partition.isr_answered(&change, answer));
            }
            Action::LoseIsrAnswer(at) => {
                self.budget.faults -= 1;
                let (IsrMessage { sender, change, .. }, _) = self.isr_answers.remove(at);
                self.on(sender, |partition| partition.isr_answered(&change, IsrAnswer::Retry));
            }
            Action::Kill(id) => {
                self.budget.kills -= 1;
                self.broker_mut(id).partition = None;
                if let Some(fetch) = self.requests.remove(&id) {
                    self.old_requests.insert(id, fetch);
                }
                self.answers.remove(&id);
                self.late_answers.remove(&id);
                self.isr_answers.retain(|(message, _)| message.sender != id);
            }
            Action::Restart(id) => self.restart(id, false),
            Action::RestartAfterPowerLoss(id) => {
                self.budget.power_losses -= 1;
                let mut contents = self.broker(id).log.contents().clone();
                let end = contents.records.len() as Offset;
                contents.cut(end - 1);
                self.broker_mut(id).log = SmallLog::new(contents);
                self.restart(id, true);
            }
            Action::Fence(id) => {
                if self.replica(id).is_some() {
                    self.budget.fences -= 1;
                }
                self.controller.fence(id);
                self.metadata_changed();
            }
            Action::Unfence(id) => {
                self.controller.unfence(id);
                self.metadata_changed();
            }
            Action::MoveLeader(id) => {
                self.budget.moves -= 1;
                if self.controller.move_leader(id) {
                    self.metadata_changed();
                }
            }
        }
    }

    /// A process begins: its high watermark was never checkpointed, its registration is new.
    fn restart(&mut self, id: BrokerId, unclean: bool) {
        self.controller.register(id, unclean);
        self.metadata_changed();
        let (seen, epoch) = (self.history.len() - 1, self.controller.now.brokers[id.0 as usize].epoch);
        let (bug, min_in_sync) = (self.bug, self.min_in_sync);
        let broker = self.broker_mut(id);
        broker.heard = Arc::new(Heard::default());
        let mut new = partition(id, &broker.log, &broker.heard, min_in_sync);
        if let Some(bug) = bug {
            new.plant(bug);
        }
        broker.partition = Some(new);
        broker.epoch = epoch;
        broker.seen = seen;
        self.take_metadata(id);
    }

    fn send_fetch(&mut self, id: BrokerId) {
        let broker_epoch = self.broker(id).epoch;
        let partition = self.broker_mut(id).partition.as_mut().expect("a live follower");
        if let FollowerStep::Fetch(plan) = partition.next_step() {
            let request = FollowerFetch {
                replica: id,
                broker_epoch,
                leader_epoch: plan.leader_epoch,
                fetch_offset: plan.fetch_offset,
                last_fetched_epoch: plan.last_fetched_epoch,
                log_start_offset: plan.log_start_offset,
            };
            self.requests.insert(id, Fetch { plan, request });
        }
    }

    /// The leader that is meant judges a fetch and reads; `None` if the follower is to ask again.
    fn serve(&mut self, fetch: &Fetch) -> Option<FetchAnswer> {
        let (now, leader) = (self.now, fetch.plan.leader);
        let mut served = None;
        self.on(leader, |partition| match partition.follower_fetch(&fetch.request, now) {
            Ok((fetched, effects)) => {
                served = Some(Ok(fetched));
                effects
            }
            Err(error) => {
                served = Some(Err(error));
                Vec::new()
            }
        });
        match served? {
            Ok(FollowerFetched::Read(view)) => {
                let fetched = view.read_for_follower(fetch.request.fetch_offset, 1 << 20, true).expect("readable");
                let (records, high_watermark) = (fetched.records, fetched.high_watermark);
                Some(FetchAnswer::Records { records, high_watermark, log_start_offset: 0 })
            }
            Ok(FollowerFetched::Diverging { epoch, end_offset }) => Some(FetchAnswer::Diverging { epoch, end_offset }),
            Err(error @ FollowerFetchError::OffsetOutOfRange { .. }) => {
                assert!(self.bug.is_some(), "all logs begin at 0, and a leader's epoch is the highest: {error}");
                None
            }
            Err(FollowerFetchError::Leadership(LeadershipError::Fenced { .. })) => Some(FetchAnswer::Fenced),
            Err(_) => None,
        }
    }

    fn take_answer(&mut self, id: BrokerId, answered: Answered) {
        let self_inflicted = self.bug.is_some();
        self.on(id, |partition| {
            let (effects, result) = partition.fetch_answered(&answered.plan, answered.answer, 0);
            assert!(result.is_ok() || self_inflicted, "a good leader's answer cannot be acted upon: {result:?}");
            effects
        });
    }

    /// Ends all trouble and lets everything that is on its way arrive.
    pub(super) fn heal(&mut self) {
        self.budget = Budget { appends: 1, ..Budget::default() };
        for round in 0..60 {
            // One more record, so that there is something to commit.
            let leader = self.controller.now.leader.filter(|_| round == 30);
            if let Some(leader) = leader {
                self.apply(Action::Append(leader));
            }
            if round == 20 {
                self.budget.lags = 1;
                self.apply(Action::LagTimePasses);
            }
            for action in self.actions() {
                let heals = !matches!(action, Action::Append(_) | Action::Fence(_)) && self.actions().contains(&action);
                if heals {
                    self.apply(action);
                }
            }
        }
    }
}
