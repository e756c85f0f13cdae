// SPDX-License-Identifier: Apache-2.0
//! Replicas that somebody named by hand are checked (`validateManualPartitionAssignment` in Kafka).

use std::collections::BTreeSet;

use odradek_model::BrokerId;

use super::partition_updates::is_active;
use crate::Image;

/// The replicas named for one partition, if they are distinct, registered and not cordoned; else what is wrong.
/// Brokers of `present`, where the partition has replicas already, may be cordoned: nothing new is placed on them.
pub(super) fn check(image: &Image, replicas: &[i32], present: &[BrokerId]) -> Result<Vec<BrokerId>, String> {
    if replicas.is_empty() {
        return Err("the replica list is empty".to_owned());
    }
    let mut seen = BTreeSet::new();
    for id in replicas {
        let id = BrokerId(*id);
        if !seen.insert(id) {
            return Err(format!("broker {id} is named twice"));
        }
        match image.broker(id) {
            None => return Err(format!("broker {id} is not registered")),
            Some(broker) if broker.cordoned && !present.contains(&id) => {
                return Err(format!("broker {id} is cordoned"));
            }
            Some(_) => {}
        }
    }
    Ok(replicas.iter().copied().map(BrokerId).collect())
}

/// Those of new replicas that can be in sync from the start; the first of them leads. Empty if none can.
pub(super) fn first_isr(image: &Image, replicas: &[BrokerId]) -> Vec<BrokerId> {
    replicas.iter().copied().filter(|broker| is_active(image, *broker)).collect()
}
