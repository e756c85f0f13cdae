// SPDX-License-Identifier: Apache-2.0
//! The only voter takes the Lease, again and again; what looks like rule 10 is refused.

use std::sync::Mutex;

use odradek_model::{BrokerId, ClusterId};
use uuid::Uuid;

use super::*;
use crate::InProcessLease;

#[derive(Default)]
struct Log {
    promised: i64,
    led: Vec<i64>,
}

impl VoterLog for Log {
    type Error = String;

    fn is_empty(&self) -> bool {
        self.led.is_empty()
    }

    fn promised_epoch(&self) -> ControllerEpoch {
        self.promised
    }

    fn promise(&mut self, epoch: ControllerEpoch, _: &Holder) -> Result<bool, String> {
        let keeps = epoch > self.promised;
        self.promised = self.promised.max(epoch);
        Ok(keeps)
    }

    fn lead(&mut self, epoch: ControllerEpoch, _: &Holder) -> Result<(), String> {
        assert_eq!(epoch, self.promised, "promised before it leads");
        self.led.push(epoch);
        Ok(())
    }
}

fn lease() -> InProcessLease {
    InProcessLease::create("uid", &ClusterId::new("c").expect("an id"))
}

fn me(incarnation: &str) -> Holder {
    Holder { broker_id: BrokerId(1), incarnation: incarnation.into() }
}

fn directory(id: u128) -> DirectoryId {
    DirectoryId(Uuid::from_u128(id))
}

#[test]
fn each_start_takes_the_next_epoch() {
    let (lease, mut log) = (lease(), Log::default());
    for (incarnation, epoch) in [("a", 1), ("b", 2), ("c", 3)] {
        let taken = take_and_lead(&lease, &me(incarnation), directory(1), &mut log).expect("leads");
        assert_eq!((taken.epoch, taken.holder), (epoch, Some(me(incarnation))));
        assert_eq!(taken.voters, [Voter { broker_id: BrokerId(1), directory_id: directory(1) }]);
    }
    assert_eq!(log.led, [1, 2, 3]);
}

#[test]
fn a_clean_stop_releases_what_is_still_its_own() {
    let (lease, mut log) = (lease(), Log::default());
    let first = take_and_lead(&lease, &me("a"), directory(1), &mut log).expect("leads");
    let second = take_and_lead(&lease, &me("b"), directory(1), &mut log).expect("leads");
    release(&lease, &first).expect("nothing to do");
    assert_eq!(lease.read().expect("reads").and_then(|view| view.holder), Some(me("b")));
    release(&lease, &second).expect("released");
    let view = lease.read().expect("reads").expect("there");
    assert_eq!((view.holder, view.epoch), (None, 2));
}

#[test]
fn who_is_no_voter_does_not_take() {
    let (lease, mut log) = (lease(), Log::default());
    take_and_lead(&lease, &me("a"), directory(1), &mut log).expect("leads");
    // Its folder was emptied: another directory id, an empty log.
    let error = take_and_lead(&lease, &me("b"), directory(2), &mut Log::default()).expect_err("no voter");
    assert!(matches!(error, TakeError::NotAVoter(_)));
    let other = Holder { broker_id: BrokerId(2), incarnation: "x".into() };
    let error = take_and_lead(&lease, &other, directory(1), &mut Log::default()).expect_err("no voter");
    assert!(error.to_string().contains("the voters are 1:"), "{error}");
    assert_eq!(lease.read().expect("reads").map(|view| view.epoch), Some(1));
}

#[test]
fn a_lease_older_than_the_log_is_no_bootstrap() {
    let mut log = Log { promised: 3, led: vec![3] };
    for _ in 0..2 {
        let error = take_and_lead(&lease(), &me("a"), directory(1), &mut log).expect_err("rule 10");
        assert!(matches!(error, TakeError::LeaseOlderThanLog { lease: 0, promised: 3 }));
        log.promised = 3;
    }
    // The same epoch, but no voters: made anew.
    let mut log = Log { promised: 0, led: vec![1] };
    assert!(matches!(
        take_and_lead(&lease(), &me("a"), directory(1), &mut log),
        Err(TakeError::LeaseOlderThanLog { .. })
    ));
}

/// Answers the first writes in a given way, then behaves.
#[derive(Debug)]
struct Unclear {
    lease: InProcessLease,
    lost_answers: Mutex<Vec<bool>>,
}

impl ControllerLease for Unclear {
    fn read(&self) -> Result<Option<LeaseView>, LeaseError> {
        self.lease.read()
    }

    fn compare_and_set(&self, view: &LeaseView, change: &LeaseChange) -> Result<WriteOutcome, LeaseError> {
        let lost = self.lost_answers.lock().expect("no panic").pop();
        match lost {
            None => self.lease.compare_and_set(view, change),
            Some(lands) => {
                if lands {
                    self.lease.compare_and_set(view, change)?;
                }
                Ok(WriteOutcome::Unknown("timed out".into()))
            }
        }
    }
}

#[test]
fn a_take_without_answer_is_taken_again() {
    for (lost, epoch) in [(vec![true], 2), (vec![false], 1), (vec![true, true], 3)] {
        let lease = Unclear { lease: lease(), lost_answers: Mutex::new(lost) };
        let mut log = Log::default();
        let taken = take_and_lead(&lease, &me("a"), directory(1), &mut log).expect("leads");
        assert_eq!((taken.epoch, log.led), (epoch, vec![epoch]));
    }
    let lease = Unclear { lease: lease(), lost_answers: Mutex::new(vec![false; 3]) };
    let error = take_and_lead(&lease, &me("a"), directory(1), &mut Log::default()).expect_err("gives up");
    assert!(error.to_string().contains("timed out"), "{error}");
}
