// SPDX-License-Identifier: Apache-2.0
//! Requests that wait for a partition, woken exactly when their condition holds: ordered by what they need, so that
//! an event costs what it wakes, not what waits. Must not know why a watermark moves or what a request does next.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

use odradek_model::Offset;
use thiserror::Error;

/// Most requests that may wait for one partition: an entry takes some 150 bytes, so 1.5 MiB, and more fetches than
/// a broker has connections by default do not come to one partition. Who does not get in is answered at once, as if
/// its time to wait were over.
pub const WAITS_MAX: usize = 10_000;

/// Most stretches of appended bytes remembered between the visible end and the log's end. Beyond it neighbours are
/// merged and their bytes count as visible when the first of them is: a fetch may then be woken early, never late.
const STRETCHES_MAX: usize = 1_024;

/// Names a waiting request to whoever registered it; unique among the waits of a partition.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WaitToken(pub u64);

/// What became of an attempt to wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waiting {
    /// The token will be woken, once.
    Registered,
    /// What was to be waited for is there already; the token is not registered.
    Ready,
}

/// Why a request may not wait.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum WaitError {
    /// [`WAITS_MAX`] requests wait already: answer now.
    #[error("{WAITS_MAX} requests wait for this partition already")]
    TooMany,
}

/// Tokens ordered by the value that a rising counter must reach.
#[derive(Debug, Default)]
struct Thresholds {
    ordered: BTreeSet<(i64, WaitToken)>,
}

impl Thresholds {
    /// Takes out all tokens whose value is reached, lowest first.
    fn reached(&mut self, value: i64, out: &mut Vec<WaitToken>) {
        while let Some(entry) = self.ordered.first().copied().filter(|(needed, _)| *needed <= value) {
            self.ordered.remove(&entry);
            out.push(entry.1);
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Need {
    /// A produce: the high watermark at or above.
    Committed(i64),
    /// A fetch: the visible end at or above.
    Visible(i64),
    /// A fetch: so many visible bytes counted in all.
    VisibleBytes(i64),
    /// A follower's fetch: the log's end at or above.
    Appended(i64),
    /// A deletion: the low watermark at or above.
    Deleted(i64),
}

/// The requests that wait for one partition.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    needs: BTreeMap<WaitToken, Need>,
    committed: Thresholds,
    visible: Thresholds,
    visible_bytes: Thresholds,
    appended: Thresholds,
    deleted: Thresholds,
    bytes: VisibleBytes,
}

/// Everyone who waited.
#[derive(Debug, Default)]
pub(crate) struct Drained {
    pub(crate) fetches: Vec<WaitToken>,
    pub(crate) produces: Vec<WaitToken>,
    pub(crate) deletions: Vec<WaitToken>,
}

impl Waits {
    /// Waits until the high watermark reaches `required`.
    pub(crate) fn wait_committed(&mut self, token: WaitToken, required: Offset) -> Result<(), WaitError> {
        self.insert(token, Need::Committed(required))
    }

    /// Waits until anything at or above `offset` is visible.
    pub(crate) fn wait_visible(&mut self, token: WaitToken, offset: Offset) -> Result<(), WaitError> {
        self.insert(token, Need::Visible(offset.saturating_add(1)))
    }

    /// Waits until `more` bytes beyond those visible now are visible.
    pub(crate) fn wait_bytes(&mut self, token: WaitToken, more: u64) -> Result<(), WaitError> {
        let needed = self.bytes.visible.saturating_add(i64::try_from(more).unwrap_or(i64::MAX));
        self.insert(token, Need::VisibleBytes(needed))
    }

    /// Waits until the log's end is above `offset`.
    pub(crate) fn wait_appended(&mut self, token: WaitToken, offset: Offset) -> Result<(), WaitError> {
        self.insert(token, Need::Appended(offset.saturating_add(1)))
    }

    /// Waits until the low watermark reaches `offset`.
    pub(crate) fn wait_deleted(&mut self, token: WaitToken, offset: Offset) -> Result<(), WaitError> {
        self.insert(token, Need::Deleted(offset))
    }

    /// Whether a deletion waits: only then does anyone care for the low watermark.
    pub(crate) fn has_deletions(&self) -> bool {
        !self.deleted.ordered.is_empty()
    }

    fn insert(&mut self, token: WaitToken, need: Need) -> Result<(), WaitError> {
        if self.needs.len() >= WAITS_MAX {
            return Err(WaitError::TooMany);
        }
        let before = self.needs.insert(token, need);
        assert!(before.is_none(), "a token waits for one thing at a time");
        let (thresholds, needed) = self.ordered(need);
        thresholds.ordered.insert((needed, token));
        Ok(())
    }

    fn ordered(&mut self, need: Need) -> (&mut Thresholds, i64) {
        match need {
            Need::Committed(needed) => (&mut self.committed, needed),
            Need::Visible(needed) => (&mut self.visible, needed),
            Need::VisibleBytes(needed) => (&mut self.visible_bytes, needed),
            Need::Appended(needed) => (&mut self.appended, needed),
            Need::Deleted(needed) => (&mut self.deleted, needed),
        }
    }

    /// Stops waiting; false if the token does not wait (any more).
    pub(crate) fn cancel(&mut self, token: WaitToken) -> bool {
        let Some(need) = self.needs.remove(&token) else {
            return false;
        };
        let (thresholds, needed) = self.ordered(need);
        let removed = thresholds.ordered.remove(&(needed, token));
        assert!(removed, "every waiting token is in order");
        true
    }

    /// Notes that `size` bytes were appended up to `next_offset`.
    pub(crate) fn appended(&mut self, next_offset: Offset, size: usize) {
        self.bytes.appended(next_offset, size as i64);
    }

    /// The visible end of the log has moved to `offset`: who of the fetches is woken.
    pub(crate) fn visible_to(&mut self, offset: Offset, woken: &mut Vec<WaitToken>) {
        let start = woken.len();
        self.visible.reached(offset, woken);
        let bytes = self.bytes.visible_to(offset);
        self.visible_bytes.reached(bytes, woken);
        self.forget(&woken[start..]);
    }

    /// The high watermark has moved to `offset`: who of the produces is woken.
    pub(crate) fn committed_to(&mut self, offset: Offset, woken: &mut Vec<WaitToken>) {
        let start = woken.len();
        self.committed.reached(offset, woken);
        self.forget(&woken[start..]);
    }

    /// The log's end has moved to `offset`: which followers' fetches are woken.
    pub(crate) fn appended_to(&mut self, offset: Offset, woken: &mut Vec<WaitToken>) {
        let start = woken.len();
        self.appended.reached(offset, woken);
        self.forget(&woken[start..]);
    }

    /// The low watermark has moved to `offset`: which deletions are woken.
    pub(crate) fn deleted_to(&mut self, offset: Offset, woken: &mut Vec<WaitToken>) {
        let start = woken.len();
        self.deleted.reached(offset, woken);
        self.forget(&woken[start..]);
    }

    /// The log was cut back to `end`: what was above will not become visible.
    pub(crate) fn truncated_to(&mut self, end: Offset) {
        self.bytes.truncated_to(end);
    }

    fn forget(&mut self, woken: &[WaitToken]) {
        for token in woken {
            self.needs.remove(token);
        }
    }

    /// Everyone is woken, because the partition goes away or changes hands.
    pub(crate) fn drain(&mut self) -> Drained {
        self.needs.clear();
        let mut drained = Drained::default();
        for fetches in [&mut self.visible, &mut self.visible_bytes, &mut self.appended] {
            fetches.reached(i64::MAX, &mut drained.fetches);
        }
        self.committed.reached(i64::MAX, &mut drained.produces);
        self.deleted.reached(i64::MAX, &mut drained.deletions);
        drained
    }

    /// How many requests wait.
    pub(crate) fn len(&self) -> usize {
        self.needs.len()
    }
}

/// Counts the bytes that have become visible since the partition was opened.
#[derive(Debug, Default)]
struct VisibleBytes {
    visible: i64,
    /// Appended and not visible yet: the offset after each stretch, and its bytes.
    pending: VecDeque<(Offset, i64)>,
    /// Stretches merged into the last one: from its first offset on they count as visible. Empty unless the bound
    /// was reached.
    merged: BTreeMap<Offset, i64>,
}

impl VisibleBytes {
    fn appended(&mut self, next_offset: Offset, size: i64) {
        if self.pending.len() < STRETCHES_MAX {
            self.pending.push_back((next_offset, size));
        } else {
            // Counts with the stretch before it: early, never late.
            let (before, _) = *self.pending.back().expect("the bound is above zero");
            *self.merged.entry(before).or_default() += size;
        }
    }

    fn truncated_to(&mut self, end: Offset) {
        while self.pending.back().is_some_and(|(next, _)| *next > end) {
            self.pending.pop_back();
        }
        // A merged stretch begins at its key: what lies at or above the end is gone.
        self.merged.retain(|begins, _| *begins < end);
    }

    fn visible_to(&mut self, offset: Offset) -> i64 {
        while let Some((_, size)) = self.pending.front().copied().filter(|(next, _)| *next <= offset) {
            self.visible += size;
            self.pending.pop_front();
        }
        while let Some((next, size)) = self.merged.range((Bound::Unbounded, Bound::Included(offset))).next() {
            let next = *next;
            self.visible += *size;
            self.merged.remove(&next);
        }
        self.visible
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Append { records: i64, size: usize },
        Commit { part: u8 },
        Fetch { ahead: i64 },
        FetchBytes { more: u64 },
        Produce { ahead: i64 },
        Cancel { which: prop::sample::Index },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1..5i64, 1..1_000usize).prop_map(|(records, size)| Step::Append { records, size }),
            any::<u8>().prop_map(|part| Step::Commit { part }),
            (0..20i64).prop_map(|ahead| Step::Fetch { ahead }),
            (1..5_000u64).prop_map(|more| Step::FetchBytes { more }),
            (1..20i64).prop_map(|ahead| Step::Produce { ahead }),
            any::<prop::sample::Index>().prop_map(|which| Step::Cancel { which }),
        ]
    }

    proptest! {
        /// Against a list that is searched as a whole: nobody is woken early, late, twice or after a cancel.
        #[test]
        fn exactly_those_wake_whose_condition_holds(steps in proptest::collection::vec(step(), 0..120)) {
            let mut waits = Waits::default();
            let (mut end, mut committed, mut visible_bytes) = (0i64, 0i64, 0i64);
            let mut appended: Vec<(i64, i64)> = Vec::new();
            let mut model: Vec<(WaitToken, Need)> = Vec::new();
            let mut next = 0;
            for step in steps {
                let token = WaitToken(next);
                match step {
                    Step::Append { records, size } => {
                        end += records;
                        appended.push((end, size as i64));
                        waits.appended(end, size);
                    }
                    Step::Commit { part } => {
                        let before = committed;
                        committed += (end - committed) * i64::from(part) / 255;
                        visible_bytes += appended.iter()
                            .filter(|(next, _)| (before + 1..=committed).contains(next)).map(|(_, size)| size).sum::<i64>();
                        let mut woken = Vec::new();
                        waits.visible_to(committed, &mut woken);
                        waits.committed_to(committed, &mut woken);
                        let holds = |need: &Need| match need {
                            Need::Committed(needed) | Need::Visible(needed) => *needed <= committed,
                            Need::VisibleBytes(needed) => *needed <= visible_bytes,
                            Need::Appended(_) | Need::Deleted(_) => unreachable!("not among the steps"),
                        };
                        let mut expected: Vec<_> =
                            model.iter().filter(|(_, need)| holds(need)).map(|(token, _)| *token).collect();
                        model.retain(|(_, need)| !holds(need));
                        woken.sort();
                        expected.sort();
                        prop_assert_eq!(woken, expected);
                    }
                    Step::Fetch { ahead } => {
                        waits.wait_visible(token, committed + ahead).expect("room");
                        model.push((token, Need::Visible(committed + ahead + 1)));
                        next += 1;
                    }
                    Step::FetchBytes { more } => {
                        waits.wait_bytes(token, more).expect("room");
                        model.push((token, Need::VisibleBytes(visible_bytes + more as i64)));
                        next += 1;
                    }
                    Step::Produce { ahead } => {
                        waits.wait_committed(token, committed + ahead).expect("room");
                        model.push((token, Need::Committed(committed + ahead)));
                        next += 1;
                    }
                    Step::Cancel { which } => {
                        if !model.is_empty() {
                            let (token, _) = model.remove(which.index(model.len()));
                            prop_assert!(waits.cancel(token));
                            prop_assert!(!waits.cancel(token));
                        }
                    }
                }
                prop_assert_eq!(waits.len(), model.len());
            }
            let drained = waits.drain();
            prop_assert_eq!(drained.fetches.len() + drained.produces.len(), model.len());
            prop_assert_eq!(waits.len(), 0);
        }
    }

    #[test]
    fn the_bound_holds_and_frees_again() {
        let mut waits = Waits::default();
        for token in 0..WAITS_MAX as u64 {
            waits.wait_visible(WaitToken(token), 0).expect("room");
        }
        let late = WaitToken(u64::MAX);
        assert_eq!(waits.wait_committed(late, 1), Err(WaitError::TooMany));
        assert!(waits.cancel(WaitToken(7)));
        assert_eq!(waits.wait_committed(late, 1), Ok(()));
    }

    #[test]
    fn a_frozen_watermark_keeps_a_bounded_account_and_wakes_no_later() {
        let mut waits = Waits::default();
        let many = 10 * STRETCHES_MAX as i64;
        for offset in 1..=many {
            waits.appended(offset, 10);
        }
        assert!(waits.bytes.pending.len() <= STRETCHES_MAX && waits.bytes.merged.len() <= 1);
        waits.wait_bytes(WaitToken(1), many as u64 * 10).expect("room");
        let mut woken = Vec::new();
        waits.visible_to(many, &mut woken);
        assert_eq!(woken, [WaitToken(1)]);
        waits.appended(many + 1, 10);
        waits.wait_bytes(WaitToken(2), 10).expect("room");
        waits.visible_to(many + 1, &mut woken);
        assert_eq!(woken, [WaitToken(1), WaitToken(2)]);
    }
}
