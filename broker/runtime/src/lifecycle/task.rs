// SPDX-License-Identifier: Apache-2.0
//! Drives a [`BrokerLifecycle`]: asks the controller, opens replicas on a thread that may block, takes over images on a
//! thread of its own, and tells the start and the stop of the broker how far it is.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use odradek_metadata::{BrokerImage, Heartbeat, Image, PartitionKey, RegisterBroker, RegisterBrokerError};
use odradek_model::BrokerId;
use odradek_server::broker::Broker;
use odradek_server::failure::Failure;
use odradek_server::private::PRIVATE_LISTENER;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{BrokerLifecycle, Effect, Input, NoHeartbeat, OwnRegistration};
use crate::broker::StartError;
use crate::incarnation::spawn_thread;
use crate::storage::StorageError;

/// Inputs that wait: one of each kind of question, and the end of recovery.
const WAITING_INPUTS: usize = 8;
/// How long one question waits for a controller before it counts as unanswered; the lifecycle asks again.
const CONTROLLER_WAIT: Duration = Duration::from_secs(2);

/// What the task works with.
pub(crate) struct LifecycleParts {
    pub(crate) broker: Arc<Broker>,
    pub(crate) registration: RegisterBroker,
    /// Committed images of the metadata node.
    pub(crate) images: watch::Receiver<Arc<Image>>,
    pub(crate) failure: Arc<Failure>,
    pub(crate) tasks: TaskTracker,
    /// Ends the task, whatever it waits for.
    pub(crate) stopped: CancellationToken,
}

/// The start's and the stop's ends of the task.
#[derive(Debug)]
pub(crate) struct LifecycleHandle {
    /// Told when clients may be served, or why that will never be.
    pub(crate) serving: oneshot::Receiver<Result<(), StartError>>,
    stop: CancellationToken,
    over: CancellationToken,
}

impl LifecycleHandle {
    /// Says that the broker stops, and waits until nothing in the cluster depends on it: 20 s at most.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        self.over.cancelled().await;
    }
}

/// Starts the task.
pub(crate) fn spawn(parts: LifecycleParts) -> LifecycleHandle {
    let (serving, is_serving) = oneshot::channel();
    let (stop, over) = (CancellationToken::new(), CancellationToken::new());
    let handle = LifecycleHandle { serving: is_serving, stop: stop.clone(), over: over.clone() };
    let tasks = parts.tasks.clone();
    tasks.spawn(async move {
        let _over = over.drop_guard();
        run(parts, serving, &stop).await;
    });
    handle
}

async fn run(mut parts: LifecycleParts, serving: oneshot::Sender<Result<(), StartError>>, stop: &CancellationToken) {
    let started = Instant::now();
    let (inputs, mut happened) = mpsc::channel(WAITING_INPUTS);
    let mut lifecycle = BrokerLifecycle::new(parts.broker.id);
    let mut applied = parts.broker.applied();
    let mut serving = Some(serving);
    let (mut told_to_stop, mut told_of_other) = (false, false);
    let mut tells_damage = false;
    let mut input = Input::Tick;
    loop {
        let now_ms = started.elapsed().as_millis() as u64;
        for effect in lifecycle.handle(now_ms, input) {
            match effect {
                Effect::Register => {
                    parts.broker.health.wait_for(Some("a controller"));
                    tells_damage = !parts.registration.damaged_logs.is_empty();
                    ask(&parts, &inputs, register);
                }
                Effect::Heartbeat(heartbeat) => {
                    ask(&parts, &inputs, move |broker, _| beat(broker, heartbeat));
                }
                Effect::Recover => {
                    parts.broker.health.wait_for(None);
                    recover(&mut parts, &inputs);
                }
                Effect::Serve => {
                    parts.broker.health.wait_for(None);
                    let _ = serving.take().map(|serving| serving.send(Ok(())));
                }
                Effect::MayStop => return,
                Effect::Fail(error) => {
                    match serving.take() {
                        Some(serving) => drop(serving.send(Err(error.into()))),
                        None => parts.failure.fail(format!("the broker's registration: {error}")),
                    }
                    return;
                }
            }
        }
        let wake = Duration::from_millis(lifecycle.wake_at().saturating_sub(now_ms).min(3_600_000));
        input = tokio::select! {
            Some(input) = happened.recv() => match input {
                Happened::Input(input) => {
                    if matches!(input, Input::Registered(Some(Err(RegisterBrokerError::LiveSession(_))))) && !told_of_other {
                        told_of_other = true;
                        tracing::warn!("another process is this broker; waiting for the end of its session");
                    }
                    // Told once: later it may be in sync again.
                    if tells_damage && matches!(input, Input::Registered(Some(Ok(_)))) {
                        parts.registration.damaged_logs.clear();
                    }
                    input
                }
                Happened::Recovered(damaged) => {
                    parts.broker.health.wait_for(Some("the controller's leave to serve"));
                    let is_whole = damaged.is_empty();
                    parts.registration.damaged_logs = damaged;
                    if is_whole { Input::Recovered } else { Input::RecoveredWithDamage }
                }
                Happened::NotRecovered(error) => {
                    let _ = serving.take().map(|serving| serving.send(Err(error)));
                    return;
                }
            },
            Ok(()) = parts.images.changed() => {
                let image = Arc::clone(&parts.images.borrow_and_update());
                parts.broker.peers.set_addresses(private_addresses(&image));
                Input::ImageSeen(OwnRegistration::of(&image, &parts.registration))
            }
            Ok(()) = applied.changed() => {
                applied.borrow_and_update();
                Input::Applied(OwnRegistration::of(&parts.broker.image(), &parts.registration))
            }
            () = stop.cancelled(), if !told_to_stop => {
                told_to_stop = true;
                Input::Stop
            }
            () = tokio::time::sleep(wake) => Input::Tick,
            () = parts.stopped.cancelled() => return,
        };
    }
}

enum Happened {
    Input(Input),
    /// With the replicas whose logs are damaged.
    Recovered(Vec<PartitionKey>),
    NotRecovered(StartError),
}

/// Asks in a task of its own; the answer is an input.
fn ask<F>(
    parts: &LifecycleParts,
    inputs: &mpsc::Sender<Happened>,
    question: impl FnOnce(Arc<Broker>, RegisterBroker) -> F,
) where
    F: Future<Output = Input> + Send + 'static,
{
    let question = question(Arc::clone(&parts.broker), parts.registration.clone());
    let inputs = inputs.clone();
    parts.tasks.spawn(async move {
        let _ = inputs.send(Happened::Input(question.await)).await;
    });
}

async fn register(broker: Arc<Broker>, registration: RegisterBroker) -> Input {
    let asked = broker.controller_client.register(&registration, CONTROLLER_WAIT).await;
    let outcome = asked.inspect_err(|error| tracing::debug!(%error, "not registered yet")).ok();
    if matches!(outcome, Some(Ok(_))) && !registration.damaged_logs.is_empty() {
        // A panic in there is the thread's; the marks that stay are told by the next start.
        let _ = tokio::task::spawn_blocking(move || broker.damage_is_told(&registration.damaged_logs)).await;
    }
    Input::Registered(outcome)
}

async fn beat(broker: Arc<Broker>, heartbeat: Heartbeat) -> Input {
    Input::HeartbeatAnswered(match broker.controller_client.heartbeat(&heartbeat, CONTROLLER_WAIT).await {
        Ok((_, Ok(reply))) => Ok(reply),
        Ok((_, Err(stale))) => {
            tracing::warn!(%stale, "registering anew");
            Err(NoHeartbeat::Stale)
        }
        Err(error) => {
            tracing::debug!(%error, "no answer to a heartbeat");
            Err(NoHeartbeat::Unanswered)
        }
    })
}

/// Where brokers are reached by others, as their registrations say.
fn private_addresses(image: &Image) -> BTreeMap<BrokerId, (String, u16)> {
    let of = |broker: &Arc<BrokerImage>| {
        let private = broker.endpoints.iter().find(|endpoint| endpoint.listener == PRIVATE_LISTENER)?;
        Some((broker.id, (private.host.clone(), private.port)))
    };
    image.brokers().filter_map(of).collect()
}

/// Opens the replicas of the newest image on a thread that may block, then follows the images from there.
fn recover(parts: &mut LifecycleParts, inputs: &mpsc::Sender<Happened>) {
    let mut images = parts.images.clone();
    let (broker, inputs) = (Arc::clone(&parts.broker), inputs.clone());
    let runtime = tokio::runtime::Handle::current();
    let spawned = spawn_thread("images", move || {
        let image = Arc::clone(&images.borrow_and_update());
        let outcome = broker.recover(image).map_err(|error| StartError::from(StorageError::from(error)));
        let recovered = outcome.is_ok();
        let happened = match outcome {
            Ok(damaged) => Happened::Recovered(damaged),
            Err(error) => Happened::NotRecovered(error),
        };
        let _ = inputs.blocking_send(happened);
        // The newest image counts; those that come while one is applied are skipped. The end of the metadata node ends
        // this too.
        while recovered && runtime.block_on(images.changed()).is_ok() {
            let image = Arc::clone(&images.borrow_and_update());
            broker.publish(image);
        }
    });
    if let Err(error) = spawned {
        parts.failure.fail(format!("no thread for images of the metadata: {error}"));
    }
}
