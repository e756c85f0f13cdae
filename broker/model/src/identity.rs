// SPDX-License-Identifier: Apache-2.0
//! Who and what: brokers, clusters, directories, topics and partitions. Must not know how they are stored or sent.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;
use uuid::Uuid;

use crate::TopicName;

/// Number of a broker, unique in its cluster, 0 or above, never used again after its broker retired.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BrokerId(pub i32);

impl fmt::Display for BrokerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Identity of one life of a topic name (KIP-516): a topic deleted and created again has another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TopicId(pub Uuid);

impl TopicId {
    /// The id that stands for "no id" on the wire; no topic has it.
    pub const ZERO: Self = Self(Uuid::nil());

    /// Whether this is [`TopicId::ZERO`].
    pub fn is_zero(self) -> bool {
        self.0.is_nil()
    }
}

impl fmt::Display for TopicId {
    /// Kafka's text form: URL-safe base64 of the 16 bytes without padding (`org.apache.kafka.common.Uuid`).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base64_url(self.0.as_bytes()))
    }
}

/// Identity of one life of a data folder: a folder emptied or replaced gets another (coordination rule 9).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DirectoryId(pub Uuid);

impl fmt::Display for DirectoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base64_url(self.0.as_bytes()))
    }
}

/// Identity of a cluster: 1 to 64 characters of `[A-Za-z0-9_-]`, 22 when minted by us as Kafka mints its own.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClusterId(Arc<str>);

/// Why a text is no cluster id.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("cluster id {text:?} is not 1 to 64 characters of A-Z a-z 0-9 _ -")]
pub struct ClusterIdError {
    text: String,
}

impl ClusterId {
    /// Checks and takes the text.
    pub fn new(text: &str) -> Result<Self, ClusterIdError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if text.is_empty() || text.len() > 64 || !text.chars().all(allowed) {
            return Err(ClusterIdError { text: text.chars().take(80).collect() });
        }
        Ok(Self(Arc::from(text)))
    }

    /// The id made from 16 random bytes, in Kafka's 22-character form.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(Arc::from(base64_url(&bytes)))
    }

    /// The text of the id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One partition by its topic's name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: TopicName,
    /// The partition's index, from 0.
    pub partition: i32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// One partition by its topic's id, with the name for people.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TopicIdPartition {
    /// The topic's id.
    pub id: TopicId,
    /// The topic's name and the partition's index.
    pub topic_partition: TopicPartition,
}

/// URL-safe base64 without padding; the one text form of 16-byte ids in Kafka's world.
fn base64_url(bytes: &[u8; 16]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(22);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().enumerate().fold(0u32, |word, (i, byte)| word | u32::from(*byte) << (16 - 8 * i));
        for i in 0..=chunk.len() {
            text.push(char::from(ALPHABET[(word >> (18 - 6 * i)) as usize & 63]));
        }
    }
    text
}

/// Reads Kafka's text form of a 16-byte id; `None` unless it is exactly 22 characters of the alphabet.
fn parse_base64_url(text: &str) -> Option<[u8; 16]> {
    if text.len() != 22 {
        return None;
    }
    let mut bits = 0u128;
    for (i, byte) in text.bytes().enumerate() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        // 22 characters carry 132 bits: the last one has 2 bits of the id and 4 of nothing.
        if i == 21 {
            bits = bits << 2 | u128::from(value >> 4);
        } else {
            bits = bits << 6 | u128::from(value);
        }
    }
    Some(bits.to_be_bytes())
}

impl std::str::FromStr for TopicId {
    type Err = ();

    /// Reads Kafka's text form; `Err(())` for anything else.
    fn from_str(text: &str) -> Result<Self, ()> {
        parse_base64_url(text).map(|bytes| Self(Uuid::from_bytes(bytes))).ok_or(())
    }
}

impl std::str::FromStr for DirectoryId {
    type Err = ();

    /// Reads Kafka's text form; `Err(())` for anything else.
    fn from_str(text: &str) -> Result<Self, ()> {
        parse_base64_url(text).map(|bytes| Self(Uuid::from_bytes(bytes))).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_kafkas_text_form_and_read_back() {
        assert_eq!(TopicId::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        let id = TopicId(Uuid::from_bytes([0xff; 16]));
        assert_eq!(id.to_string(), "_____________________w");
        for seed in 0..=255u8 {
            let id =
                TopicId(Uuid::from_bytes(std::array::from_fn(|i| seed.wrapping_mul(31).wrapping_add(i as u8 * 17))));
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        assert_eq!("short".parse::<TopicId>(), Err(()));
        assert_eq!("AAAAAAAAAAAAAAAAAAAAA!".parse::<TopicId>(), Err(()));
    }

    #[test]
    fn cluster_ids_are_bounded() {
        assert!(ClusterId::new("abc_DEF-1").is_ok());
        for bad in ["", "a b", "ä", &"x".repeat(65)] {
            assert!(ClusterId::new(bad).is_err(), "{bad:?}");
        }
    }
}
