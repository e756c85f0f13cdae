// SPDX-License-Identifier: Apache-2.0
//! What to do about a topic. Pure.

use super::fetch::{ClusterState, Observed};
use super::validate::Valid;
use crate::kafka::{ClusterKey, KafkaError, NewTopic, TopicView};

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Not yet: the Cluster must change first, and a watch reports that.
    WaitForCluster {
        /// In one word.
        reason: &'static str,
        /// In a sentence.
        message: String,
    },
    /// Not yet: the brokers did not answer as they should.
    Retry(KafkaError),
    /// Create it.
    Create(NewTopic),
    /// It is as asked for.
    Keep(TopicView),
    /// It differs in what this version cannot change.
    CannotYet {
        /// The topic as it is.
        view: TopicView,
        /// Each difference with what to do, one sentence each.
        differences: Vec<String>,
    },
}

/// Decides.
pub fn plan(valid: &Valid, observed: &Observed) -> Step {
    match (waits_for(&valid.cluster, observed.cluster), &observed.topic) {
        (Some((reason, message)), _) => Step::WaitForCluster { reason, message },
        (None, None) => {
            let (reason, message) = not_available(&valid.cluster);
            Step::WaitForCluster { reason, message }
        }
        (None, Some(Err(error))) => Step::Retry(error.clone()),
        (None, Some(Ok(None))) => Step::Create(valid.new.clone()),
        (None, Some(Ok(Some(view)))) => {
            let differences = differences(&valid.new, view);
            if differences.is_empty() {
                Step::Keep(view.clone())
            } else {
                Step::CannotYet { view: view.clone(), differences }
            }
        }
    }
}

/// What must become of the Cluster before its brokers are asked anything, in a word and in a sentence.
pub fn waits_for(cluster: &ClusterKey, state: ClusterState) -> Option<(&'static str, String)> {
    let ClusterKey { namespace, name } = cluster;
    match state {
        ClusterState::Missing => {
            Some(("ClusterNotFound", format!("Cluster {name} does not exist in namespace {namespace}; create it")))
        }
        ClusterState::Going => Some(("ClusterGoing", format!("Cluster {name} is being deleted"))),
        ClusterState::Here { reached: false } => Some(not_available(cluster)),
        ClusterState::Here { reached: true } => None,
    }
}

fn not_available(cluster: &ClusterKey) -> (&'static str, String) {
    ("ClusterNotAvailable", format!("Cluster {} is not available yet; see its conditions", cluster.name))
}

/// What the topic has otherwise than asked for. What the Topic does not name is the brokers' own.
fn differences(wanted: &NewTopic, view: &TopicView) -> Vec<String> {
    let mut differences = Vec::new();
    if let Some(partitions) = wanted.partitions.filter(|count| *count != view.partitions) {
        differences.push(format!(
            "spec.partitions: the topic has {}, not {partitions}; this version cannot add partitions, set it back",
            view.partitions
        ));
    }
    if let Some(replicas) = wanted.replicas.filter(|count| *count != view.replicas) {
        differences.push(format!(
            "spec.replicas: the topic has {}, not {replicas}; this version cannot change it, set it back",
            view.replicas
        ));
    }
    for (name, value) in &wanted.config {
        match view.config.get(name) {
            Some(found) if found == value => {}
            Some(found) => differences.push(format!(
                "spec.config[{name:?}]: the topic has {found:?}, not {value:?}; this version cannot change settings, set it back"
            )),
            None => differences.push(format!(
                "spec.config[{name:?}]: the topic was created without it; this version cannot change settings, remove it"
            )),
        }
    }
    for name in view.config.keys().filter(|name| !wanted.config.contains_key(*name)) {
        differences.push(format!(
            "spec.config: the topic has {name:?}; this version cannot remove settings, add it with its value {:?}",
            view.config[name]
        ));
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valid() -> Valid {
        Valid {
            cluster: ClusterKey { namespace: "shop".into(), name: "events".into() },
            new: NewTopic {
                name: "orders".into(),
                partitions: Some(6),
                replicas: None,
                config: [("retention.ms".to_owned(), "1000".to_owned())].into(),
            },
        }
    }

    fn with(topic: Option<TopicView>) -> Observed {
        Observed { cluster: ClusterState::Here { reached: true }, topic: Some(Ok(topic)) }
    }

    fn same() -> TopicView {
        TopicView { id: "id".into(), partitions: 6, replicas: 1, config: valid().new.config }
    }

    #[test]
    fn a_topic_as_asked_for_needs_nothing() {
        assert_eq!(plan(&valid(), &with(Some(same()))), Step::Keep(same()));
    }

    #[test]
    fn a_missing_topic_is_created_as_asked_for() {
        assert_eq!(plan(&valid(), &with(None)), Step::Create(valid().new));
    }

    #[test]
    fn every_difference_is_named_with_its_field() {
        let other = TopicView { partitions: 3, config: [("segment.ms".to_owned(), "5".to_owned())].into(), ..same() };
        let Step::CannotYet { differences, .. } = plan(&valid(), &with(Some(other))) else { panic!("it differs") };
        let all = differences.join("\n");
        assert!(all.contains("spec.partitions: the topic has 3, not 6"), "{all}");
        assert!(all.contains("spec.config[\"retention.ms\"]"), "{all}");
        assert!(all.contains("segment.ms"), "{all}");
    }

    #[test]
    fn nothing_is_asked_of_a_cluster_that_is_not_available() {
        for cluster in [ClusterState::Missing, ClusterState::Going, ClusterState::Here { reached: false }] {
            assert!(matches!(plan(&valid(), &Observed { cluster, topic: None }), Step::WaitForCluster { .. }));
        }
    }
}
