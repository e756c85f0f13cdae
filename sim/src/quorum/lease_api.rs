// SPDX-License-Identifier: Apache-2.0
//! The Lease as the API server keeps it: one object, changed by compare-and-set, that can be deleted and rolled back.

use odradek_coordination::{LeaseChange, LeaseView, WriteOutcome};
use odradek_model::ClusterId;

/// See the module.
#[derive(Debug)]
pub struct LeaseApi {
    lease: Option<LeaseView>,
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
        let mut api = Self { lease: None, history: Vec::new(), versions: 0, lives: 0, without_compare_and_set: false };
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
    }

    /// What a GET finds.
    pub fn read(&self) -> Option<LeaseView> {
        self.lease.clone()
    }

    /// What a PUT does.
    pub fn write(&mut self, base: Option<&LeaseView>, change: &LeaseChange) -> WriteOutcome {
        match (&self.lease, base) {
            (None, None) => WriteOutcome::Written(self.create(change)),
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
        Some(present)
    }

    /// A stranger edits the holder and nothing else.
    pub fn steal(&mut self) {
        let version = self.version();
        if let Some(lease) = &mut self.lease {
            lease.holder = "99/stranger".parse().ok();
            lease.version = version;
        }
    }
}

impl Default for LeaseApi {
    fn default() -> Self {
        Self::new()
    }
}
