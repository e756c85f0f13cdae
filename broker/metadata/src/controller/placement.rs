// SPDX-License-Identifier: Apache-2.0
//! Where the replicas of a new topic go. Round robin over the unfenced brokers; racks come with clusters of several.

use odradek_model::BrokerId;

/// Replicas of each partition, the leader first. `seed` (random, given with the command) turns the start, so that
/// topics of one partition do not all land on the first broker. `Err` holds the number of brokers, if too few.
pub(super) fn place(
    brokers: &[BrokerId],
    partitions: usize,
    replication_factor: usize,
    seed: u64,
) -> Result<Vec<Vec<BrokerId>>, usize> {
    if replication_factor > brokers.len() {
        return Err(brokers.len());
    }
    let count = brokers.len();
    let start = (seed % count.max(1) as u64) as usize;
    Ok((0..partitions)
        .map(|partition| {
            // Followers shift by one more after each full round, so that no pair of brokers always shares.
            let leader = start + partition;
            let shift = if count > 1 { partition / count % (count - 1) } else { 0 };
            (0..replication_factor)
                .map(|i| {
                    let step = if i == 0 { 0 } else { 1 + (i - 1 + shift) % (count - 1).max(1) };
                    brokers[(leader + step) % count]
                })
                .collect()
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn replicas_are_distinct_and_leaders_spread() {
        let brokers: Vec<BrokerId> = (0..5).map(BrokerId).collect();
        for factor in 1..=5 {
            let placed = place(&brokers, 20, factor, 7).expect("enough brokers");
            for replicas in &placed {
                assert_eq!(replicas.iter().collect::<BTreeSet<_>>().len(), factor);
            }
            for broker in &brokers {
                assert_eq!(placed.iter().filter(|replicas| replicas[0] == *broker).count(), 4);
            }
        }
        assert_eq!(place(&brokers, 1, 6, 0), Err(5));
        assert_eq!(place(&[], 1, 1, 9), Err(0));
        assert_eq!(place(&brokers[..1], 2, 1, 9), Ok(vec![vec![BrokerId(0)]; 2]));
    }
}
