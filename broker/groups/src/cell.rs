// SPDX-License-Identifier: Apache-2.0
//! One key of the journal: its committed value and the writes on their way. Must not know what the value is.

use std::collections::VecDeque;

use crate::AppendToken;

/// Value of a key; `None` stands for absent or deleted.
#[derive(Clone, Debug)]
pub(crate) struct Cell<T> {
    committed: Option<T>,
    /// In the order of their tokens. Bounded by the appends that are not answered yet.
    pending: VecDeque<(AppendToken, Option<T>)>,
}

impl<T> Default for Cell<T> {
    fn default() -> Self {
        Self { committed: None, pending: VecDeque::new() }
    }
}

impl<T> Cell<T> {
    pub(crate) fn committed(&self) -> Option<&T> {
        self.committed.as_ref()
    }

    /// The value that decisions are made on: the newest write, committed or not.
    pub(crate) fn latest(&self) -> Option<&T> {
        match self.pending.back() {
            Some((_, value)) => value.as_ref(),
            None => self.committed.as_ref(),
        }
    }

    pub(crate) fn replay(&mut self, value: Option<T>) {
        self.committed = value;
    }

    pub(crate) fn write(&mut self, token: AppendToken, value: Option<T>) {
        self.pending.push_back((token, value));
    }

    /// The append is committed, and with it all before it.
    pub(crate) fn commit(&mut self, token: AppendToken) {
        while self.pending.front().is_some_and(|(t, _)| *t <= token) {
            let (_, value) = self.pending.pop_front().expect("there is one");
            self.committed = value;
        }
    }

    /// The append was refused.
    pub(crate) fn revert(&mut self, token: AppendToken) {
        self.pending.retain(|(t, _)| *t != token);
    }

    /// Neither value nor write: the key can be forgotten.
    pub(crate) fn is_absent(&self) -> bool {
        self.committed.is_none() && self.pending.is_empty()
    }
}
