// SPDX-License-Identifier: Apache-2.0
//! What every reconcile needs: client, port to Kafka, images, counters, events. Holds, decides nothing.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tracing::warn;

use crate::OPERATOR;
use crate::backoff::Backoff;
use crate::kafka::Kafka;
use crate::metrics::Metrics;

/// How brokers' images are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerImages {
    /// The image without its tag.
    pub repository: String,
    /// When nodes pull it; Kubernetes' default when absent.
    pub pull_policy: Option<String>,
}

/// What every reconcile needs.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// The brokers.
    pub kafka: Arc<dyn Kafka>,
    /// How brokers' images are found.
    pub images: BrokerImages,
    /// What is counted.
    pub metrics: Metrics,
    /// How long what waits is left alone.
    pub backoff: Backoff,
    recorder: Recorder,
}

/// How long an event may take: it must not hold up what it speaks of.
const EVENT_DEADLINE: Duration = Duration::from_secs(5);

impl Context {
    /// A context; `identity` names this process in events.
    pub fn new(
        client: Client,
        kafka: Arc<dyn Kafka>,
        images: BrokerImages,
        metrics: Metrics,
        identity: impl Into<String>,
    ) -> Self {
        let reporter = Reporter { controller: format!("odradek.dev/{OPERATOR}"), instance: Some(identity.into()) };
        let recorder = Recorder::new(client.clone(), reporter);
        Self { client, kafka, images, metrics, backoff: Backoff::default(), recorder }
    }

    /// Tells people what happened to a resource. An event that cannot be written is only logged.
    pub async fn tell(
        &self,
        about: &ObjectReference,
        type_: EventType,
        reason: &str,
        action: &str,
        note: impl Into<String>,
    ) {
        // The API allows 1,024 bytes.
        let note: String = note.into().chars().take(250).collect();
        let event = Event { type_, reason: reason.into(), note: Some(note), action: action.into(), secondary: None };
        match tokio::time::timeout(EVENT_DEADLINE, self.recorder.publish(&event, about)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, reason, "cannot write an event"),
            Err(_) => warn!(reason, "no answer to an event in time"),
        }
    }

    /// The time for conditions, in whole seconds as the API keeps it.
    pub fn now() -> Time {
        let now = Timestamp::now();
        Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
    }
}
