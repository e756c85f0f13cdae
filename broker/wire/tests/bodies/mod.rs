// SPDX-License-Identifier: Apache-2.0
//! Any request or response as one type, and hexadecimal, for the tests that go through all messages.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]

use std::ops::RangeInclusive;

use bytes::Bytes;
use odradek_wire::generate::Source;
use odradek_wire::{AnyRequest, AnyResponse, ApiKey, DecodeError, Decoder, EncodeError, Encoder};

/// A request or a response.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    Request(AnyRequest),
    Response(AnyResponse),
}

pub const DIRECTIONS: [&str; 2] = ["request", "response"];

impl Body {
    pub fn generate(source: &mut Source, key: ApiKey, version: i16, direction: &str) -> Self {
        match direction {
            "request" => Self::Request(AnyRequest::generate(source, key, version)),
            _ => Self::Response(AnyResponse::generate(source, key, version)),
        }
    }

    pub fn default_of(key: ApiKey, direction: &str) -> Self {
        match direction {
            "request" => Self::Request(AnyRequest::default_of(key)),
            _ => Self::Response(AnyResponse::default_of(key)),
        }
    }

    /// Reads a body that fills `bytes`.
    pub fn decode(bytes: Bytes, key: ApiKey, version: i16, direction: &str) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(bytes);
        let body = match direction {
            "request" => AnyRequest::decode(&mut decoder, key, version).map(Self::Request),
            _ => AnyResponse::decode(&mut decoder, key, version).map(Self::Response),
        }?;
        decoder.finish()?;
        Ok(body)
    }

    pub fn try_encode(&self, version: i16) -> Result<Bytes, EncodeError> {
        let mut encoder = Encoder::new();
        match self {
            Self::Request(request) => request.encode(&mut encoder, version),
            Self::Response(response) => response.encode(&mut encoder, version),
        }?;
        encoder.finish_contiguous()
    }

    pub fn encode(&self, version: i16) -> Bytes {
        self.try_encode(version).expect("a generated message fits its version")
    }

    pub fn print_like_kafka(&self) -> String {
        match self {
            Self::Request(request) => request.print_like_kafka(),
            Self::Response(response) => response.print_like_kafka(),
        }
    }
}

/// The versions of an API.
pub fn versions(key: ApiKey) -> RangeInclusive<i16> {
    key.min_version()..=key.max_version()
}

pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

pub fn from_hex(text: &str) -> Vec<u8> {
    let digit = |index: usize| char::from(text.as_bytes()[index]).to_digit(16).expect("hexadecimal") as u8;
    (0..text.len() / 2).map(|index| digit(2 * index) << 4 | digit(2 * index + 1)).collect()
}
