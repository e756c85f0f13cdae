// SPDX-License-Identifier: Apache-2.0
//! Kafka's wire protocol: a bounded codec, the messages, framing, and a client connection.
//!
//! Decoding slices the received frame: strings and bytes are parts of it, records are never copied. Every
//! count and length is checked against the bytes left before anything is allocated, and what one frame may
//! make us allocate is bounded ([`decode::allocation_limit`]). Encoding yields segments for a vectored write, with gaps where
//! records are sent from a file.
//! [`api_versions::TABLE`] is the one list of what we speak.
//!
//! This crate must not know what a broker does with a message: no logs, no groups, no metadata, no policy.
//! Domain crates do not depend on it; `server` and clients translate.

pub mod api_versions;
pub mod client;
pub mod decode;
pub mod encode;
pub mod error_code;
pub mod field;
pub mod frame;
#[cfg(feature = "generate")]
pub mod generate;
pub mod header;
pub mod message;
pub mod messages;
pub mod private;
mod records;
mod text;

pub use decode::{DecodeError, Decoder};
pub use encode::{EncodeError, Encoder};
pub use error_code::ErrorCode;
pub use header::{RequestHeader, ResponseHeader};
pub use message::{Message, Request};
pub use messages::{AnyRequest, AnyResponse, ApiKey};
pub use records::Records;
pub use text::Text;
