// SPDX-License-Identifier: Apache-2.0
//! From what a pass found to the Topic's status. Pure; `now` is the caller's.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use odradek_crds::{Topic, TopicStatus};
use odradek_wire::ErrorCode;

use crate::cluster::validate::Refusal;
use crate::conditions::{self, draft};
use crate::kafka::{KafkaError, TopicView};

/// How a pass ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The topic is as asked for.
    Reached(TopicView),
    /// Not yet: the Cluster must change first, and a watch reports that.
    WaitingForCluster {
        /// In one word.
        reason: &'static str,
        /// In a sentence.
        message: String,
    },
    /// Not yet: the brokers must be asked again.
    Retrying {
        /// In one word.
        reason: &'static str,
        /// In a sentence.
        message: String,
    },
    /// The Topic asks for what it may not have.
    Refused(Vec<Refusal>),
    /// The brokers said no for good.
    RefusedByBrokers(String),
    /// The topic differs in what this version cannot change.
    Differs {
        /// The topic as it is.
        view: TopicView,
        /// Each difference with what to do.
        differences: Vec<String>,
    },
}

impl Outcome {
    /// From an answer of the brokers.
    pub fn from_kafka(error: &KafkaError) -> Self {
        match error {
            KafkaError::Unreachable { .. } => {
                Self::Retrying { reason: "BrokersUnreachable", message: error.to_string() }
            }
            KafkaError::Refused { retriable: true, .. } => {
                Self::Retrying { reason: "BrokersRefused", message: error.to_string() }
            }
            // Somebody was faster, or an earlier answer was lost: the next look finds it.
            KafkaError::Refused { code, .. } if code == ErrorCode::TopicAlreadyExists.name() => {
                Self::Retrying { reason: "BrokersRefused", message: error.to_string() }
            }
            KafkaError::Refused { .. } => Self::RefusedByBrokers(error.to_string()),
        }
    }
}

/// The status to write.
pub fn status(topic: &Topic, outcome: &Outcome, now: &Time) -> TopicStatus {
    let generation = topic.metadata.generation;
    let previous = topic.status.clone().unwrap_or_default();
    let mut status = TopicStatus {
        observed_generation: generation,
        topic_name: Some(topic.topic_name()),
        conditions: Vec::new(),
        ..previous.clone()
    };
    if let Outcome::Reached(view) | Outcome::Differs { view, .. } = outcome {
        status.topic_id = Some(view.id.clone());
        status.partitions = Some(view.partitions);
        status.replicas = Some(view.replicas);
    }
    let stalled = |reason: &str, message: String| {
        vec![
            draft("Ready", false, reason, message.clone()),
            draft("Reconciling", false, "Stalled", "waiting for an edit"),
            draft("Stalled", true, reason, message),
        ]
    };
    let waiting = |reason: &str, message: String| {
        vec![
            draft("Ready", false, reason, message.clone()),
            draft("Reconciling", true, reason, message),
            draft("Stalled", false, "Progressing", ""),
        ]
    };
    let drafts = match outcome {
        Outcome::Reached(_) => vec![
            draft("Ready", true, "Reached", "the topic is as asked for"),
            draft("Reconciling", false, "Reached", ""),
            draft("Stalled", false, "Reached", ""),
        ],
        Outcome::WaitingForCluster { reason, message } | Outcome::Retrying { reason, message } => {
            waiting(reason, message.clone())
        }
        Outcome::Refused(refusals) => stalled(
            refusals.first().map_or("Invalid", |first| first.reason),
            refusals.iter().map(|refusal| refusal.message.as_str()).collect::<Vec<_>>().join("; "),
        ),
        Outcome::RefusedByBrokers(message) => stalled("BrokersRefused", message.clone()),
        Outcome::Differs { differences, .. } => stalled("ChangeNotSupported", differences.join("; ")),
    };
    status.conditions = conditions::merge(&previous.conditions, drafts, generation, now);
    status
}
