// SPDX-License-Identifier: Apache-2.0
//! Test support (feature `generate`): random messages from a seed, and the text that Kafka's own generated
//! classes print for the same value. It must not be part of a product build.

use std::fmt::Write as _;

use bytes::Bytes;
use uuid::Uuid;

use crate::records::Records;
use crate::text::Text;

/// A deterministic source of choices (SplitMix64).
#[derive(Clone, Debug)]
pub struct Source {
    state: u64,
}

impl Source {
    /// The same seed gives the same choices.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Any 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.bits() % bound
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Any 64 bits, often of an extreme or small value.
    fn number(&mut self) -> i64 {
        match self.below(8) {
            0 => 0,
            1 => -1,
            2 => i64::MAX,
            3 => i64::MIN,
            4 => self.below(256) as i64,
            _ => self.bits() as i64,
        }
    }
}

/// Random values that a version of a message can carry.
pub trait Generate: Sized {
    /// A value such that encoding and decoding it in `version` gives it back.
    fn generate(source: &mut Source, version: i16) -> Self;
    /// Appends what `toString` of Kafka's generated class gives for this value.
    fn print_like_kafka(&self, out: &mut String);
    /// The same where the value is an element of an array.
    fn print_element_like_kafka(&self, out: &mut String) {
        self.print_like_kafka(out);
    }
}

macro_rules! generate_number {
    ($($ty:ty),*) => {$(
        impl Generate for $ty {
            fn generate(source: &mut Source, _version: i16) -> Self {
                source.number() as $ty
            }

            fn print_like_kafka(&self, out: &mut String) {
                let _ = write!(out, "{self}");
            }
        }
    )*};
}

generate_number!(i8, i16, u16, i32, u32, i64);

impl Generate for bool {
    fn generate(source: &mut Source, _version: i16) -> Self {
        source.one_in(2)
    }

    fn print_like_kafka(&self, out: &mut String) {
        let _ = write!(out, "{self}");
    }
}

impl Generate for Uuid {
    fn generate(source: &mut Source, _version: i16) -> Self {
        if source.one_in(4) { Self::nil() } else { Self::from_u64_pair(source.bits(), source.bits()) }
    }

    /// Base64 for URLs without padding, as `org.apache.kafka.common.Uuid` prints itself.
    fn print_like_kafka(&self, out: &mut String) {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        for chunk in self.as_bytes().chunks(3) {
            let mut word = [0; 4];
            word[1..=chunk.len()].copy_from_slice(chunk);
            let bits = u32::from_be_bytes(word);
            for position in 0..=chunk.len() {
                let index = (bits >> (18 - 6 * position)) & 0x3f;
                out.push(char::from(ALPHABET[index as usize]));
            }
        }
    }
}

impl Generate for Text {
    fn generate(source: &mut Source, _version: i16) -> Self {
        // Lengths around the limits of one- and two-byte compact lengths, now and then.
        let length = match source.below(16) {
            0 => 126 + source.below(4),
            1 => 16_382 + source.below(4),
            _ => source.below(12),
        };
        let mut text = String::new();
        for _ in 0..length {
            text.push(match source.below(8) {
                0 => 'é',
                1 => '漢',
                2 => '🧵',
                _ => char::from(b'a' + source.below(26) as u8),
            });
        }
        // A string may not exceed 32,767 bytes.
        while text.len() > 32_767 {
            text.pop();
        }
        Self::from(text)
    }

    fn print_like_kafka(&self, out: &mut String) {
        let _ = write!(out, "'{self}'");
    }

    /// Kafka quotes no strings in arrays.
    fn print_element_like_kafka(&self, out: &mut String) {
        out.push_str(self);
    }
}

impl Generate for Bytes {
    fn generate(source: &mut Source, _version: i16) -> Self {
        let length = match source.below(16) {
            0 => 126 + source.below(4),
            1 => 1_022 + source.below(4),
            _ => source.below(12),
        };
        (0..length).map(|_| source.bits() as u8).collect::<Vec<u8>>().into()
    }

    fn print_like_kafka(&self, out: &mut String) {
        let signed: Vec<i8> = self.iter().map(|byte| byte.cast_signed()).collect();
        let _ = write!(out, "{signed:?}");
    }
}

impl Generate for Records {
    fn generate(source: &mut Source, version: i16) -> Self {
        Self::Bytes(Bytes::generate(source, version))
    }

    /// Kafka prints an object identity for records.
    fn print_like_kafka(&self, out: &mut String) {
        out.push_str("(records)");
    }
}

impl<T: Generate> Generate for Vec<T> {
    fn generate(source: &mut Source, version: i16) -> Self {
        // Small, as messages nest; 127 and more need a two-byte compact count.
        let length = match source.below(64) {
            0 => 130,
            _ => source.below(4),
        };
        (0..length).map(|_| T::generate(source, version)).collect()
    }

    fn print_like_kafka(&self, out: &mut String) {
        out.push('[');
        for (index, element) in self.iter().enumerate() {
            if index > 0 {
                out.push_str(", ");
            }
            element.print_element_like_kafka(out);
        }
        out.push(']');
    }
}
