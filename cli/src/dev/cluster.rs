// SPDX-License-Identifier: Apache-2.0
//! The brokers of a dev cluster while it runs: starts, stops, kills and pauses single ones. It must not know how it is
//! asked to, nor the broker's parts.
use std::io::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use odradek_runtime::{Broker, Incarnation, Machine, RunningBroker, Sockets};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::plan::{BrokerPlan, Plan};

/// How long a restart waits for its broker to serve; after that it goes on by itself. Recovery after a kill takes
/// seconds, and a controller may have to be elected first.
pub(super) const RESTART_TIME: Duration = Duration::from_mins(1);

/// How long a start waits for voters: each takes a quarter of a second. Without them it is ready all the same.
const VOTERS_TIME: Duration = Duration::from_secs(10);
/// How often it looks.
const VOTERS_PAUSE: Duration = Duration::from_millis(20);

/// All brokers, by id.
#[derive(Debug)]
pub(super) struct Cluster {
    slots: Vec<Arc<Slot>>,
}

/// The place of one broker, which outlives its deaths.
#[derive(Debug)]
struct Slot {
    plan: BrokerPlan,
    /// It is the only one: then the process ends as it does.
    alone: bool,
    /// Held by who kills or starts: one at a time.
    order: tokio::sync::Mutex<()>,
    life: Mutex<Option<Life>>,
    state: watch::Sender<State>,
}

/// A broker's present life, from its start on.
#[derive(Debug)]
struct Life {
    incarnation: Arc<Incarnation>,
    /// Once it serves.
    broker: Option<RunningBroker>,
    /// The task that waits for it to serve and then to fail.
    watching: AbortHandle,
}

/// How a broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Starting,
    Running,
    Paused,
    /// With the reason, if it stopped by itself.
    Stopped(Option<String>),
}

/// A broker as `odradek dev broker list` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BrokerRow {
    pub(super) id: i32,
    pub(super) rack: Option<String>,
    pub(super) state: String,
    /// Where clients reach it.
    pub(super) address: String,
    pub(super) data_dir: String,
    /// Whether it runs and is the controller.
    pub(super) controller: bool,
    /// Partitions that it leads.
    pub(super) leaders: usize,
    /// Why it stopped, if it did so by itself.
    pub(super) reason: Option<String>,
}

impl Cluster {
    /// The planned brokers, none of which runs yet.
    pub(super) fn new(plan: &Plan) -> Self {
        let alone = plan.brokers.len() == 1;
        let slot = |plan: &BrokerPlan| {
            Arc::new(Slot {
                plan: plan.clone(),
                alone,
                order: tokio::sync::Mutex::default(),
                life: Mutex::default(),
                state: watch::Sender::new(State::Stopped(None)),
            })
        };
        Self { slots: plan.brokers.iter().map(slot).collect() }
    }

    /// Starts all of them at once, as each may have to wait for the others; returns when all serve.
    pub(super) async fn start(&self, sockets: Vec<Sockets>) -> anyhow::Result<()> {
        for (slot, sockets) in self.slots.iter().zip(sockets) {
            slot.begin(sockets)?;
        }
        for slot in &self.slots {
            if let State::Stopped(reason) = slot.started().await {
                let reason = reason.unwrap_or_else(|| "it was killed".to_owned());
                if slot.alone {
                    bail!(reason);
                }
                bail!("broker {}: {reason}", slot.id());
            }
        }
        self.wait_for_voters().await;
        Ok(())
    }

    /// The brokers of a new cluster begin to vote one after another. Before three do, the loss of one stops the metadata,
    /// and whoever reads the ready line may kill one at once. Those of a cluster that is not new vote already.
    async fn wait_for_voters(&self) {
        let wanted = if self.slots.len() < 3 { self.slots.len() } else { 3 };
        let vote =
            || self.slots.iter().filter_map(|slot| slot.view()).any(|view| view.is_controller && view.voters >= wanted);
        let deadline = Instant::now() + VOTERS_TIME;
        while wanted > 1 && !vote() && Instant::now() < deadline {
            tokio::time::sleep(VOTERS_PAUSE).await;
        }
    }

    /// Waits until the only broker cannot go on. One among several ends by itself.
    pub(super) async fn failed(&self) -> anyhow::Error {
        let [slot] = &self.slots[..] else { return std::future::pending().await };
        let mut state = slot.state.subscribe();
        match state.wait_for(|state| matches!(state, State::Stopped(Some(_)))).await.as_deref() {
            Ok(State::Stopped(Some(reason))) => anyhow!(reason.clone()),
            _ => std::future::pending().await,
        }
    }

    /// How all of them are.
    pub(super) fn list(&self) -> Vec<BrokerRow> {
        let views: Vec<_> = self.slots.iter().filter_map(|slot| Some((slot.id(), slot.view()?))).collect();
        let newest = views.iter().max_by_key(|(_, view)| view.end);
        let leading = views.iter().filter(|(_, view)| view.is_controller);
        let controller = leading.max_by_key(|(_, view)| view.controller_epoch).map(|(id, _)| *id);
        let row = |slot: &Arc<Slot>| {
            let state = slot.state.borrow().clone();
            let id = slot.id();
            BrokerRow {
                id,
                rack: slot.plan.config.rack.clone(),
                state: match &state {
                    State::Starting => "starting",
                    State::Running => "running",
                    State::Paused => "paused",
                    State::Stopped(_) => "stopped",
                }
                .to_owned(),
                address: slot.plan.advertised.clone(),
                data_dir: slot.plan.config.data_folder.to_string_lossy().into_owned(),
                controller: controller == Some(id),
                leaders: newest.and_then(|(_, view)| view.leaders.get(&id).copied()).unwrap_or(0),
                reason: if let State::Stopped(reason) = state { reason } else { None },
            }
        };
        self.slots.iter().map(row).collect()
    }

    fn slot(&self, id: i32) -> anyhow::Result<&Arc<Slot>> {
        let slot = usize::try_from(id).ok().and_then(|id| self.slots.get(id));
        slot.with_context(|| format!("there is no broker {id}: they are 0 to {}", self.slots.len() - 1))
    }

    /// Ends a broker as kill -9 would.
    pub(super) async fn kill(&self, id: i32) -> anyhow::Result<()> {
        let slot = self.slot(id)?;
        let _order = slot.order.lock().await;
        if !slot.kill().await? {
            bail!("broker {id} does not run");
        }
        Ok(())
    }

    /// Starts a broker that is stopped, or kills and starts one that is not; returns when it serves.
    pub(super) async fn restart(&self, id: i32) -> anyhow::Result<()> {
        let slot = self.slot(id)?;
        {
            let _order = slot.order.lock().await;
            slot.kill().await?;
            slot.begin(Sockets::default())?;
        }
        match tokio::time::timeout(RESTART_TIME, slot.started()).await {
            Ok(State::Stopped(reason)) => bail!("broker {id}: {}", reason.as_deref().unwrap_or("it was killed")),
            Ok(_) => Ok(()),
            Err(_) => bail!("broker {id} does not serve yet after {} s; it goes on starting", RESTART_TIME.as_secs()),
        }
    }

    /// Stops a broker where it is, as SIGSTOP would.
    pub(super) async fn pause(&self, id: i32) -> anyhow::Result<()> {
        let slot = self.slot(id)?;
        let _order = slot.order.lock().await;
        let incarnation = slot.serving().with_context(|| format!("broker {id} does not run"))?;
        incarnation.pause().await;
        slot.change(&incarnation, |state| *state == State::Running, State::Paused);
        Ok(())
    }

    /// Lets a broker that was paused go on, as SIGCONT would.
    pub(super) async fn resume(&self, id: i32) -> anyhow::Result<()> {
        let slot = self.slot(id)?;
        let _order = slot.order.lock().await;
        let incarnation = slot.serving().with_context(|| format!("broker {id} does not run"))?;
        incarnation.resume();
        slot.change(&incarnation, |state| *state == State::Paused, State::Running);
        Ok(())
    }

    /// Stops all of them cleanly, at once.
    pub(super) async fn stop(&self) {
        let mut stops = JoinSet::new();
        for slot in &self.slots {
            let slot = Arc::clone(slot);
            stops.spawn(async move { slot.stop().await });
        }
        stops.join_all().await;
    }
}

impl Slot {
    fn id(&self) -> i32 {
        self.plan.config.broker_id
    }

    fn life(&self) -> MutexGuard<'_, Option<Life>> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The threads of the broker, if it serves or is paused.
    fn serving(&self) -> Option<Arc<Incarnation>> {
        self.life().as_ref().filter(|life| life.broker.is_some()).map(|life| Arc::clone(&life.incarnation))
    }

    /// What this broker knows of the cluster, if it is there to be asked.
    fn view(&self) -> Option<odradek_runtime::View> {
        let running = *self.state.borrow() == State::Running;
        self.life().as_ref().filter(|_| running)?.broker.as_ref().map(RunningBroker::view)
    }

    /// Changes the state if it is still this life's.
    fn change(&self, incarnation: &Arc<Incarnation>, from: impl Fn(&State) -> bool, to: State) {
        let life = self.life();
        if life.as_ref().is_some_and(|life| Arc::ptr_eq(&life.incarnation, incarnation)) {
            self.state.send_if_modified(|state| {
                let applies = from(state);
                if applies {
                    *state = to;
                }
                applies
            });
        }
    }

    /// Begins a life. The broker's sockets are given, or bound at its addresses.
    fn begin(self: &Arc<Self>, sockets: Sockets) -> anyhow::Result<()> {
        let name = (!self.alone).then(|| self.id().to_string());
        let incarnation = Arc::new(Incarnation::new(name.as_deref(), self.plan.config.worker_threads)?);
        let machine = Machine { disk: incarnation.disk(), gate: incarnation.gate(), sockets };
        let start = incarnation.spawn(Broker::start_on(machine, self.plan.config.clone()));
        let mut life = self.life();
        self.state.send_replace(State::Starting);
        // Weak: the life holds the end of this task.
        let (slot, of) = (Arc::downgrade(self), Arc::downgrade(&incarnation));
        let watching = tokio::spawn(async move {
            let reason = match start.await {
                Ok(Ok(broker)) => {
                    let failed = broker.failed();
                    let (Some(slot), Some(of)) = (slot.upgrade(), of.upgrade()) else { return };
                    if !slot.serves(&of, broker) {
                        return;
                    }
                    drop((slot, of));
                    failed.await.to_string()
                }
                Ok(Err(error)) => error.to_string(),
                Err(error) => format!("its start ended: {error}"),
            };
            if let (Some(slot), Some(of)) = (slot.upgrade(), of.upgrade()) {
                slot.fails(&of, reason).await;
            }
        });
        *life = Some(Life { incarnation, broker: None, watching: watching.abort_handle() });
        Ok(())
    }

    /// The broker is there; false if its life has ended meanwhile.
    fn serves(&self, incarnation: &Arc<Incarnation>, broker: RunningBroker) -> bool {
        {
            let mut life = self.life();
            match life.as_mut() {
                Some(life) if Arc::ptr_eq(&life.incarnation, incarnation) => life.broker = Some(broker),
                _ => return false,
            }
        }
        self.change(incarnation, |state| *state == State::Starting, State::Running);
        true
    }

    /// The broker cannot go on, or never could: among several it ends alone. The only one is stopped by who waits for it.
    async fn fails(&self, incarnation: &Arc<Incarnation>, reason: String) {
        if incarnation.is_killed() {
            return;
        }
        if !self.alone {
            let line = reason.replace('\n', " ");
            let _ = writeln!(std::io::stderr(), "odradek dev: broker {} stopped: {line}", self.id());
            let broker = self.life().as_mut().and_then(|life| life.broker.take());
            incarnation.kill(broker).await;
        }
        self.change(incarnation, |_| true, State::Stopped(Some(reason)));
    }

    /// Waits while it starts.
    async fn started(&self) -> State {
        let mut state = self.state.subscribe();
        let known = state.wait_for(|state| *state != State::Starting).await.map(|state| state.clone());
        known.unwrap_or(State::Stopped(None))
    }

    /// Ends the present life as kill -9 would; false if there is none. Only for who has the order.
    async fn kill(&self) -> anyhow::Result<bool> {
        let Some(life) = self.life().take() else { return Ok(false) };
        life.watching.abort();
        let was_alive = !life.incarnation.is_killed();
        let ended = life.incarnation.kill(life.broker).await;
        self.state.send_replace(State::Stopped(None));
        if !ended {
            bail!("broker {} was killed, but some of its threads do not end", self.id());
        }
        Ok(was_alive)
    }

    /// Ends it cleanly if it serves, also if it is paused; one that starts is killed.
    async fn stop(&self) {
        let _order = self.order.lock().await;
        let Some(life) = self.life().take() else { return };
        life.watching.abort();
        life.incarnation.resume();
        if let (Some(broker), false) = (life.broker, life.incarnation.is_killed()) {
            let _ = if self.alone {
                life.incarnation.spawn(broker.shutdown()).await
            } else {
                life.incarnation.spawn(broker.shutdown_with_all()).await
            };
            life.incarnation.finish().await;
        } else {
            life.incarnation.kill(()).await;
        }
    }
}
