// SPDX-License-Identifier: Apache-2.0
//! What a log says of itself, by which logs are matched and compared: position, start, ends of epochs. The same before
//! and after it is opened anew, whatever was appended, cut and put into snapshots.

use odradek_disk::{Outage, SimulatedDisk};

use super::super::{LogPosition, MetadataLog, snapshot};
use super::{formatted, open, promise, records};
use crate::Image;

/// Steps of a history; longer ones find nothing that these do not, and take minutes.
const LENGTH: usize = 5;

#[derive(Clone, Copy, Debug)]
enum Step {
    AppendInTheSameEpoch,
    AppendInTheNextEpoch,
    SnapshotOfAll,
    SnapshotBelowTheLastBatch,
    CutTheLastBatch,
    CutToTheSnapshot,
    OpenAnew,
}

const STEPS: [Step; 7] = [
    Step::AppendInTheSameEpoch,
    Step::AppendInTheNextEpoch,
    Step::SnapshotOfAll,
    Step::SnapshotBelowTheLastBatch,
    Step::CutTheLastBatch,
    Step::CutToTheSnapshot,
    Step::OpenAnew,
];

/// A log, and what it should be: the epoch and the end of each of its batches.
struct Pair {
    disk: SimulatedDisk,
    log: MetadataLog,
    batches: Vec<LogPosition>,
    start: LogPosition,
    highest: i64,
}

impl Pair {
    fn new() -> Self {
        let disk = formatted(1);
        let (log, _, _) = open(&disk);
        Self { disk, log, batches: Vec::new(), start: LogPosition::default(), highest: 1 }
    }

    fn position(&self) -> LogPosition {
        self.batches.last().copied().unwrap_or_default()
    }

    fn append(&mut self, epoch: i64, count: i64) {
        let end = self.position().end;
        assert!(self.log.promise(promise(epoch)).expect("promises"));
        self.log.append(epoch, &records(end, count)).expect("appends");
        self.batches.push(LogPosition { epoch, end: end + count });
        self.highest = epoch;
    }

    fn snapshot(&mut self, at: LogPosition) {
        let mut image = Image::empty();
        for batch in self.batches.iter().filter(|batch| batch.end <= at.end) {
            for record in records(image.end_offset(), batch.end - image.end_offset()) {
                image.apply_mut(batch.epoch, &record).expect("fits");
            }
        }
        self.log.write_snapshot(&image).expect("written");
        self.start = at;
    }

    fn cut(&mut self, to: LogPosition) {
        assert_eq!(self.log.truncate_to(to.end).expect("cut"), to.end);
        self.batches.retain(|batch| batch.end <= to.end);
    }

    /// Where the batch before the last one ends, if the last one is not in the snapshot.
    fn before_the_last(&self) -> Option<LogPosition> {
        let before = self.batches.iter().nth_back(1).copied().unwrap_or_default();
        (self.position() != self.start && before.end >= self.start.end).then_some(before)
    }

    fn take(&mut self, step: Step) {
        match (step, self.before_the_last()) {
            (Step::AppendInTheSameEpoch, _) => self.append(self.highest, 1),
            (Step::AppendInTheNextEpoch, _) => self.append(self.highest + 1, 2),
            (Step::SnapshotOfAll, _) => self.snapshot(self.position()),
            (Step::SnapshotBelowTheLastBatch, Some(before)) if before.end > 0 => self.snapshot(before),
            (Step::CutTheLastBatch, Some(before)) => self.cut(before),
            (Step::CutToTheSnapshot, _) => self.cut(self.start),
            (Step::OpenAnew, _) => {
                self.disk.restart(Outage::PowerLossOfAllUnsynced);
                self.log = open(&self.disk).0;
            }
            (Step::SnapshotBelowTheLastBatch | Step::CutTheLastBatch, _) => {}
        }
    }

    fn check(&self, history: &[Step]) {
        let log = &self.log;
        assert_eq!((log.position(), log.start()), (self.position(), self.start), "{history:?}");
        for epoch in 0..=self.highest + 1 {
            let known = |batch: &&LogPosition| batch.end >= self.start.end && batch.epoch <= epoch;
            let expected = self.batches.iter().rfind(known).copied().unwrap_or_default();
            assert_eq!(log.epoch_end(epoch), expected, "epoch {epoch}: {history:?}");
        }
    }
}

fn every_history(history: &mut Vec<Step>, checked: &mut usize) {
    let mut pair = Pair::new();
    for step in history.iter() {
        pair.take(*step);
    }
    pair.check(history);
    *checked += 1;
    if history.len() < LENGTH {
        for step in STEPS {
            history.push(step);
            every_history(history, checked);
            history.pop();
        }
    }
}

#[test]
fn every_short_history_leaves_a_log_that_says_what_it_holds() {
    let mut checked = 0;
    every_history(&mut Vec::new(), &mut checked);
    assert_eq!(checked, (0..=LENGTH as u32).map(|length| STEPS.len().pow(length)).sum());
}

/// As a controller that fell back to a snapshot in the simulation: it kept the epoch of the records that it had cut, was
/// told over and over that its log diverges, and would have passed for further ahead than it was (rule 3).
#[test]
fn a_log_cut_to_its_snapshot_has_the_epoch_of_the_snapshot() {
    let mut pair = Pair::new();
    pair.append(1, 18);
    pair.append(4, 1);
    pair.snapshot(LogPosition { epoch: 1, end: 18 });
    pair.cut(LogPosition { epoch: 1, end: 18 });
    assert_eq!(pair.log.position(), LogPosition { epoch: 1, end: 18 });
    assert_eq!(pair.log.epoch_end(4), LogPosition { epoch: 1, end: 18 });
    pair.append(4, 1);
    assert_eq!(pair.log.position(), LogPosition { epoch: 4, end: 19 });
}

#[test]
#[should_panic(expected = "committed records up to 3 cannot be cut to 2")]
fn a_cut_below_the_snapshot_is_a_mistake_of_the_caller() {
    let mut pair = Pair::new();
    pair.append(1, 3);
    pair.snapshot(LogPosition { epoch: 1, end: 3 });
    let _ = pair.log.truncate_to(2);
}

#[test]
#[should_panic(expected = "the epoch of the last record of a snapshot")]
fn a_snapshot_of_other_records_is_a_mistake_of_the_caller() {
    let mut pair = Pair::new();
    pair.append(1, 3);
    let mut image = Image::empty();
    image.apply_mut(2, &records(0, 1)[0]).expect("fits");
    let _ = pair.log.write_snapshot(&image);
}

#[test]
fn damage_in_what_stays_is_an_error_and_no_reason_to_cut_more() {
    let mut pair = Pair::new();
    for _ in 0..4 {
        pair.append(1, 1);
    }
    let path = super::super::segment_path(super::dir(), 0);
    pair.disk.corrupt(&path, 20, 1);
    let error = pair.log.truncate_to(3).expect_err("damaged");
    assert!(error.is_fatal() && error.to_string().contains("at byte 0"), "{error}");
}

/// The old log has a segment with the name that the first one of the new log gets.
#[test]
fn a_snapshot_that_ends_where_an_old_segment_begins_replaces_the_log_in_one_step() {
    let mut other = Image::empty();
    for record in records(0, 30) {
        other.apply_mut(8, &record).expect("fits");
    }
    let received = snapshot::encode(&other, false);
    let mut seen = std::collections::BTreeSet::new();
    for at in 0..80 {
        let mut pair = Pair::new();
        for _ in 0..3 {
            pair.append(1, 10);
        }
        pair.snapshot(LogPosition { epoch: 1, end: 10 });
        pair.append(1, 5);
        pair.disk.crash_at(Some(at));
        let done = pair.log.install_snapshot(&received).is_ok();
        for outage in [Outage::ProcessDeath, Outage::PowerLoss] {
            pair.disk.restart(outage);
        }
        pair.take(Step::OpenAnew);
        let LogPosition { epoch, end } = pair.log.position();
        assert!(matches!((epoch, end), (1, 35 | 30) | (8, 30)) && (!done || epoch == 8), "at {at}: {epoch} {end}");
        seen.insert((epoch, end));
        pair.log.promise(promise(9)).expect("promises");
        pair.log.append(9, &records(end, 1)).expect("appends");
        pair.take(Step::OpenAnew);
        assert_eq!(pair.log.position(), LogPosition { epoch: 9, end: end + 1 });
        if done {
            assert!(seen.len() > 1, "it was cut short before and after the step: {seen:?}");
            return;
        }
    }
    panic!("the installation never ended");
}

#[test]
fn a_snapshot_below_the_own_one_is_refused() {
    let mut pair = Pair::new();
    pair.append(1, 3);
    let older = pair.log.image().expect("replays");
    pair.append(1, 1);
    pair.snapshot(LogPosition { epoch: 1, end: 4 });
    let error = pair.log.install_snapshot(&snapshot::encode(&older, false)).expect_err("older");
    assert!(!error.is_fatal() && error.to_string().contains("4 records are committed"), "{error}");
    pair.check(&[]);
}
