// SPDX-License-Identifier: Apache-2.0
//! The Lease as the API server keeps it: one object, changed by compare-and-set, that can be deleted and rolled back, and
//! that foreign hands can write to.

use odradek_coordination::{Holder, LeaseChange, LeaseView, WriteOutcome};
use odradek_model::ClusterId;

/// What a stranger with the right to update Leases does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ForeignHand {
    /// It puts itself in as holder, in the form of ours.
    Steals,
    /// It puts a holder in that is none of ours.
    Garbles,
}

/// What stands there after somebody saw that the holder was none of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mending {
    /// The holder that was there before.
    FormerHolder,
    /// No holder.
    NoHolder,
    /// A holder that is none of the brokers, in the form of ours.
    Stranger,
}

/// See the module.
#[derive(Debug)]
pub struct LeaseApi {
    lease: Option<LeaseView>,
    /// Whether the holder is a text that is none of ours; the view has the one before.
    is_garbled: bool,
    /// States before, for roll-backs.
    history: Vec<LeaseView>,
    versions: u64,
    lives: u64,
    /// A planted mistake.
    pub without_compare_and_set: bool,
}

fn cluster() -> ClusterId {
    ClusterId::new("simulated").expect("an id")
}

impl LeaseApi {
    /// The Lease as the operator makes it.
    pub fn new() -> Self {
        let mut api = Self {
            lease: None,
            is_garbled: false,
            history: Vec::new(),
            versions: 0,
            lives: 0,
            without_compare_and_set: false,
        };
        let change = LeaseChange { epoch: 0, holder: None, voters: Vec::new() };
        api.create(&change);
        api
    }

    fn version(&mut self) -> String {
        self.versions += 1;
        self.versions.to_string()
    }

    fn create(&mut self, change: &LeaseChange) -> LeaseView {
        self.lives += 1;
        let view = LeaseView {
            uid: format!("life-{}", self.lives),
            epoch: change.epoch,
            sequence: 0,
            holder: change.holder.clone(),
            voters: change.voters.clone(),
            cluster_id: cluster(),
            version: self.version(),
        };
        self.put(view.clone());
        view
    }

    fn put(&mut self, view: LeaseView) {
        self.history.push(view.clone());
        self.lease = Some(view);
        self.is_garbled = false;
    }

    /// What a GET finds.
    ///
    /// # Errors
    /// The holder is none of ours.
    pub fn get(&self) -> Result<Option<LeaseView>, String> {
        if self.is_garbled { Err("the controller Lease is malformed".to_owned()) } else { Ok(self.lease.clone()) }
    }

    /// What stands there. Instead of a holder that is none of ours it has the one before.
    pub fn read(&self) -> Option<LeaseView> {
        self.lease.clone()
    }

    /// Whether the holder is none of ours.
    pub fn is_garbled(&self) -> bool {
        self.is_garbled
    }

    /// What a PUT does.
    pub fn write(&mut self, base: Option<&LeaseView>, change: &LeaseChange) -> WriteOutcome {
        match (&self.lease, base) {
            (None, None) => WriteOutcome::Written(self.create(change)),
            // What a stranger wrote has another version than any view.
            (Some(present), Some(base))
                if self.without_compare_and_set || (&present.uid, &present.version) == (&base.uid, &base.version) =>
            {
                let view = LeaseView {
                    uid: present.uid.clone(),
                    epoch: change.epoch,
                    sequence: base.sequence + 1,
                    holder: change.holder.clone(),
                    voters: change.voters.clone(),
                    cluster_id: cluster(),
                    version: self.version(),
                };
                self.put(view.clone());
                WriteOutcome::Written(view)
            }
            _ => WriteOutcome::Refused,
        }
    }

    /// A careless hand.
    pub fn delete(&mut self) {
        self.lease = None;
        self.is_garbled = false;
    }

    /// A restored backup: an earlier state under a version of its own; what was there before. `same_voters` keeps to
    /// states with the present voters. Nothing is done if there is no such state.
    pub fn roll_back(&mut self, steps: usize, same_voters: bool) -> Option<LeaseView> {
        let present = self.lease.clone()?;
        let order = |view: &LeaseView| (view.epoch, view.sequence);
        let is_earlier = |view: &&LeaseView| {
            let acceptable = view.voters == present.voters || (!same_voters && !view.voters.is_empty());
            acceptable && order(view) < order(&present)
        };
        let view = self.history.iter().rev().filter(is_earlier).nth(steps - 1).cloned()?;
        let version = self.version();
        self.lease = Some(LeaseView { version, ..view });
        self.is_garbled = false;
        Some(present)
    }

    /// A stranger writes; labels and annotations, and with them the sequence, stay. The usual clients that elect leaders
    /// raise the epoch, which is `leaseTransitions`.
    pub fn write_by(&mut self, hand: ForeignHand, with_next_epoch: bool) {
        let version = self.version();
        let Some(lease) = &mut self.lease else { return };
        lease.version = version;
        lease.epoch += i64::from(with_next_epoch);
        match hand {
            ForeignHand::Steals => lease.holder = stranger(),
            ForeignHand::Garbles => self.is_garbled = true,
        }
    }

    /// A stranger edits the holder and nothing else.
    pub fn steal(&mut self) {
        self.write_by(ForeignHand::Steals, false);
    }

    /// A person puts a holder in that can be read; the epoch stays as the stranger left it.
    pub fn mend(&mut self, mending: Mending) {
        if !std::mem::take(&mut self.is_garbled) {
            return;
        }
        let version = self.version();
        let Some(lease) = &mut self.lease else { return };
        lease.version = version;
        match mending {
            Mending::FormerHolder => {}
            Mending::NoHolder => lease.holder = None,
            Mending::Stranger => lease.holder = stranger(),
        }
    }
}

fn stranger() -> Option<Holder> {
    "99/stranger".parse().ok()
}

impl Default for LeaseApi {
    fn default() -> Self {
        Self::new()
    }
}
