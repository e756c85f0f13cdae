// SPDX-License-Identifier: Apache-2.0
//! What a run with faults may not have done: judges the history that workloads recorded. Knows no client, no broker
//! and no fault, and nothing of how the records were made: a workload that is wrong cannot make its own judge agree.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

/// An acknowledgement: the broker's word that a record is kept there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// The writer's number of the record.
    pub number: u32,
    /// Its partition.
    pub partition: i32,
    /// Its offset; negative if the client concluded by itself that the record is there: librdkafka does when no answer
    /// came, or a time-out, and a later batch of the same partition is acknowledged, as sequences have no gaps. No broker
    /// of today's Kafka answers DUPLICATE_SEQUENCE_NUMBER, which has the same effect, and Odradek never does.
    pub offset: i64,
    /// When the client reported it.
    pub at: Instant,
}

/// A record that was read from a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its key, as a number.
    pub key: u32,
    /// The writer's number of it; within a key the numbers rise in the order of writing.
    pub number: u32,
}

/// An offset that a group committed, by the answer to the commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The partition.
    pub partition: i32,
    /// The next offset to be read.
    pub offset: i64,
    /// When the answer was there.
    pub at: Instant,
}

/// An answer to the question what a group has committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitSeen {
    /// The partition.
    pub partition: i32,
    /// What the answer said; 0 for nothing.
    pub offset: i64,
    /// When the question was asked.
    pub asked: Instant,
    /// When the answer was there.
    pub answered: Instant,
}

/// Whether the log has each acknowledged record where the acknowledgement said, no record twice, and each key's in
/// order.
///
/// # Errors
/// What is lost, moved, twice or out of order, with its place.
pub fn check_log(log: &[Found], acknowledged: &[Acknowledged]) -> Result<()> {
    let mut places: HashMap<u32, (i32, i64)> = HashMap::with_capacity(log.len());
    let mut last: HashMap<i32, i64> = HashMap::new();
    let mut last_of_key: HashMap<u32, (u32, i32)> = HashMap::new();
    for record in log {
        let place = (record.partition, record.offset);
        if let Some(before) = last.insert(record.partition, record.offset) {
            ensure!(before < record.offset, "partition {}: offset {} after {before}", record.partition, record.offset);
        }
        if let Some(before) = places.insert(record.number, place) {
            bail!("record {} is there twice: at {before:?} and {place:?}", record.number);
        }
        if let Some((before, partition)) = last_of_key.insert(record.key, (record.number, record.partition)) {
            ensure!(
                before < record.number,
                "key {}: record {} at {place:?} came after {before}",
                record.key,
                record.number
            );
            ensure!(partition == record.partition, "key {} is in the partitions {partition} and {place:?}", record.key);
        }
    }
    let mut lost = Vec::new();
    for one in acknowledged {
        match places.get(&one.number) {
            Some(place) if *place == (one.partition, one.offset) => {}
            Some((partition, _)) if one.offset < 0 && *partition == one.partition => {}
            Some(place) => {
                bail!("record {} was acknowledged at {:?}; it is at {place:?}", one.number, (one.partition, one.offset))
            }
            None => lost.push((one.number, one.partition, one.offset)),
        }
    }
    ensure!(
        lost.is_empty(),
        "{} of {} acknowledged records are lost; (number, partition, offset) of the first: {:?}",
        lost.len(),
        acknowledged.len(),
        &lost[..lost.len().min(5)]
    );
    Ok(())
}

/// Whether a group's offsets never went back: no answer says less than a commit that was confirmed before the question
/// was asked, nor less than an answer that was there before it.
///
/// # Errors
/// Which partition went back, from where to where.
pub fn check_group(committed: &[Committed], seen: &[CommitSeen]) -> Result<()> {
    for answer in seen {
        let partition = answer.partition;
        let before = committed.iter().filter(|commit| commit.partition == partition && commit.at < answer.asked);
        if let Some(confirmed) = before.max_by_key(|commit| commit.offset) {
            ensure!(
                answer.offset >= confirmed.offset,
                "partition {partition}: the commit of {} was confirmed, and {:?} later {} is kept",
                confirmed.offset,
                answer.asked - confirmed.at,
                answer.offset
            );
        }
        let earlier = seen.iter().filter(|other| other.partition == partition && other.answered < answer.asked);
        if let Some(shown) = earlier.map(|other| other.offset).max() {
            ensure!(
                answer.offset >= shown,
                "partition {partition}: {shown} was shown as committed, and later {}",
                answer.offset
            );
        }
    }
    Ok(())
}

/// Whether a group's members were given every record of the log.
///
/// # Errors
/// Which records no member was given.
pub fn check_read(log: &[Found], given: &[Found]) -> Result<()> {
    let given: HashMap<(i32, i64), u32> =
        given.iter().map(|record| ((record.partition, record.offset), record.number)).collect();
    for record in log {
        let place = (record.partition, record.offset);
        match given.get(&place) {
            None => bail!("the group was not given record {} at {place:?}", record.number),
            Some(number) => ensure!(
                *number == record.number,
                "the group was given record {number} at {place:?}, where {} is",
                record.number
            ),
        }
    }
    Ok(())
}

/// The longest times without an acknowledgement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gaps {
    /// In which no partition acknowledged anything.
    pub all: Duration,
    /// In which some one partition acknowledged nothing.
    pub one: Duration,
}

/// The longest gaps between `from` and `until`, in which records for every partition were sent all the time.
pub fn gaps(acknowledged: &[Acknowledged], from: Instant, until: Instant) -> Gaps {
    let mut by_partition: BTreeMap<i32, Vec<Instant>> = BTreeMap::new();
    for one in acknowledged {
        let times = by_partition.entry(one.partition).or_default();
        if (from..=until).contains(&one.at) {
            times.push(one.at);
        }
    }
    let longest = |times: &mut Vec<Instant>| {
        times.extend([from, until]);
        times.sort_unstable();
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    };
    let mut all: Vec<Instant> = by_partition.values().flatten().copied().collect();
    Gaps { all: longest(&mut all), one: by_partition.values_mut().map(longest).max().unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(offset: i64, key: u32, number: u32) -> Found {
        Found { partition: 0, offset, key, number }
    }

    fn acknowledged(number: u32, offset: i64) -> Acknowledged {
        Acknowledged { number, partition: 0, offset, at: Instant::now() }
    }

    #[test]
    fn each_fault_of_a_log_is_found() {
        let log = [found(0, 1, 1), found(1, 2, 2), found(3, 1, 3)];
        let all = [acknowledged(1, 0), acknowledged(3, 3)];
        check_log(&log, &all).unwrap();
        check_log(&log, &[acknowledged(3, -1001)]).unwrap();
        let wrong = |log: &[Found], acknowledged: &[Acknowledged], what: &str| {
            let said = check_log(log, acknowledged).unwrap_err().to_string();
            assert!(said.contains(what), "{said}");
        };
        wrong(&log[..2], &all, "lost");
        wrong(&log[..2], &[acknowledged(3, -1001)], "lost");
        wrong(&log, &[acknowledged(3, 2)], "acknowledged at (0, 2)");
        wrong(&[log[0], log[1], log[2], found(4, 1, 3)], &all, "twice");
        wrong(&[found(0, 1, 3), found(1, 1, 1)], &[], "came after");
        wrong(&[found(0, 1, 1), Found { partition: 1, ..found(0, 1, 2) }], &[], "in the partitions");
        wrong(&[found(1, 1, 1), found(1, 2, 2)], &[], "offset 1 after 1");
    }

    #[test]
    fn a_group_that_goes_back_is_found() {
        let now = Instant::now();
        let at = |milliseconds| now + Duration::from_millis(milliseconds);
        let commit = |offset, time| Committed { partition: 0, offset, at: at(time) };
        let answer =
            |offset, asked, answered| CommitSeen { partition: 0, offset, asked: at(asked), answered: at(answered) };
        // A question that was under way when the commit was confirmed may be answered either way.
        check_group(&[commit(5, 10)], &[answer(0, 9, 12), answer(5, 13, 14)]).unwrap();
        let said = check_group(&[commit(5, 10)], &[answer(4, 11, 12)]).unwrap_err().to_string();
        assert!(said.contains("was confirmed"), "{said}");
        let said = check_group(&[], &[answer(9, 1, 2), answer(8, 3, 4)]).unwrap_err().to_string();
        assert!(said.contains("was shown"), "{said}");
        check_group(&[], &[answer(9, 1, 3), answer(8, 2, 4)]).unwrap();
    }

    #[test]
    fn a_record_that_the_group_missed_is_found() {
        let log = [found(0, 1, 1), found(1, 2, 2)];
        check_read(&log, &[log[1], log[0], log[1]]).unwrap();
        assert!(check_read(&log, &log[..1]).unwrap_err().to_string().contains("not given record 2"));
        assert!(check_read(&log, &[log[0], found(1, 2, 7)]).unwrap_err().to_string().contains("where 2 is"));
    }

    #[test]
    fn gaps_of_one_partition_and_of_all_are_told_apart() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let one = |partition, seconds| Acknowledged { number: 0, partition, offset: 0, at: at(seconds) };
        let history = [one(0, 1), one(0, 2), one(0, 9), one(1, 1), one(1, 4), one(1, 7), one(1, 10)];
        let found = gaps(&history, at(0), at(10));
        assert_eq!((found.all, found.one), (Duration::from_secs(3), Duration::from_secs(7)));
        // What had stopped before the time that is looked at counts from its beginning.
        assert_eq!(gaps(&history[..3], at(10), at(15)).all, Duration::from_secs(5));
    }
}
