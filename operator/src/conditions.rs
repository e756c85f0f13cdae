// SPDX-License-Identifier: Apache-2.0
//! Conditions of a status: drafts made by pure code, merged with what stands there. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It holds.
    True,
    /// It does not.
    False,
    /// Not known.
    Unknown,
}

impl Truth {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Truth {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// A condition without what only the merge knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// What it speaks of.
    pub type_: &'static str,
    /// Whether it holds.
    pub truth: Truth,
    /// Why, in one word.
    pub reason: String,
    /// Why, in a sentence, and what to do next.
    pub message: String,
}

/// Longest message that is written, far below the schema's 32,768 characters, so that a list of
/// faults stays readable and a status small.
const MESSAGE_LENGTH_MAX: usize = 2048;

/// A draft of a condition.
pub fn draft(
    type_: &'static str,
    truth: impl Into<Truth>,
    reason: impl Into<String>,
    message: impl Into<String>,
) -> Draft {
    let mut message: String = message.into();
    if let Some((cut, _)) = message.char_indices().nth(MESSAGE_LENGTH_MAX) {
        message.truncate(cut);
    }
    Draft { type_, truth: truth.into(), reason: reason.into(), message }
}

/// The conditions to write: the time of the last change stays while the status stays.
///
/// A condition that the drafts lack is dropped: the operator owns the whole list.
pub fn merge(previous: &[Condition], drafts: Vec<Draft>, generation: Option<i64>, now: &Time) -> Vec<Condition> {
    drafts
        .into_iter()
        .map(|draft| {
            let unchanged = previous
                .iter()
                .find(|old| old.type_ == draft.type_ && old.status == draft.truth.as_str())
                // The default of the definition carries the epoch as its time.
                .filter(|old| old.reason != "NotReconciled" || draft.reason == "NotReconciled");
            Condition {
                last_transition_time: unchanged.map_or_else(|| now.clone(), |old| old.last_transition_time.clone()),
                message: draft.message,
                observed_generation: generation,
                reason: draft.reason,
                status: draft.truth.as_str().into(),
                type_: draft.type_.into(),
            }
        })
        .collect()
}

/// The conditions whose status changed, for events.
pub fn changed<'a>(previous: &[Condition], current: &'a [Condition]) -> Vec<&'a Condition> {
    current
        .iter()
        .filter(|new| {
            !previous.iter().any(|old| old.type_ == new.type_ && old.status == new.status && old.reason == new.reason)
        })
        .collect()
}

/// The condition of a type.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::jiff::Timestamp;

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn the_time_changes_only_with_the_status() {
        let first = merge(&[], vec![draft("Ready", false, "Starting", "one")], Some(1), &at(10));
        let same = merge(&first, vec![draft("Ready", false, "Waiting", "two")], Some(2), &at(20));
        assert_eq!(same[0].last_transition_time, at(10));
        assert_eq!((same[0].reason.as_str(), same[0].observed_generation), ("Waiting", Some(2)));
        let turned = merge(&same, vec![draft("Ready", true, "Reached", "three")], Some(2), &at(30));
        assert_eq!(turned[0].last_transition_time, at(30));
    }

    #[test]
    fn merging_the_same_drafts_again_changes_nothing() {
        let drafts = || vec![draft("Ready", true, "Reached", ""), draft("Stalled", false, "None", "")];
        let first = merge(&[], drafts(), Some(3), &at(10));
        assert_eq!(merge(&first, drafts(), Some(3), &at(99)), first);
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let long = draft("Ready", false, "Bad", "é".repeat(5000));
        assert_eq!(long.message.chars().count(), MESSAGE_LENGTH_MAX);
    }
}
