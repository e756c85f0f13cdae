// SPDX-License-Identifier: Apache-2.0
//! Topic names and the rule for them. Must not know which topics exist.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use thiserror::Error;

/// Longest topic name in bytes (`org.apache.kafka.common.internals.Topic`): the folder name adds `-<partition>`,
/// `.<32 hex>` and `-delete` and must fit the 255 bytes of a file name.
pub const MAX_TOPIC_NAME_LENGTH: usize = 249;
/// The topic in which groups keep their members and committed offsets.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// The topic in which transactions are kept.
pub const TRANSACTION_STATE_TOPIC: &str = "__transaction_state";

/// A name that a topic may have: 1 to 249 of `[a-zA-Z0-9._-]`, neither `.` nor `..`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TopicName(Arc<str>);

/// Why a text is no topic name. The texts are for people and name the rule.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TopicNameError {
    /// The empty text.
    #[error("a topic name must not be empty")]
    Empty,
    /// `.` or `..`.
    #[error("a topic name must not be \".\" or \"..\"")]
    Dots,
    /// Over [`MAX_TOPIC_NAME_LENGTH`].
    #[error("a topic name has at most {MAX_TOPIC_NAME_LENGTH} characters, this one has {0}")]
    TooLong(usize),
    /// A character outside `[a-zA-Z0-9._-]`.
    #[error("topic name {0:?} has a character other than ASCII letters, digits, '.', '_' and '-'")]
    Character(String),
}

impl TopicName {
    /// Checks and takes the text.
    pub fn new(text: &str) -> Result<Self, TopicNameError> {
        if text.is_empty() {
            return Err(TopicNameError::Empty);
        }
        if text == "." || text == ".." {
            return Err(TopicNameError::Dots);
        }
        if text.len() > MAX_TOPIC_NAME_LENGTH {
            return Err(TopicNameError::TooLong(text.len()));
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
            return Err(TopicNameError::Character(text.to_owned()));
        }
        Ok(Self(Arc::from(text)))
    }

    /// The text of the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether clients may not write to it (Kafka's internal topics).
    pub fn is_internal(&self) -> bool {
        matches!(self.as_str(), OFFSETS_TOPIC | TRANSACTION_STATE_TOPIC | "__share_group_state")
    }

    /// The name with `.` made `_`: two topics may not share this form, since metric names cannot tell them apart.
    pub fn collision_form(&self) -> String {
        self.0.replace('.', "_")
    }
}

impl Deref for TopicName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for TopicName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kafkas_rule() {
        for good in ["a", "A.b_c-9", "...", &"x".repeat(249)] {
            assert_eq!(TopicName::new(good).map(|n| n.to_string()), Ok(good.to_owned()));
        }
        assert_eq!(TopicName::new(""), Err(TopicNameError::Empty));
        assert_eq!(TopicName::new(".."), Err(TopicNameError::Dots));
        assert_eq!(TopicName::new(&"x".repeat(250)), Err(TopicNameError::TooLong(250)));
        for bad in ["a b", "a/b", "ä", "a\0"] {
            assert_eq!(TopicName::new(bad), Err(TopicNameError::Character(bad.to_owned())));
        }
    }

    #[test]
    fn dots_and_underscores_collide() {
        let form = |text| TopicName::new(text).map(|n| n.collision_form());
        assert_eq!(form("a.b"), form("a_b"));
        assert_ne!(form("a-b"), form("a_b"));
    }
}
