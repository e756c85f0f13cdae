// SPDX-License-Identifier: Apache-2.0
//! Passing over every record of a batch without keeping any: in place, or in a stream while decompressing.
//! Must not know the rules, only the shape of a record.

use std::cell::RefCell;

use super::{Judge, ProduceError};
use crate::codec::{Compression, DecompressError, Decompressor, DecompressorState, Window};
use crate::record::{MalformedRecord, Record};
use crate::varint::{Cursor, NextByte, VARINT_BYTES_MAX, read_varint, read_varlong};

/// Records up to this many bytes are decompressed whole into the window and read in place; larger ones are passed
/// over piece by piece, so that the window need not grow with what a client claims. The codecs' usual block is
/// 64 KiB (LZ4 of Java) to 128 KiB (zstd).
const WHOLE_RECORD_BYTES_MAX: usize = 128 * 1024;

thread_local! {
    /// Decompression contexts and window, used again by every batch on this thread. Bounded: `DecompressorState`
    /// gives large contexts back, `Window` its memory above [`Window::KEPT_BYTES_MAX`].
    static STATE: RefCell<(DecompressorState, Window)> = RefCell::new((DecompressorState::new(), Window::new()));
}

/// Walks uncompressed records in place.
pub(super) fn walk_slice(payload: &[u8], count: i32, judge: &mut Judge<'_>) -> Result<(), ProduceError> {
    let mut rest = payload;
    for _ in 0..count {
        let (record, after) = Record::parse(rest).map_err(|error| malformed(judge, error))?;
        judge.record(record.timestamp_delta, record.offset_delta, record.key.is_some());
        rest = after;
    }
    if rest.is_empty() { Ok(()) } else { Err(malformed(judge, MalformedRecord::Count)) }
}

/// Walks compressed records while decompressing them, `limit` bytes at most.
pub(super) fn walk_compressed(
    codec: Compression,
    payload: &[u8],
    count: i32,
    limit: usize,
    judge: &mut Judge<'_>,
) -> Result<(), ProduceError> {
    STATE.with_borrow_mut(|(state, window)| {
        window.clear();
        let result = match state.start(codec, payload, limit) {
            Ok(decompressor) => {
                let mut stream = Stream { decompressor, window, read: 0, error: None };
                let result = walk_stream(&mut stream, count, judge);
                // A failure of the codec shows first as an end of the bytes; it is the true cause.
                match stream.error {
                    Some(error) => Err(refusal(error, limit)),
                    None => result,
                }
            }
            Err(error) => Err(refusal(error, limit)),
        };
        state.release_large();
        window.release_large();
        result
    })
}

fn refusal(error: DecompressError, limit: usize) -> ProduceError {
    match error {
        DecompressError::TooLarge { .. } => ProduceError::DecompressedTooLarge { max: limit },
        error @ DecompressError::Damaged { .. } => ProduceError::Decompress(error),
    }
}

fn malformed(judge: &Judge<'_>, error: MalformedRecord) -> ProduceError {
    ProduceError::Malformed { batch_index: judge.next_index(), error }
}

/// Decompressed bytes, one after another.
struct Stream<'s, 'i> {
    decompressor: Decompressor<'s, 'i>,
    window: &'s mut Window,
    /// Bytes taken so far.
    read: u64,
    error: Option<DecompressError>,
}

impl Stream<'_, '_> {
    /// Decompresses until `wanted` bytes are in the window; fewer only at the end or after an error.
    #[inline]
    fn ensure(&mut self, wanted: usize) {
        while self.window.available() < wanted {
            if !self.decompress_more() {
                return;
            }
        }
    }

    #[cold]
    fn decompress_more(&mut self) -> bool {
        if self.error.is_some() {
            return false;
        }
        match self.decompressor.fill(self.window) {
            Ok(more) => more,
            Err(error) => {
                self.error = Some(error);
                false
            }
        }
    }

    #[inline]
    fn consume(&mut self, count: usize) {
        self.window.consume(count);
        self.read += count as u64;
    }

    /// Passes over `count` bytes; `None` if there are fewer.
    fn skip(&mut self, count: usize) -> Option<()> {
        let mut left = count;
        while left > 0 {
            self.ensure(1);
            let step = left.min(self.window.available());
            if step == 0 {
                return None;
            }
            self.consume(step);
            left -= step;
        }
        Some(())
    }
}

impl NextByte for Stream<'_, '_> {
    fn next_byte(&mut self) -> Option<u8> {
        self.ensure(1);
        let byte = *self.window.bytes().first()?;
        self.consume(1);
        Some(byte)
    }
}

fn walk_stream(stream: &mut Stream<'_, '_>, count: i32, judge: &mut Judge<'_>) -> Result<(), ProduceError> {
    for _ in 0..count {
        stream.ensure(VARINT_BYTES_MAX);
        let mut cursor = Cursor::new(stream.window.bytes());
        let length = read_varint(&mut cursor).ok_or_else(|| malformed(judge, MalformedRecord::Ends))?;
        let prefix = stream.window.available() - cursor.rest().len();
        let length = usize::try_from(length).map_err(|_| malformed(judge, MalformedRecord::Number("length")))?;
        stream.consume(prefix);
        if length <= WHOLE_RECORD_BYTES_MAX {
            stream.ensure(length);
            let body = stream.window.bytes().get(..length);
            let body = body.ok_or_else(|| malformed(judge, MalformedRecord::Ends))?;
            let record = Record::parse_body(body).map_err(|error| malformed(judge, error))?;
            judge.record(record.timestamp_delta, record.offset_delta, record.key.is_some());
            stream.consume(length);
        } else {
            let (timestamp_delta, offset_delta, has_key) =
                skim_record(stream, length).map_err(|error| malformed(judge, error))?;
            judge.record(timestamp_delta, offset_delta, has_key);
        }
    }
    stream.ensure(1);
    if stream.window.available() == 0 { Ok(()) } else { Err(malformed(judge, MalformedRecord::Count)) }
}

/// Passes over the body of a large record. Same rules as `Record::parse_body`.
fn skim_record(stream: &mut Stream<'_, '_>, length: usize) -> Result<(i64, i32, bool), MalformedRecord> {
    let end = stream.read + length as u64;
    let _attributes = stream.next_byte().ok_or(MalformedRecord::Ends)?;
    let timestamp_delta = read_varlong(stream).ok_or(MalformedRecord::Ends)?;
    let offset_delta = read_varint(stream).ok_or(MalformedRecord::Ends)?;
    let has_key = skim_nullable(stream, end)?;
    skim_nullable(stream, end)?;
    let headers = read_varint(stream).ok_or(MalformedRecord::Ends)?;
    if headers < 0 {
        return Err(MalformedRecord::Number("number of headers"));
    }
    for _ in 0..headers {
        if !skim_nullable(stream, end)? {
            return Err(MalformedRecord::Number("header key length"));
        }
        skim_nullable(stream, end)?;
    }
    match end.checked_sub(stream.read) {
        Some(0) => Ok((timestamp_delta, offset_delta, has_key)),
        Some(rest) => Err(MalformedRecord::Length { declared: length, difference: rest as usize }),
        None => Err(MalformedRecord::Ends),
    }
}

/// Passes over a length and its bytes, which must end by `end`; whether it was not null.
fn skim_nullable(stream: &mut Stream<'_, '_>, end: u64) -> Result<bool, MalformedRecord> {
    match usize::try_from(read_varint(stream).ok_or(MalformedRecord::Ends)?) {
        Ok(length) if stream.read + length as u64 > end => Err(MalformedRecord::Ends),
        Ok(length) => stream.skip(length).map(|()| true).ok_or(MalformedRecord::Ends),
        Err(_) => Ok(false),
    }
}
