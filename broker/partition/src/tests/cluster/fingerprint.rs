// SPDX-License-Identifier: Apache-2.0
//! A number for everything that decides what may happen next, so that no moment is searched twice.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::{Answered, Cluster, all_brokers};
use crate::{FetchAnswer, FetchPlan};

/// An answer without what does not matter for what happens next.
fn hash_answer(answered: Option<&Answered>, hasher: &mut impl Hasher) {
    let Some(Answered { plan, answer }) = answered else { return 0.hash(hasher) };
    hash_plan(plan, hasher);
    match answer {
        FetchAnswer::Records { records, high_watermark, .. } => (1, records, high_watermark).hash(hasher),
        FetchAnswer::Diverging { epoch, end_offset } => (2, epoch, end_offset).hash(hasher),
        FetchAnswer::OutOfRange => 3.hash(hasher),
        FetchAnswer::Fenced => 4.hash(hasher),
    }
}

fn hash_plan(plan: &FetchPlan, hasher: &mut impl Hasher) {
    (plan.leader, plan.leader_epoch, plan.fetch_offset, plan.last_fetched_epoch).hash(hasher);
}

impl Cluster {
    /// Names this moment among those that were searched.
    pub(in crate::tests) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let alive = || self.brokers.iter().filter(|broker| broker.partition.is_some());
        let oldest = alive().map(|broker| broker.seen).min().unwrap_or(self.history.len());
        for broker in &self.brokers {
            broker.log.contents().hash(&mut hasher);
            broker.epoch.hash(&mut hasher);
            match &broker.partition {
                Some(partition) => {
                    (broker.seen - oldest).hash(&mut hasher);
                    partition.fingerprint(&mut hasher);
                }
                None => u64::MAX.hash(&mut hasher),
            }
        }
        self.history[oldest.min(self.history.len() - 1)..].hash(&mut hasher);
        self.controller.hash(&mut hasher);
        for requests in [&self.requests, &self.old_requests] {
            for (id, fetch) in requests {
                id.hash(&mut hasher);
                hash_plan(&fetch.plan, &mut hasher);
                fetch.request.hash(&mut hasher);
            }
            u64::MAX.hash(&mut hasher);
        }
        for id in all_brokers() {
            hash_answer(self.answers.get(&id), &mut hasher);
            hash_answer(self.late_answers.get(&id), &mut hasher);
            // Whether the answer to what is on its way is still waited for.
            let asked = self.requests.get(&id).map(|fetch| fetch.plan);
            let answered = [&self.answers, &self.late_answers].map(|all| all.get(&id).map(|answered| answered.plan));
            let waits = |plan: Option<FetchPlan>| {
                plan.is_some() && self.replica(id).is_some_and(|partition| partition.waits_for(plan))
            };
            (waits(asked), answered.map(waits)).hash(&mut hasher);
        }
        (&self.isr_changes, &self.isr_answers).hash(&mut hasher);
        (self.now, self.budget, &self.committed).hash(&mut hasher);
        hasher.finish()
    }
}
