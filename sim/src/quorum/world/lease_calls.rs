// SPDX-License-Identifier: Apache-2.0
//! The way of a call to the Lease API and back, as a broker's driver makes it: lost, late, throttled, answered too late.
//! Knows not why a member calls.

use odradek_coordination::quorum::{Input, LeaseCall, MemberRole};
use odradek_coordination::{LeaseChange, LeaseView, Voter, WriteOutcome};

use super::{Event, Happening, Trouble, World};

/// A driver's deadline for a call of the Lease; that of the broker on Kubernetes. Above the shortest time that a
/// throttling API server asks to wait, so that some calls are made again.
const LEASE_DEADLINE_MS: u64 = 2_000;

/// What a call wants.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "few are under way, and each is moved twice")]
pub(super) enum Wanted {
    Read,
    Write {
        base: Option<LeaseView>,
        change: LeaseChange,
        /// Whether the writer still waits.
        answered: bool,
    },
}

/// A call on its way.
#[derive(Debug)]
pub(super) struct LeaseRequest {
    broker: usize,
    boot: u64,
    call: LeaseCall,
    deadline: u64,
    wanted: Wanted,
}

/// The API server refuses calls without a look at them (429).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) struct Throttling {
    /// Those of one broker only.
    pub(in super::super) broker: Option<usize>,
    /// Its end.
    pub(in super::super) until: u64,
    /// After how long it asks to try again (Retry-After).
    pub(in super::super) retry_after_ms: u64,
}

impl World {
    pub(super) fn read_lease(&mut self, broker: usize, boot: u64, call: LeaseCall) {
        let after = self.random.between(1, 10);
        let deadline = self.now + LEASE_DEADLINE_MS;
        self.schedule(
            after,
            Event::LeaseCallArrives(LeaseRequest { broker, boot, call, deadline, wanted: Wanted::Read }),
        );
    }

    pub(super) fn write_lease(
        &mut self,
        broker: usize,
        boot: u64,
        call: LeaseCall,
        base: Option<LeaseView>,
        change: LeaseChange,
    ) {
        let away = self.lease_away || self.lease_cut.contains(&broker);
        if away && self.random.per_mille(500) {
            let input = Input::LeaseWritten(call, Err("connection refused".to_owned()));
            self.schedule(1, Event::Input { broker, boot, input });
            return;
        }
        let deadline = self.now + LEASE_DEADLINE_MS;
        // Should another outcome come first, this one is ignored.
        let input = Input::LeaseWritten(call, Ok(WriteOutcome::Unknown("no answer in time".to_owned())));
        self.schedule(LEASE_DEADLINE_MS, Event::Input { broker, boot, input });
        let changes_voters = base.as_ref().is_some_and(|base| base.voters != change.voters && !base.voters.is_empty());
        let request =
            |answered| LeaseRequest { broker, boot, call, deadline, wanted: Wanted::Write { base, change, answered } };
        if changes_voters && !away && !self.healed && self.random.per_mille(self.profile.aimed) {
            let (lands, hits) = (self.random.between(100, 4_000), self.random.between(0, 2_500));
            self.schedule(lands, Event::LeaseCallArrives(request(false)));
            self.troubles.push((hits, broker, Trouble::CutOff));
        } else if away || self.is_lease_answer_lost() {
            // It may land all the same, perhaps long after.
            if self.random.per_mille(600) {
                let soon = self.random.per_mille(500);
                let after = if soon { self.random.between(1, 50) } else { self.random.between(500, 15_000) };
                self.schedule(after, Event::LeaseCallArrives(request(false)));
            }
        } else {
            let after = self.random.between(1, 15);
            self.schedule(after, Event::LeaseCallArrives(request(true)));
        }
    }

    fn is_lease_answer_lost(&mut self) -> bool {
        let chance = if self.healed { 0 } else { self.profile.lease_loss };
        self.random.per_mille(chance)
    }

    /// A call is at the API server.
    pub(super) fn lease_call_arrives(&mut self, request: LeaseRequest) {
        let LeaseRequest { broker, boot, call, .. } = request;
        let away = self.lease_away || (matches!(request.wanted, Wanted::Read) && self.lease_cut.contains(&broker));
        if !away && let Some(wait) = self.is_throttled(broker) {
            self.throttled(request, wait);
            return;
        }
        match request.wanted {
            Wanted::Read => {
                let lost = away || self.is_lease_answer_lost();
                let (after, outcome) = if lost {
                    self.tally.note(Happening::LeaseReadLost);
                    (LEASE_DEADLINE_MS, Err("no answer".to_owned()))
                } else {
                    (self.random.between(1, 10), self.lease.get())
                };
                if !lost && outcome.is_err() {
                    self.tally.note(Happening::LeaseFoundMalformed);
                }
                self.schedule(after, Event::Input { broker, boot, input: Input::LeaseRead(call, outcome) });
            }
            Wanted::Write { .. } if away => {}
            Wanted::Write { base, change, answered } => {
                let outcome = self.change_lease(broker, base.as_ref(), &change, answered);
                if answered {
                    let after = self.random.between(1, 10);
                    let input = Input::LeaseWritten(call, Ok(outcome));
                    self.schedule(after, Event::Input { broker, boot, input });
                }
            }
        }
    }

    /// How long the API server asks the broker to wait.
    fn is_throttled(&self, broker: usize) -> Option<u64> {
        let throttling = self.throttling.filter(|throttling| self.now < throttling.until)?;
        let meant = throttling.broker.is_none_or(|other| other == broker);
        meant.then_some(throttling.retry_after_ms)
    }

    /// Certainly not carried out: the driver makes the call again if there is time, else says so.
    fn throttled(&mut self, request: LeaseRequest, wait: u64) {
        self.tally.note(Happening::LeaseThrottled);
        if matches!(request.wanted, Wanted::Write { answered: false, .. }) {
            return; // nobody is there to repeat it
        }
        let after = self.random.between(1, 10);
        if self.now + wait < request.deadline {
            self.tally.note(Happening::LeaseCallRepeated);
            self.schedule(wait + after, Event::LeaseCallArrives(request));
            return;
        }
        let LeaseRequest { broker, boot, call, wanted, .. } = request;
        let refusal = "429 Too Many Requests".to_owned();
        let input = match wanted {
            Wanted::Read => Input::LeaseRead(call, Err(refusal)),
            Wanted::Write { .. } => Input::LeaseWritten(call, Err(refusal)),
        };
        self.schedule(after, Event::Input { broker, boot, input });
    }

    fn change_lease(
        &mut self,
        broker: usize,
        base: Option<&LeaseView>,
        change: &LeaseChange,
        answered: bool,
    ) -> WriteOutcome {
        let outcome = self.lease.write(base, change);
        self.note_write(broker, base, change, &outcome, answered);
        self.mix(u64::from(matches!(outcome, WriteOutcome::Written(_))));
        if let WriteOutcome::Written(view) = &outcome {
            self.tell(|| {
                let voters: Vec<_> = view.voters.iter().map(|voter| voter.broker_id.0).collect();
                format!(
                    "Lease {} epoch {} sequence {} holder {:?} voters {voters:?}",
                    view.uid,
                    view.epoch,
                    view.sequence,
                    view.holder.as_ref().map(ToString::to_string)
                )
            });
            self.let_watches_see(view);
            let taken = base.is_none_or(|base| base.epoch < change.epoch);
            if taken && !self.healed && self.random.per_mille(self.profile.aimed) {
                let trouble = self.random.pick(&[Trouble::Kill, Trouble::Pause, Trouble::CutOff]);
                let after = self.random.between(1, 25);
                self.troubles.push((after, broker, trouble));
            }
        }
        outcome
    }

    fn note_write(
        &mut self,
        broker: usize,
        base: Option<&LeaseView>,
        change: &LeaseChange,
        outcome: &WriteOutcome,
        answered: bool,
    ) {
        if !matches!(outcome, WriteOutcome::Written(_)) {
            self.tally.note(Happening::LeaseWriteRefused);
            return;
        }
        if !answered {
            self.tally.note(Happening::LeaseWriteLandedUnseen);
        }
        if let Some(status) = self.status(broker).filter(|status| status.lease_is_fallen) {
            let repaired = status.role == MemberRole::Controller;
            self.tally.note(if repaired { Happening::LeaseRepaired } else { Happening::LeaseRecovered });
            return;
        }
        let Some(base) = base.filter(|base| base.voters != change.voters && !base.voters.is_empty()) else { return };
        let added: Vec<_> = change.voters.iter().filter(|voter| !base.voters.contains(voter)).collect();
        self.tally.note(if added.is_empty() { Happening::VoterDropped } else { Happening::VoterAdded });
        if added.into_iter().any(|voter| self.is_later_folder(voter)) {
            self.tally.note(Happening::EmptiedFolderVotesAgain);
        }
        if !answered {
            self.tally.note(Happening::VoterChangeLandedUnseen);
        }
    }

    /// Whether the broker's first folder was emptied.
    fn is_later_folder(&self, voter: &Voter) -> bool {
        voter.directory_id.0.as_u128() > self.brokers.len() as u128
    }

    /// Watches tell it soon, late or never.
    pub(in super::super) fn let_watches_see(&mut self, view: &LeaseView) {
        for id in 0..self.brokers.len() {
            if self.lease_cut.contains(&id) {
                continue;
            }
            let roll = if self.healed { 500 } else { self.random.between(0, 999) };
            let after = match roll {
                0..50 => {
                    self.tally.note(Happening::WatchMissed);
                    continue;
                }
                50..100 => self.random.between(500, 5_000),
                _ => self.random.between(1, 30),
            };
            let boot = self.brokers[id].boot;
            self.schedule(after, Event::Input { broker: id, boot, input: Input::LeaseSeen(view.clone()) });
        }
    }
}
