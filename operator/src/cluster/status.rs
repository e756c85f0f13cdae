// SPDX-License-Identifier: Apache-2.0
//! From what a pass found to the Cluster's status. Pure; `now` is the caller's.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;
use kube::runtime::events::EventType;
use odradek_crds::cluster::{BrokerStatus, ListenerAddress, ListenerStatus, RolloutStatus};
use odradek_crds::{Cluster, ClusterStatus, names};

use super::build::ONLY_BROKER;
use super::fetch::Observed;
use super::plan::{self, PodStep};
use super::validate::{Refusal, Storage, Valid, bytes};
use crate::apply::ApplyError;
use crate::conditions::{self, Draft, Truth, draft};
use crate::kafka::{ClusterView, KafkaError};

/// Why a phase did not get through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhaseFailure {
    /// In one word.
    pub reason: &'static str,
    /// In a sentence.
    pub message: String,
    /// Whether only an edit helps.
    pub stalled: bool,
}

impl PhaseFailure {
    /// From a write that failed.
    pub fn from_apply(error: &ApplyError) -> Self {
        let (reason, stalled) = match error {
            ApplyError::NameTaken { .. } => ("NameTaken", true),
            ApplyError::Leaving { .. } => ("WaitingForRemoval", false),
            // Forbidden and Invalid stay so until somebody edits something.
            ApplyError::Call(call) if matches!(call.code(), Some(403 | 422)) => ("Refused", true),
            ApplyError::Call(_) => ("ApiServerUnavailable", false),
        };
        Self { reason, message: error.to_string(), stalled }
    }
}

/// The message of `Reconciling=False` beside `Stalled=True`.
pub const WAITING_FOR_AN_EDIT: &str = "waiting for an edit";

/// What a pass found and did.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// What there is, with what was written in its place.
    pub observed: Observed,
    /// Why the volume is not as it shall be.
    pub storage: Option<PhaseFailure>,
    /// Why the other objects are not.
    pub configuration: Option<PhaseFailure>,
    /// What was decided about the pod.
    pub step: PodStep,
    /// What the brokers said, if they were asked.
    pub kafka: Option<Result<ClusterView, KafkaError>>,
}

/// The status to write.
pub fn status(
    cluster: &Cluster,
    valid: &Result<Valid, Vec<Refusal>>,
    findings: &Findings,
    now: &Time,
) -> ClusterStatus {
    let generation = cluster.metadata.generation;
    let previous = cluster.status.clone().unwrap_or_default();
    let pod = plan::own_pod(cluster, &findings.observed);
    let ready = pod.is_some_and(plan::is_ready);
    let broker = broker_status(cluster, findings);
    let available = available(findings, broker.as_ref());

    let mut status = ClusterStatus {
        observed_generation: generation,
        replicas: Some(i32::from(pod.is_some())),
        ready_replicas: Some(i32::from(ready)),
        cluster_id: previous.cluster_id.clone(),
        version: previous.version.clone(),
        listeners: previous.listeners.clone(),
        rollout: previous.rollout.clone(),
        brokers: broker.into_iter().collect(),
        conditions: Vec::new(),
    };
    let drafts = match valid {
        Err(refusals) => refused(refusals, available),
        Ok(valid) => {
            status.cluster_id = Some(valid.cluster_id.clone());
            status.listeners = listeners(valid);
            let rollout = rollout(cluster, valid, findings);
            // The version is what runs, not what is asked for.
            if rollout.reason == "Complete" {
                status.version = Some(valid.version.clone());
            }
            let drafts = reached(valid, findings, &rollout, status.brokers.first(), available);
            status.rollout = Some(rollout);
            drafts
        }
    };
    status.conditions = conditions::merge(&previous.conditions, drafts, generation, now);
    status
}

/// The status of a Cluster that is being deleted, and what it waits for.
pub fn going(cluster: &Cluster, reason: &str, message: String, now: &Time) -> ClusterStatus {
    let previous = cluster.status.clone().unwrap_or_default();
    let drafts = vec![
        draft("Ready", false, "Deleting", message.clone()),
        draft("Available", false, "Deleting", "the brokers are stopped"),
        draft("Reconciling", true, reason, message),
        draft("Stalled", false, "Progressing", ""),
    ];
    ClusterStatus {
        observed_generation: cluster.metadata.generation,
        conditions: conditions::merge(&previous.conditions, drafts, cluster.metadata.generation, now),
        ..previous
    }
}

/// Whether nothing is on its way: the next look can be late.
pub fn is_settled(status: &ClusterStatus) -> bool {
    conditions::find(&status.conditions, "Reconciling").is_some_and(|condition| condition.status == "False")
}

/// The reason while a volume that shall go is mounted by a pod.
pub const VOLUME_MOUNTED: &str = "VolumeMounted";

/// How a changed condition is told as an event; `None` for what other events say already.
pub fn event_for(condition: &Condition) -> Option<EventType> {
    match (condition.type_.as_str(), condition.status.as_str()) {
        ("Ready" | "Available", "True") => Some(EventType::Normal),
        ("Available", "False") if condition.reason == "Deleting" => None,
        ("Stalled", "True") | ("Available", "False") => Some(EventType::Warning),
        ("StorageReady", "False") if condition.reason != "Pending" => Some(EventType::Warning),
        ("Reconciling", "True") if condition.reason == VOLUME_MOUNTED => Some(EventType::Warning),
        _ => None,
    }
}

fn refused(refusals: &[Refusal], available: Draft) -> Vec<Draft> {
    let reason = refusals.first().map_or("Invalid", |first| first.reason);
    let message = refusals.iter().map(|refusal| refusal.message.as_str()).collect::<Vec<_>>().join("; ");
    vec![
        draft("Ready", false, reason, message.clone()),
        available,
        draft("Reconciling", false, "Stalled", WAITING_FOR_AN_EDIT),
        draft("Stalled", true, reason, message),
    ]
}

fn reached(
    valid: &Valid,
    findings: &Findings,
    rollout: &RolloutStatus,
    broker: Option<&BrokerStatus>,
    available: Draft,
) -> Vec<Draft> {
    let storage = storage_ready(valid, findings);
    let configuration = match &findings.configuration {
        Some(failure) => draft("ConfigurationApplied", false, failure.reason, failure.message.clone()),
        None if valid.paused => draft("ConfigurationApplied", Truth::Unknown, "Paused", "spec.paused is true"),
        None => draft("ConfigurationApplied", true, "Applied", "every object is as the spec says"),
    };
    let brokers = match broker {
        Some(broker) if broker.ready => draft("BrokersReady", true, "Ready", "1 of 1 brokers is ready"),
        Some(broker) => draft(
            "BrokersReady",
            false,
            "Waiting",
            format!(
                "broker {} is {}{}",
                broker.id,
                broker.state.as_deref().unwrap_or("missing"),
                broker.blocked_by.as_deref().map(|why| format!(": {why}")).unwrap_or_default()
            ),
        ),
        None => draft("BrokersReady", false, "Waiting", "no broker exists yet"),
    };
    let complete = draft(
        "RolloutComplete",
        rollout.reason == "Complete",
        rollout.reason.clone(),
        format!("{} of {} brokers run the newest spec", rollout.updated, rollout.total),
    );

    let stalled = [&findings.storage, &findings.configuration].into_iter().flatten().find(|failure| failure.stalled);
    let waits_for = [&storage, &configuration, &complete, &brokers, &available]
        .into_iter()
        .find(|phase| phase.truth != Truth::True)
        .cloned();
    let mut drafts = Vec::new();
    if valid.paused {
        let message = "spec.paused is true: nothing is changed until it is false";
        drafts.push(draft("Ready", Truth::Unknown, "Paused", message));
        drafts.push(available);
        drafts.push(draft("Reconciling", false, "Paused", message));
        drafts.push(draft("Stalled", false, "Paused", ""));
    } else if let Some(failure) = stalled {
        drafts.push(draft("Ready", false, failure.reason, failure.message.clone()));
        drafts.push(available);
        drafts.push(draft("Reconciling", false, "Stalled", WAITING_FOR_AN_EDIT));
        drafts.push(draft("Stalled", true, failure.reason, failure.message.clone()));
    } else if let Some(phase) = waits_for {
        drafts.push(draft("Ready", false, phase.reason.clone(), phase.message.clone()));
        drafts.push(available);
        drafts.push(draft("Reconciling", true, phase.reason, phase.message));
        drafts.push(draft("Stalled", false, "Progressing", ""));
    } else {
        drafts.push(draft("Ready", true, "Reached", "the brokers answer through the bootstrap Service"));
        drafts.push(available);
        drafts.push(draft("Reconciling", false, "Reached", ""));
        drafts.push(draft("Stalled", false, "Reached", ""));
    }
    drafts.extend([brokers, storage, configuration, complete]);
    drafts
}

fn available(findings: &Findings, broker: Option<&BrokerStatus>) -> Draft {
    match &findings.kafka {
        None if broker.is_some_and(|broker| broker.ready) => {
            draft("Available", Truth::Unknown, "NotAsked", "the brokers were not asked")
        }
        None => draft("Available", false, "NoBroker", "no broker is ready"),
        Some(Err(error)) => draft("Available", false, "Unreachable", error.to_string()),
        Some(Ok(view)) if view.brokers.is_empty() => {
            draft("Available", false, "NoBroker", "the brokers answer, but none is registered")
        }
        Some(Ok(view)) if !view.offline_partitions.is_empty() => draft(
            "Available",
            false,
            "PartitionsOffline",
            format!("without a leader: {}", view.offline_partitions.join(", ")),
        ),
        Some(Ok(_)) => draft("Available", true, "Reached", "every partition has a leader"),
    }
}

fn storage_ready(valid: &Valid, findings: &Findings) -> Draft {
    let type_ = "StorageReady";
    if let Some(failure) = &findings.storage {
        return draft(type_, false, failure.reason, failure.message.clone());
    }
    let Storage::PersistentClaim { size, requested, .. } = &valid.storage else {
        return draft(type_, true, "Ephemeral", "records are lost with the pod");
    };
    let name = names::volume_claim(&valid.name, ONLY_BROKER);
    let Some(claim) = &findings.observed.volume_claim else {
        return draft(type_, false, "Pending", format!("volume {name} does not exist yet"));
    };
    let claim_status = claim.status.as_ref();
    if claim_status.and_then(|status| status.phase.as_deref()) != Some("Bound") {
        return draft(type_, false, "Pending", format!("volume {name} is not bound to a PersistentVolume yet"));
    }
    let capacity = claim_status.and_then(|status| status.capacity.as_ref()?.get("storage"));
    if capacity.is_some_and(|capacity| bytes(&capacity.0) < bytes(requested)) {
        return draft(type_, false, "Growing", format!("volume {name} is growing to {requested}"));
    }
    if bytes(requested) > bytes(size) {
        return draft(
            type_,
            true,
            "LargerThanAsked",
            format!("volume {name} asks for {requested}, more than the {size} of the spec; volumes cannot shrink"),
        );
    }
    draft(type_, true, "Bound", format!("volume {name} is bound"))
}

fn rollout(cluster: &Cluster, valid: &Valid, findings: &Findings) -> RolloutStatus {
    let pod = plan::own_pod(cluster, &findings.observed);
    let stateful_set = plan::own_stateful_set(cluster, &findings.observed);
    let target = stateful_set.and_then(super::target_revision).map(str::to_owned);
    let current = pod.and_then(plan::revision);
    let going = pod.is_some_and(|pod| pod.metadata.deletion_timestamp.is_some());
    let updated = target.is_some() && target.as_deref() == current && !going;
    let reason = if valid.paused {
        "Paused"
    } else if findings.configuration.is_some() || valid.held_back || matches!(findings.step, PodStep::Hold { .. }) {
        "Blocked"
    } else if updated {
        "Complete"
    } else if pod.is_none() {
        "Creating"
    } else {
        "Rolling"
    };
    let current = (reason == "Rolling").then_some(ONLY_BROKER);
    RolloutStatus { target, updated: i32::from(updated), total: 1, current, reason: reason.into() }
}

fn listeners(valid: &Valid) -> Vec<ListenerStatus> {
    valid
        .listeners
        .iter()
        .map(|listener| ListenerStatus {
            name: listener.name.clone(),
            bootstrap_servers: format!("{}:{}", names::bootstrap_host(&valid.name, &valid.namespace), listener.port),
            addresses: vec![ListenerAddress {
                host: names::advertised_host(&valid.name, &valid.namespace, ONLY_BROKER),
                port: listener.port,
            }],
        })
        .collect()
}

/// The broker as its pod shows it; `None` while neither pod nor StatefulSet exists.
fn broker_status(cluster: &Cluster, findings: &Findings) -> Option<BrokerStatus> {
    let observed = &findings.observed;
    if observed.pod.is_none() && observed.stateful_set.is_none() {
        return None;
    }
    let pod = plan::own_pod(cluster, observed);
    let (state, blocked_by) = match (pod, &observed.pod) {
        (Some(pod), _) => pod_state(pod),
        (None, Some(other)) => {
            let name = other.name_any();
            (
                "Missing".to_owned(),
                Some(format!("pod {name} exists and is not of this Cluster's StatefulSet; delete it")),
            )
        }
        (None, None) => ("Missing".to_owned(), findings.storage.as_ref().map(|fault| cut(&fault.message))),
    };
    let held = match &findings.step {
        PodStep::Hold { why } => Some(cut(why)),
        PodStep::Keep | PodStep::Delete { .. } | PodStep::Await => None,
    };
    let claim = names::volume_claim(&cluster.name_any(), ONLY_BROKER);
    Some(BrokerStatus {
        id: ONLY_BROKER,
        pod: pod.map(ResourceExt::name_any),
        state: Some(state),
        ready: pod.is_some_and(plan::is_ready),
        revision: pod.and_then(plan::revision).map(str::to_owned),
        volume: observed.volume_claim.as_ref().map(|_| claim),
        blocked_by: held.or(blocked_by),
    })
}

/// Longest text taken over from a container, the scheduler or a condition.
const TEXT_MAX: usize = 400;
/// Longest state, as the definition allows it; kubelet's reasons are single words.
const STATE_MAX: usize = 128;

fn cut(text: &str) -> String {
    text.trim().chars().take(TEXT_MAX).collect()
}

fn pod_state(pod: &Pod) -> (String, Option<String>) {
    if pod.metadata.deletion_timestamp.is_some() {
        return ("Stopping".into(), None);
    }
    let Some(status) = pod.status.as_ref() else { return ("Starting".into(), None) };
    let container = status.container_statuses.iter().flatten().find(|container| container.name == "broker");
    if let Some(container) = container {
        let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
        if let Some(waiting) = waiting
            && let Some(reason) = waiting.reason.as_deref().filter(|reason| *reason != "ContainerCreating")
        {
            // What the broker itself said before it ended tells more than "back-off".
            let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
            let said = last.and_then(|ended| ended.message.as_deref()).filter(|text| !text.trim().is_empty());
            let reason = reason.chars().take(STATE_MAX).collect();
            return (reason, said.or(waiting.message.as_deref()).map(cut));
        }
        if container.ready {
            return ("Running".into(), None);
        }
    }
    let unscheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    if let Some(unscheduled) = unscheduled {
        return ("Unschedulable".into(), unscheduled.message.as_deref().map(cut));
    }
    ("Starting".into(), None)
}
