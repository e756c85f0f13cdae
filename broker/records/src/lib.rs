// SPDX-License-Identifier: Apache-2.0
//! Record batches, version 2 ("magic 2"): the one format of records on the wire and on disk (KIP-98, KIP-82).
//!
//! A batch is a header of 61 bytes and its records, the records compressed as a whole or not at all. This crate
//! reads, checks, builds and stamps batches. Bytes are untrusted unless a type says otherwise ([`ValidatedBatch`]):
//! every length is checked against the bytes that are there before anything is allocated or skipped, and what a
//! batch decompresses to is bounded ([`DECOMPRESSED_BYTES_MAX`]).
//!
//! Reading: [`Batches`] walks bytes batch by batch, [`Batch::verify`] checks the checksum, [`Batch::records`] gives
//! the records. Producing: [`validate_produced`] judges what a client sent and gives a [`ValidatedBatch`], which the
//! log stamps ([`ValidatedBatch::assign`]) and writes. Broker-made batches come from [`BatchBuilder`].
//!
//! Invariant: must not know logs, topics beyond their settings, the wire protocol, files or clocks.

mod batch;
mod builder;
mod codec;
mod control;
mod header;
mod record;
mod validate;
mod varint;

pub use batch::{Batch, Batches, Records};
pub use builder::{BatchBuilder, BatchOptions};
pub use codec::{Compression, DECOMPRESSED_BYTES_MAX, DecompressError, compress, decompress};
pub use control::{ControlRecord, ControlRecordError};
pub use header::{BatchError, BatchHeader, HEADER_BYTES, LENGTH_PREFIX_BYTES, assign, increment_sequence};
pub use record::{MalformedRecord, Record, RecordHeader, RecordHeaders};
pub use validate::{ProduceError, ProduceRules, RecordError, ValidatedBatch, validate_produced};
