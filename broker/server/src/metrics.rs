// SPDX-License-Identifier: Apache-2.0
//! The broker's metrics: Kafka's series under the names that dashboards know, `odradek_*` for the rest.
//! It only counts; it must not decide anything.
//!
//! A look-up of a labelled child costs more than counting, so hot paths hold their child: one array slot per API
//! key, one [`TopicMetrics`] per partition.
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

use odradek_model::TopicName;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::net::CloseReason;

/// Counters of one topic; clones count together.
#[derive(Debug, Clone, Default)]
pub struct TopicMetrics {
    /// Records appended.
    pub messages_in: Counter,
    /// Bytes of record batches appended.
    pub bytes_in: Counter,
    /// Bytes of record batches sent to consumers.
    pub bytes_out: Counter,
    /// Partitions named in Produce requests.
    pub produce_requests: Counter,
    /// Partitions named in Fetch requests.
    pub fetch_requests: Counter,
    /// Of them refused.
    pub failed_produce_requests: Counter,
    /// Of them refused.
    pub failed_fetch_requests: Counter,
}

/// Counts a waiting request for as long as it waits, also when its connection ends.
#[derive(Debug)]
pub struct Counted(Gauge);

impl Counted {
    /// One more.
    pub fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TopicLabel {
    topic: String,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PartitionLabel {
    topic: String,
    partition: i32,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabel {
    request: String,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ErrorLabel {
    request: String,
    error: String,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ListenerLabel {
    listener: String,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// What is read off the broker when somebody looks.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Size of every log of this broker, internal ones included.
    pub log_sizes: Vec<(TopicName, i32, u64)>,
    /// Whether this broker is the active controller.
    pub is_controller: bool,
    /// The highest controller epoch known.
    pub controller_epoch: i64,
    /// How long ago the controller Lease answered this broker, if it ever did.
    pub lease_age_seconds: Option<f64>,
    /// Whether the Lease is missing, replaced or older than the logs.
    pub lease_is_fallen: bool,
    /// Replicas that cannot be served.
    pub offline_replicas: i64,
    /// Partitions of the cluster without a leader; the controller counts them.
    pub offline_partitions: i64,
    /// Partitions that this broker leads.
    pub led: i64,
    /// Of them those with replicas out of sync.
    pub under_replicated: i64,
    /// Of them those with fewer in sync than `min.insync.replicas`.
    pub under_min_in_sync: i64,
    /// Fetch sessions and the partitions that they name.
    pub fetch_sessions: (u64, u64),
    /// Bytes charged to and size of the budget for requests.
    pub request_budget: (u64, u64),
    /// Bytes charged to and size of the budget for reads.
    pub read_budget: (u64, u64),
}

/// All metrics of one broker.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    topics: TopicFamilies,
    requests: BTreeMap<i16, Counter>,
    errors: Family<ErrorLabel, Counter>,
    connections: Family<ListenerLabel, Gauge>,
    connections_opened: Family<ListenerLabel, Counter>,
    closed: BTreeMap<CloseReason, Counter>,
    log_size: Family<PartitionLabel, Gauge<u64, AtomicU64>>,
    partition_count: Gauge,
    leader_count: Gauge,
    offline_replicas: Gauge,
    under_replicated: Gauge,
    under_min_in_sync: Gauge,
    active_controller: Gauge,
    controller_epoch: Gauge,
    lease_age: Gauge<f64, AtomicU64>,
    lease_is_fallen: Gauge,
    offline_partitions: Gauge,
    request_budget_used: Gauge<u64, AtomicU64>,
    request_budget: Gauge<u64, AtomicU64>,
    read_budget_used: Gauge<u64, AtomicU64>,
    read_budget: Gauge<u64, AtomicU64>,
    resident: Gauge<u64, AtomicU64>,
    fetch_sessions: Gauge<u64, AtomicU64>,
    fetch_session_partitions: Gauge<u64, AtomicU64>,
    /// Fetch sessions that lost their place to others.
    pub fetch_session_evictions: Counter,
    /// Fetch requests that were read on a thread that may block.
    pub cold_fetches: Counter,
    /// Waiting Fetch requests.
    pub waiting_fetches: Gauge,
    /// Waiting Produce requests.
    pub waiting_produces: Gauge,
}

#[derive(Debug, Default)]
struct TopicFamilies {
    messages_in: Family<TopicLabel, Counter>,
    bytes_in: Family<TopicLabel, Counter>,
    bytes_out: Family<TopicLabel, Counter>,
    produce_requests: Family<TopicLabel, Counter>,
    fetch_requests: Family<TopicLabel, Counter>,
    failed_produce_requests: Family<TopicLabel, Counter>,
    failed_fetch_requests: Family<TopicLabel, Counter>,
}

impl Metrics {
    /// Registers all series; `api_keys` are the keys served, with the names used as label.
    pub fn new(api_keys: impl IntoIterator<Item = (i16, &'static str)>) -> Self {
        let mut registry = Registry::default();
        let topics = TopicFamilies::default();
        let mut add = |name: &str, help: &str, family: &Family<TopicLabel, Counter>| {
            registry.register(format!("kafka_server_brokertopicmetrics_{name}"), help, family.clone());
        };
        add("messagesin", "Records appended", &topics.messages_in);
        add("bytesin", "Bytes of record batches appended", &topics.bytes_in);
        add("bytesout", "Bytes of record batches sent to consumers", &topics.bytes_out);
        add("totalproducerequests", "Partitions named in Produce requests", &topics.produce_requests);
        add("totalfetchrequests", "Partitions named in Fetch requests", &topics.fetch_requests);
        add("failedproducerequests", "Partitions refused in Produce requests", &topics.failed_produce_requests);
        add("failedfetchrequests", "Partitions refused in Fetch requests", &topics.failed_fetch_requests);

        let requests = Family::<RequestLabel, Counter>::default();
        registry.register("kafka_network_requestmetrics_requests", "Requests begun", requests.clone());
        let requests =
            api_keys.into_iter().map(|(key, name)| (key, child(&requests, RequestLabel { request: name.into() })));
        let requests = requests.collect();

        let errors = Family::default();
        registry.register("kafka_network_requestmetrics_errors", "Answers with an error code", errors.clone());
        let connections = Family::default();
        registry.register(
            "kafka_server_socket_server_metrics_connection_count",
            "Open connections",
            connections.clone(),
        );
        let connections_opened = Family::default();
        registry.register("odradek_connections_opened", "Connections accepted", connections_opened.clone());
        let cold_fetches = Counter::default();
        registry.register(
            "odradek_cold_fetches",
            "Fetch requests that may have waited for the disk",
            cold_fetches.clone(),
        );
        let fetch_session_evictions = Counter::default();
        registry.register(
            "kafka_server_fetchsessioncache_incrementalfetchsessionevictions",
            "Fetch sessions that lost their place to others",
            fetch_session_evictions.clone(),
        );
        let closed_family = Family::<ReasonLabel, Counter>::default();
        registry.register("odradek_connections_closed", "Connections ended, by reason", closed_family.clone());
        let closed = CloseReason::ALL
            .into_iter()
            .map(|reason| (reason, child(&closed_family, ReasonLabel { reason: reason.name() })))
            .collect();
        let log_size = Family::default();
        registry.register("kafka_log_log_size", "Bytes of a partition's segments", log_size.clone());

        let mut gauge = |name: &str, help: &str| {
            let gauge: Gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let partition_count = gauge("kafka_server_replicamanager_partitioncount", "Replicas on this broker");
        let leader_count = gauge("kafka_server_replicamanager_leadercount", "Partitions led by this broker");
        let offline_replicas = gauge("kafka_server_replicamanager_offlinereplicacount", "Replicas not served");
        let under_replicated =
            gauge("kafka_server_replicamanager_underreplicatedpartitions", "Led partitions with replicas out of sync");
        let under_min_in_sync =
            gauge("kafka_server_replicamanager_underminisrpartitioncount", "Led partitions under min.insync.replicas");
        let active_controller =
            gauge("kafka_controller_kafkacontroller_activecontrollercount", "1 on the active controller");
        let offline_partitions =
            gauge("kafka_controller_kafkacontroller_offlinepartitionscount", "Partitions without a leader");
        let controller_epoch = gauge("odradek_controller_epoch", "The highest controller epoch known here");
        let lease_is_fallen =
            gauge("odradek_lease_fallen", "1 if the controller Lease is missing, replaced or older than the logs");
        let waiting_fetches = gauge("odradek_waiting_fetches", "Fetch requests that wait for records");
        let waiting_produces = gauge("odradek_waiting_produces", "Produce requests that wait for durability");
        let lease_age = Gauge::<f64, AtomicU64>::default();
        let help = "Time since the controller Lease answered this broker; -1 if it never did";
        registry.register("odradek_lease_age_seconds", help, lease_age.clone());
        let mut whole = |name: &str, help: &str| {
            let gauge: Gauge<u64, AtomicU64> = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let request_budget_used = whole("odradek_request_budget_used_bytes", "Bytes of requests in memory");
        let request_budget = whole("odradek_request_budget_bytes", "Bytes that requests may take");
        let read_budget_used = whole("odradek_read_budget_used_bytes", "Bytes of answers in memory");
        let read_budget = whole("odradek_read_budget_bytes", "Bytes that answers may take");
        let name = "kafka_server_fetchsessioncache_numincrementalfetchsessions";
        let fetch_sessions = whole(name, "Fetch sessions");
        let name = "kafka_server_fetchsessioncache_numincrementalfetchpartitionscached";
        let fetch_session_partitions = whole(name, "Partitions named in fetch sessions");
        let resident = whole("process_resident_memory_bytes", "Resident memory");
        Self {
            registry: Mutex::new(registry),
            topics,
            requests,
            errors,
            connections,
            connections_opened,
            closed,
            log_size,
            partition_count,
            leader_count,
            offline_replicas,
            under_replicated,
            under_min_in_sync,
            active_controller,
            controller_epoch,
            lease_age,
            lease_is_fallen,
            offline_partitions,
            request_budget_used,
            request_budget,
            read_budget_used,
            read_budget,
            resident,
            fetch_sessions,
            fetch_session_partitions,
            fetch_session_evictions,
            cold_fetches,
            waiting_fetches,
            waiting_produces,
        }
    }

    /// The counters of a topic, to be kept by whoever counts.
    pub fn topic(&self, name: &TopicName) -> TopicMetrics {
        let label = || TopicLabel { topic: name.to_string() };
        let families = &self.topics;
        TopicMetrics {
            messages_in: child(&families.messages_in, label()),
            bytes_in: child(&families.bytes_in, label()),
            bytes_out: child(&families.bytes_out, label()),
            produce_requests: child(&families.produce_requests, label()),
            fetch_requests: child(&families.fetch_requests, label()),
            failed_produce_requests: child(&families.failed_produce_requests, label()),
            failed_fetch_requests: child(&families.failed_fetch_requests, label()),
        }
    }

    /// Forgets a deleted topic's series.
    pub fn forget_topic(&self, name: &TopicName) {
        let label = TopicLabel { topic: name.to_string() };
        let families = &self.topics;
        for family in [
            &families.messages_in,
            &families.bytes_in,
            &families.bytes_out,
            &families.produce_requests,
            &families.fetch_requests,
            &families.failed_produce_requests,
            &families.failed_fetch_requests,
        ] {
            family.remove(&label);
        }
    }

    /// Counts a request that began.
    pub fn request(&self, api_key: i16) {
        if let Some(counter) = self.requests.get(&api_key) {
            counter.inc();
        }
    }

    /// Counts an answer with an error.
    pub fn error(&self, request: &'static str, error: &str) {
        self.errors.get_or_create(&ErrorLabel { request: request.into(), error: error.into() }).inc();
    }

    /// The text of `/metrics` with what `snapshot` says.
    pub fn render(&self, snapshot: &Snapshot) -> String {
        let count = snapshot.log_sizes.len() as i64;
        self.log_size.clear();
        for (topic, partition, size) in &snapshot.log_sizes {
            let label = PartitionLabel { topic: topic.to_string(), partition: *partition };
            self.log_size.get_or_create(&label).set(*size);
        }
        self.partition_count.set(count);
        self.leader_count.set(snapshot.led);
        self.under_replicated.set(snapshot.under_replicated);
        self.under_min_in_sync.set(snapshot.under_min_in_sync);
        self.offline_replicas.set(snapshot.offline_replicas);
        self.offline_partitions.set(snapshot.offline_partitions);
        self.active_controller.set(i64::from(snapshot.is_controller));
        self.controller_epoch.set(snapshot.controller_epoch);
        self.lease_age.set(snapshot.lease_age_seconds.unwrap_or(-1.0));
        self.lease_is_fallen.set(i64::from(snapshot.lease_is_fallen));
        self.request_budget_used.set(snapshot.request_budget.0);
        self.request_budget.set(snapshot.request_budget.1);
        self.read_budget_used.set(snapshot.read_budget.0);
        self.read_budget.set(snapshot.read_budget.1);
        self.fetch_sessions.set(snapshot.fetch_sessions.0);
        self.fetch_session_partitions.set(snapshot.fetch_sessions.1);
        self.resident.set(resident_bytes());
        let mut text = String::with_capacity(16 * 1024);
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = prometheus_client::encoding::text::encode(&mut text, &registry) {
            let _ = writeln!(text, "# encoding failed: {error}");
        }
        text
    }
}

impl crate::net::listener::ConnectionObserver for Metrics {
    fn opened(&self, listener: &str) {
        let label = ListenerLabel { listener: listener.into() };
        self.connections.get_or_create(&label).inc();
        self.connections_opened.get_or_create(&label).inc();
    }

    fn closed(&self, listener: &str, reason: CloseReason) {
        self.connections.get_or_create(&ListenerLabel { listener: listener.into() }).dec();
        if let Some(counter) = self.closed.get(&reason) {
            counter.inc();
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "labels are made for this call")]
fn child<L, M>(family: &Family<L, M>, label: L) -> M
where
    L: Clone + std::hash::Hash + Eq,
    M: Clone + Default,
{
    family.get_or_create(&label).clone()
}

/// Resident bytes of this process, 0 where the system does not say (it is a metric, not a decision).
fn resident_bytes() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "the kernel's view of this process, not data of ours")]
    let Ok(text) = std::fs::read_to_string("/proc/self/statm") else {
        return 0;
    };
    let pages: u64 = text.split_ascii_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    pages * 4096
}
