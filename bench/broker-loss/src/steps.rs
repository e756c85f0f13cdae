// SPDX-License-Identifier: Apache-2.0
//! The way from a broker's death to the last of its leaderships taken over, one step after the other, each with what it
//! took. Steps that happen at the same time on several machines count once.

use crate::Options;
use crate::brokers::Brokers;
use crate::replicas::Replicas;
use anyhow::{Context, Result, ensure};
use odradek_metadata::{Effect, Event, Image, PartitionKey};
use odradek_model::BrokerId;
use serde::Serialize;
use std::time::Instant;

/// One step.
#[derive(Debug, Serialize)]
pub(crate) struct Step {
    what: &'static str,
    seconds: f64,
    /// Not measured: it follows from the options.
    modelled: bool,
}

/// One loss.
#[derive(Debug, Serialize)]
pub(crate) struct Run {
    /// The sum of all steps.
    seconds: f64,
    steps: Vec<Step>,
    /// Of the decision.
    records: usize,
    bytes: usize,
    leaderships_moved: usize,
    /// What the surviving broker that had most to do had to do.
    replicas_told: usize,
    leaderships_taken: usize,
}

#[derive(Default)]
struct Steps(Vec<Step>);

impl Steps {
    fn measured<T>(&mut self, what: &'static str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let begun = Instant::now();
        let result = work()?;
        self.0.push(Step { what, seconds: begun.elapsed().as_secs_f64(), modelled: false });
        Ok(result)
    }

    fn modelled(&mut self, what: &'static str, seconds: f64) {
        self.0.push(Step { what, seconds, modelled: true });
    }
}

pub(crate) fn lose_one(options: &Options, number: u32) -> Result<Run> {
    let folder = tempfile::Builder::new().prefix("odradek-broker-loss-").tempdir()?;
    let mut brokers = Brokers::new(folder.path(), options.brokers, options.partitions, options.replicas)?;
    // Not broker 0, which is the controller.
    let lost = BrokerId(1 + number as i32 % (options.brokers - 1));
    let before = brokers.other.image().clone();
    let led = before.leadership_count(lost);
    ensure!(led > 0, "broker {lost} leads something");
    let (busiest, changing) = busiest_survivor(options, &before, lost)?;
    let mut replicas = Replicas::open(&folder.path().join("logs"), busiest, &changing, &before)?;

    let round_trip = options.round_trip_milliseconds / 1e3;
    let mut steps = Steps::default();
    steps.modelled("its connections are reset, and the controller's probe is refused", 2.0 * round_trip);
    let probe = brokers.suspect(lost)?;
    let effects = steps.measured("the controller decides, and applies it to its own image", || {
        Ok(brokers.handle(Event::ProbeFinished { probe, answered: false }))
    })?;
    let mut records = 0;
    steps.measured("the controller encodes, writes and syncs it", || {
        for effect in &effects {
            if let Effect::Append(appended) = effect {
                brokers.own.append(appended)?;
                records += appended.len();
            }
        }
        Ok(())
    })?;
    let batches = steps.measured("it is read for another broker", || brokers.own.batches_from(brokers.other.end()))?;
    let bytes: usize = batches.iter().map(|batch| batch.bytes.len()).sum();
    let receivers = f64::from(options.brokers - 2);
    let sending = bytes as f64 * receivers / (options.network_megabytes_per_second * 1e6);
    steps.modelled("it is sent to all others, the voters last", round_trip + sending);
    steps.measured("a voter checks, writes and syncs it", || brokers.other.take_in(&batches))?;
    steps.modelled("the voter says so, and the others hear that it is committed", 1.5 * round_trip);
    steps.measured("a broker reads and applies it", || brokers.other.apply())?;
    steps.measured("a broker writes a snapshot of its metadata, if one is due", || brokers.other.snapshot())?;
    let after = brokers.other.image().clone();
    let taken = steps.measured("its replicas lead or follow, epochs synced", || replicas.tell(&after, 1))?;

    let moved = check(&before, &after, lost)?;
    ensure!(moved == led, "{moved} of {led} leaderships moved");
    Ok(Run {
        seconds: steps.0.iter().map(|step| step.seconds).sum(),
        steps: steps.0,
        records,
        bytes,
        leaderships_moved: moved,
        replicas_told: replicas.count(),
        leaderships_taken: taken,
    })
}

/// The survivor that has most to do, and its replicas of partitions that the lost broker has one of. What costs is to take
/// a leadership, as its epoch is synced: the next replica in their order does.
fn busiest_survivor(options: &Options, image: &Image, lost: BrokerId) -> Result<(BrokerId, Vec<PartitionKey>)> {
    let survivors = (0..options.brokers).map(BrokerId).filter(|broker| *broker != lost);
    let to_take = |broker: BrokerId| {
        let led = image.partitions_on(lost).filter(|(_, _, partition)| partition.leader == Some(lost));
        let next = led.filter_map(|(_, _, partition)| partition.replicas.iter().find(|replica| **replica != lost));
        next.filter(|next| **next == broker).count()
    };
    let busiest = survivors.max_by_key(|broker| to_take(*broker)).context("somebody survives")?;
    let changing = image.partitions_on(lost).filter(|(_, _, partition)| partition.replicas.contains(&busiest));
    Ok((busiest, changing.map(|(key, _, _)| key).collect()))
}

/// How many leaderships moved, after a look at every partition.
fn check(before: &Image, after: &Image, lost: BrokerId) -> Result<usize> {
    let mut moved = 0;
    for (key, _, partition) in before.partitions_on(lost) {
        let now = after.partition(key).context("no partition is gone")?;
        ensure!(!now.isr.contains(&lost), "{key:?} has the lost broker in its ISR");
        ensure!(now.leader.is_some_and(|leader| leader != lost), "{key:?} is led by {:?}", now.leader);
        moved += usize::from(partition.leader == Some(lost));
    }
    Ok(moved)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn a_small_loss_moves_every_leadership_and_says_what_each_step_took() {
        let line = ["odradek-broker-loss", "--partitions", "60", "--brokers", "4", "--runs", "1"];
        let options = Options::try_parse_from(line).unwrap();
        let run = lose_one(&options, 0).unwrap();
        assert!(run.leaderships_moved > 0 && run.leaderships_taken > 0, "{run:?}");
        assert!(run.records > run.leaderships_moved, "{run:?}");
        let sum: f64 = run.steps.iter().map(|step| step.seconds).sum();
        assert!((run.seconds - sum).abs() < 1e-9);
        assert!(run.steps.iter().any(|step| step.modelled) && run.steps.iter().any(|step| !step.modelled));
    }
}
