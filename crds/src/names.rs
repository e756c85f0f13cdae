// SPDX-License-Identifier: Apache-2.0
//! Names, ports, labels and annotations of what is made for a Cluster. They are final: data and
//! clients refer to them. Strings only; no objects, no I/O.

/// Brokers and operator talk here.
pub const PRIVATE_PORT: i32 = 9090;
/// Probes and metrics.
pub const HTTP_PORT: i32 = 9404;

/// Label: which Cluster an object belongs to.
pub const CLUSTER_LABEL: &str = "odradek.dev/cluster";
/// Label and, on a volume, annotation: which broker.
pub const BROKER_ID: &str = "odradek.dev/broker-id";
/// Annotation of a volume: the Kafka cluster whose data it holds.
pub const CLUSTER_ID_ANNOTATION: &str = "odradek.dev/cluster-id";
/// Annotation of a volume: `active` or `retired`.
pub const BROKER_STATE_ANNOTATION: &str = "odradek.dev/broker-state";
/// Finalizer of a resource whose data is deleted with it.
pub const FINALIZER: &str = "odradek.dev/deletion-policy";

/// The StatefulSet, the Service and the ConfigMap of one broker.
pub fn broker(cluster: &str, id: i32) -> String {
    format!("{cluster}-{id}")
}

/// The pod of one broker.
pub fn pod(cluster: &str, id: i32) -> String {
    format!("{cluster}-{id}-0")
}

/// The volume of one broker.
pub fn volume_claim(cluster: &str, id: i32) -> String {
    format!("data-{cluster}-{id}")
}

/// The broker id in a volume's name, if the volume can belong to this Cluster.
pub fn broker_of_volume_claim(cluster: &str, claim: &str) -> Option<i32> {
    let id: i32 = claim.strip_prefix("data-")?.strip_prefix(cluster)?.strip_prefix('-')?.parse().ok()?;
    // Only as it is written, so that no two names mean one broker.
    (id >= 0 && claim == volume_claim(cluster, id)).then_some(id)
}

/// The Service through which clients find ready brokers.
pub fn bootstrap_service(cluster: &str) -> String {
    format!("{cluster}-bootstrap")
}

/// The headless Service that gives each pod its name.
pub fn brokers_service(cluster: &str) -> String {
    format!("{cluster}-brokers")
}

/// The ServiceAccount of the brokers.
pub fn service_account(cluster: &str) -> String {
    format!("{cluster}-broker")
}

/// The PodDisruptionBudget of the brokers.
pub fn disruption_budget(cluster: &str) -> String {
    format!("{cluster}-brokers")
}

/// The host name that a broker tells clients.
pub fn advertised_host(cluster: &str, namespace: &str, id: i32) -> String {
    format!("{cluster}-{id}.{namespace}.svc")
}

/// The host name under which all ready brokers are found.
pub fn bootstrap_host(cluster: &str, namespace: &str) -> String {
    format!("{cluster}-bootstrap.{namespace}.svc")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_name_yields_its_broker_only_for_its_own_cluster() {
        assert_eq!(broker_of_volume_claim("events", &volume_claim("events", 7)), Some(7));
        assert_eq!(broker_of_volume_claim("events", "data-events-eu-7"), None);
        assert_eq!(broker_of_volume_claim("events-eu", "data-events-7"), None);
        assert_eq!(broker_of_volume_claim("events", "data-events-"), None);
        assert_eq!(broker_of_volume_claim("events", "data-events--1"), None);
        assert_eq!(broker_of_volume_claim("events", "data-events-007"), None);
    }
}
