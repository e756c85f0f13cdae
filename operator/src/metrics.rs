// SPDX-License-Identifier: Apache-2.0
//! What the operator counts, as Prometheus reads it. Knows no resource beyond its kind's name.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// The kind that a series speaks of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabel {
    /// `Cluster` or `Topic`.
    pub kind: &'static str,
}

/// Every series of the operator.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    reconciles: Family<KindLabel, Counter>,
    errors: Family<KindLabel, Counter>,
    writes: Family<KindLabel, Counter>,
    last_success: Family<KindLabel, Gauge<f64, AtomicU64>>,
    duration: Family<KindLabel, Histogram>,
    leader: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("odradek_operator");
        let metrics = Self {
            reconciles: Family::default(),
            errors: Family::default(),
            writes: Family::default(),
            last_success: Family::default(),
            duration: Family::new_with_constructor(|| {
                // From a pass that finds nothing to do to the longest one that its deadlines allow.
                Histogram::new([0.005, 0.02, 0.05, 0.2, 1.0, 5.0, 20.0, 60.0])
            }),
            leader: Gauge::default(),
            registry: Arc::default(),
        };
        registry.register("reconciles", "Passes over a resource", metrics.reconciles.clone());
        registry.register("reconcile_errors", "Passes that ended in an error", metrics.errors.clone());
        registry.register("writes", "Objects created or changed", metrics.writes.clone());
        registry.register(
            "last_success_timestamp_seconds",
            "When a pass last ended without an error",
            metrics.last_success.clone(),
        );
        registry.register("reconcile_duration_seconds", "How long a pass took", metrics.duration.clone());
        registry.register("leader", "1 while this process holds the operator's Lease", metrics.leader.clone());
        Self { registry: Arc::new(Mutex::new(registry)), ..metrics }
    }
}

impl Metrics {
    /// Counts one pass. `now_seconds` is seconds since the epoch.
    pub fn reconciled(&self, kind: &'static str, ok: bool, took: Duration, now_seconds: f64) {
        let label = KindLabel { kind };
        self.reconciles.get_or_create(&label).inc();
        self.duration.get_or_create(&label).observe(took.as_secs_f64());
        if ok {
            self.last_success.get_or_create(&label).set(now_seconds);
        } else {
            self.errors.get_or_create(&label).inc();
        }
    }

    /// Counts one object created or changed for a resource of this kind.
    pub fn wrote(&self, kind: &'static str) {
        self.writes.get_or_create(&KindLabel { kind }).inc();
    }

    /// Writes made for resources of this kind so far.
    pub fn writes(&self, kind: &'static str) -> u64 {
        self.writes.get_or_create(&KindLabel { kind }).get()
    }

    /// Says whether this process works.
    pub fn set_leader(&self, leader: bool) {
        self.leader.set(i64::from(leader));
    }

    /// Everything in Prometheus' (OpenMetrics) text form.
    pub fn render(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        encode(&mut text, &registry).expect("writing to a string does not fail");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_pass_leaves_the_last_success_alone() {
        let metrics = Metrics::default();
        metrics.reconciled("Cluster", true, Duration::from_millis(3), 100.0);
        metrics.reconciled("Cluster", false, Duration::from_millis(3), 200.0);
        let text = metrics.render();
        assert!(text.contains("odradek_operator_last_success_timestamp_seconds{kind=\"Cluster\"} 100.0"), "{text}");
        assert!(text.contains("odradek_operator_reconcile_errors_total{kind=\"Cluster\"} 1"), "{text}");
    }
}
