// SPDX-License-Identifier: Apache-2.0
//! Replication between brokers, as tasks: one per leader and lane that fetches what this broker follows
//! ([`odradek_replication::Fetcher`] says what and when), one that proposes ISR changes to the controller, one that
//! writes the checkpoints after a log was cut, one that asks other replicas whether this broker still leads. It must not know sockets: other brokers are reached through
//! [`ReplicaSource`] and [`IsrChanges`].
mod checkpointing;
mod confirming;
mod fetching;
mod peer_source;
mod proposing;
mod source;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use odradek_partition::{IsrChange, MonotonicTime};
use odradek_replication::{
    FetchSettings, Fetcher, FetcherId, FollowEffect, Following, Lane, Proposals, ReplicaKey, Throttle,
};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::confirming::Confirming;
use self::fetching::Turn;
pub(crate) use self::peer_source::ControllerOf;
pub use self::source::{IsrChanges, IsrUnavailable, ReplicaSource, SourceError, SourceFuture};
use crate::broker::Broker;
use crate::clock::Clock;
use crate::replica::Replica;
use crate::settings::BrokerSettings;

/// What replicas ask for that goes beyond one of them, and who fetches for them.
#[derive(Debug)]
pub struct Replication {
    settings: FetchSettings,
    /// `num.replica.fetchers`.
    lanes: u8,
    fetchers: Mutex<Fetchers>,
    /// Of what throttled followers read here.
    leader_throttle: Mutex<Option<Throttle>>,
    proposals: Mutex<Proposals>,
    proposed: Notify,
    confirming: Confirming,
    /// Replicas whose log was cut and whose checkpoints are not written yet. At most those of this broker: a replica
    /// that is cut appends nothing, and so is not cut again, before its checkpoints are written.
    cut: Mutex<Vec<Arc<Replica>>>,
    was_cut: Notify,
    links: OnceLock<Links>,
}

/// What the tasks work with.
#[derive(Debug, Clone)]
struct Links {
    /// Weak: the broker holds what holds this.
    broker: Weak<Broker>,
    source: Arc<dyn ReplicaSource>,
    isr_changes: Arc<dyn IsrChanges>,
    tasks: TaskTracker,
    /// Images come by threads of their own, from which nothing else leads to the runtime.
    runtime: Handle,
    stopping: CancellationToken,
}

impl Links {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_on(task, &self.runtime);
    }
}

#[derive(Debug, Default)]
struct Fetchers {
    by_id: HashMap<FetcherId, Arc<RunningFetcher>>,
    following: Following,
}

/// A fetcher and its task.
#[derive(Debug)]
struct RunningFetcher {
    fetcher: Mutex<Fetcher>,
    /// Told when there may be something to ask.
    wake: Notify,
    /// The same for newcomers.
    wake_of_newcomers: Notify,
}

impl RunningFetcher {
    fn lock(&self) -> MutexGuard<'_, Fetcher> {
        self.fetcher.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        self.wake.notify_one();
        self.wake_of_newcomers.notify_one();
    }
}

impl Default for Replication {
    fn default() -> Self {
        Self::new(&BrokerSettings::default())
    }
}

impl Replication {
    /// Nothing is followed yet, and nothing runs before [`Self::start`].
    pub fn new(settings: &BrokerSettings) -> Self {
        let bytes = |name: &str| usize::try_from(settings.number(name)).unwrap_or(0);
        Self {
            settings: FetchSettings {
                request_bytes: bytes("replica.fetch.response.max.bytes"),
                partition_bytes: bytes("replica.fetch.max.bytes"),
                min_bytes: bytes("replica.fetch.min.bytes"),
                wait_ms: settings.number("replica.fetch.wait.max.ms"),
                backoff_ms: settings.number("replica.fetch.backoff.ms"),
            },
            lanes: u8::try_from(settings.number("num.replica.fetchers")).unwrap_or(1),
            fetchers: Mutex::default(),
            leader_throttle: Mutex::default(),
            proposals: Mutex::default(),
            proposed: Notify::new(),
            confirming: Confirming::default(),
            cut: Mutex::default(),
            was_cut: Notify::new(),
            links: OnceLock::new(),
        }
    }

    /// `num.replica.fetchers`.
    pub fn lanes(&self) -> u8 {
        self.lanes
    }

    /// Begins to talk to other brokers, until `stopping`. Only the first call counts.
    pub fn start(
        self: &Arc<Self>,
        broker: &Arc<Broker>,
        source: Arc<dyn ReplicaSource>,
        isr_changes: Arc<dyn IsrChanges>,
        tasks: &TaskTracker,
        runtime: Handle,
        stopping: &CancellationToken,
    ) {
        let links = Links {
            broker: Arc::downgrade(broker),
            source,
            isr_changes,
            tasks: tasks.clone(),
            runtime,
            stopping: stopping.clone(),
        };
        let fetchers = self.fetchers();
        if self.links.set(links.clone()).is_err() {
            return;
        }
        for running in fetchers.by_id.values() {
            self.spawn_fetcher(&links, running);
        }
        drop(fetchers);
        links.spawn(proposing::run(Arc::clone(self), links.clone()));
        links.spawn(checkpointing::run(Arc::clone(self), links.clone()));
        links.spawn(confirming::run(Arc::clone(self), links.clone()));
    }

    fn spawn_fetcher(&self, links: &Links, running: &Arc<RunningFetcher>) {
        let lane = running.lock().id().lane;
        let run = |turn| fetching::run(self.settings, links.clone(), Arc::clone(running), turn);
        links.spawn(run(Turn::All));
        if let Lane::Ordinary(_) = lane {
            links.spawn(run(Turn::Newcomers));
        }
    }

    /// Has a partition fetched by this fetcher, or by none ([`Following::follow`]).
    pub fn follow(&self, key: ReplicaKey, wanted: Option<FetcherId>, is_news: bool, now: MonotonicTime) {
        let mut fetchers = self.fetchers();
        let effects = fetchers.following.follow(key, wanted, is_news);
        self.carry_out(&mut fetchers, effects, now);
    }

    fn carry_out(&self, fetchers: &mut Fetchers, effects: Vec<FollowEffect>, now: MonotonicTime) {
        for effect in effects {
            match effect {
                FollowEffect::Begin { id, key, rate } => {
                    let throttle = rate.map(|rate| Throttle::new(rate, now));
                    let mut fetcher = Fetcher::new(id, self.settings, throttle);
                    fetcher.add(key);
                    let running = Arc::new(RunningFetcher {
                        fetcher: Mutex::new(fetcher),
                        wake: Notify::new(),
                        wake_of_newcomers: Notify::new(),
                    });
                    fetchers.by_id.insert(id, Arc::clone(&running));
                    if let Some(links) = self.links.get() {
                        self.spawn_fetcher(links, &running);
                    }
                }
                FollowEffect::Add { id, key } => fetchers.tell(id, |fetcher| fetcher.add(key)),
                FollowEffect::Remove { id, key } => fetchers.tell(id, |fetcher| fetcher.remove(key)),
                FollowEffect::Throttle { id, rate } => fetchers.tell(id, |fetcher| fetcher.set_throttle(rate, now)),
                // Its tasks end when they see that nothing is left.
                FollowEffect::End(id) => {
                    fetchers.by_id.remove(&id);
                }
            }
        }
    }

    /// Bounds the bytes per second of throttled partitions: those fetched from others
    /// (`follower.replication.throttled.rate`), and those that others fetch here (`leader.replication.throttled.rate`).
    pub fn throttle(&self, followers: Option<u64>, leaders: Option<u64>, now: MonotonicTime) {
        let mut fetchers = self.fetchers();
        let effects = fetchers.following.throttle(followers);
        self.carry_out(&mut fetchers, effects, now);
        drop(fetchers);
        let mut throttle = self.leader_throttle();
        if throttle.as_ref().map(Throttle::bytes_per_second) != leaders {
            *throttle = leaders.map(|rate| Throttle::new(rate, now));
        }
    }

    /// Bytes of records that a throttled follower may be sent now: a second's at most, none while there is a debt.
    pub fn may_send(&self, now: MonotonicTime) -> usize {
        let mut throttle = self.leader_throttle();
        let Some(throttle) = &mut *throttle else { return usize::MAX };
        let second = usize::try_from(throttle.bytes_per_second()).unwrap_or(usize::MAX);
        if throttle.until(now).is_none() { second } else { 0 }
    }

    /// Notes records sent to a throttled follower.
    pub fn sent(&self, bytes: usize, now: MonotonicTime) {
        if let Some(throttle) = &mut *self.leader_throttle() {
            throttle.take(bytes, now);
        }
    }

    /// A follower's disk has done what the follower waited for.
    pub fn ready(&self, key: ReplicaKey) {
        let fetchers = self.fetchers();
        let running = fetchers.following.fetcher(key).and_then(|id| fetchers.by_id.get(&id));
        if let Some(running) = running {
            running.lock().ready(key);
            running.wake();
        }
    }

    /// Has an ISR change sent to the controller.
    pub fn propose(&self, key: ReplicaKey, change: IsrChange, now: MonotonicTime) {
        self.proposals().propose(key, change, now);
        self.proposed.notify_one();
    }

    /// Has the checkpoints written after a replica's log was cut.
    pub fn was_cut(&self, replica: Arc<Replica>) {
        self.cut.lock().unwrap_or_else(PoisonError::into_inner).push(replica);
        self.was_cut.notify_one();
    }

    fn fetchers(&self) -> MutexGuard<'_, Fetchers> {
        self.fetchers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leader_throttle(&self) -> MutexGuard<'_, Option<Throttle>> {
        self.leader_throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn proposals(&self) -> MutexGuard<'_, Proposals> {
        self.proposals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fetchers {
    /// Changes a fetcher, and has its tasks look.
    fn tell(&self, id: FetcherId, change: impl FnOnce(&mut Fetcher)) {
        if let Some(running) = self.by_id.get(&id) {
            change(&mut running.lock());
            running.wake();
        }
    }
}

/// How long it is until `until`; a millisecond more, so that the time has come after it.
fn time_until(until: MonotonicTime, clock: &dyn Clock) -> Duration {
    Duration::from_millis(until.millis_since(clock.monotonic()) as u64 + 1)
}

/// Sleeps until that time, or for ever.
async fn sleep_until(until: Option<Duration>) {
    match until {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}
