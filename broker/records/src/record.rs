// SPDX-License-Identifier: Apache-2.0
//! One record inside a batch (`DefaultRecord` in Kafka): a length, then attributes, timestamp and offset as deltas,
//! key, value and headers. Reading copies nothing. Must not know the batch around it.

use thiserror::Error;

use crate::varint::{Cursor, NextByte, read_varint, read_varlong, varlong_bytes, write_varlong};

/// One record; slices point into the batch's (decompressed) bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// No bit has a meaning yet.
    pub attributes: i8,
    /// Milliseconds after the batch's base timestamp; see [`crate::BatchHeader::record_timestamp`].
    pub timestamp_delta: i64,
    /// Offset minus the batch's base offset.
    pub offset_delta: i32,
    /// The key; `None` is Kafka's null.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is Kafka's null, a tombstone in a compacted topic.
    pub value: Option<&'a [u8]>,
    /// The headers (KIP-82).
    pub headers: RecordHeaders<'a>,
}

/// One header of a record. Kafka's own code reads the key as UTF-8; the broker does not look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordHeader<'a> {
    /// The name.
    pub key: &'a [u8],
    /// The value; `None` is Kafka's null.
    pub value: Option<&'a [u8]>,
}

/// The headers of a record in order, read while iterating; they were checked when the record was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordHeaders<'a> {
    count: u32,
    bytes: &'a [u8],
}

/// Why bytes are no record.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum MalformedRecord {
    /// The bytes end inside the record.
    #[error("the bytes end inside a record")]
    Ends,
    /// A number without an end, or a negative length or count.
    #[error("a record has the impossible {0}")]
    Number(&'static str),
    /// What the record holds and the length it declares differ.
    #[error("a record declares {declared} bytes but its fields end {difference} bytes before that")]
    Length {
        /// The declared length of the body.
        declared: usize,
        /// Bytes left over.
        difference: usize,
    },
    /// Bytes are left after the declared number of records, or there are fewer records than declared.
    #[error("the batch does not hold exactly its declared number of records")]
    Count,
}

impl<'a> Record<'a> {
    /// Reads the record at the start of `bytes` and gives the bytes after it.
    #[inline]
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), MalformedRecord> {
        let mut cursor = Cursor::new(bytes);
        let length = read_varint(&mut cursor).ok_or(MalformedRecord::Ends)?;
        let length = usize::try_from(length).map_err(|_| MalformedRecord::Number("length"))?;
        let body = cursor.take(length).ok_or(MalformedRecord::Ends)?;
        Ok((Self::parse_body(body)?, cursor.rest()))
    }

    /// Reads a record's body, which must be used up exactly.
    #[inline]
    pub(crate) fn parse_body(body: &'a [u8]) -> Result<Self, MalformedRecord> {
        let mut cursor = Cursor::new(body);
        let attributes = cursor.next_byte().ok_or(MalformedRecord::Ends)? as i8;
        let timestamp_delta = read_varlong(&mut cursor).ok_or(MalformedRecord::Ends)?;
        let offset_delta = read_varint(&mut cursor).ok_or(MalformedRecord::Ends)?;
        let key = read_nullable(&mut cursor)?;
        let value = read_nullable(&mut cursor)?;
        let count = read_varint(&mut cursor).ok_or(MalformedRecord::Ends)?;
        let count = u32::try_from(count).map_err(|_| MalformedRecord::Number("number of headers"))?;
        let headers = RecordHeaders { count, bytes: cursor.rest() };
        for _ in 0..count {
            read_header(&mut cursor)?;
        }
        let rest = cursor.rest().len();
        if rest != 0 {
            return Err(MalformedRecord::Length { declared: body.len(), difference: rest });
        }
        Ok(Self { attributes, timestamp_delta, offset_delta, key, value, headers })
    }
}

impl<'a> RecordHeaders<'a> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The headers in order.
    pub fn iter(&self) -> impl Iterator<Item = RecordHeader<'a>> + use<'a> {
        let mut cursor = Cursor::new(self.bytes);
        (0..self.count).map(move |_| read_header(&mut cursor).expect("headers were checked with their record"))
    }
}

#[inline]
fn read_nullable<'a>(cursor: &mut Cursor<'a>) -> Result<Option<&'a [u8]>, MalformedRecord> {
    // As in Kafka any negative length is a null.
    match usize::try_from(read_varint(cursor).ok_or(MalformedRecord::Ends)?) {
        Ok(length) => cursor.take(length).map(Some).ok_or(MalformedRecord::Ends),
        Err(_) => Ok(None),
    }
}

#[inline]
fn read_header<'a>(cursor: &mut Cursor<'a>) -> Result<RecordHeader<'a>, MalformedRecord> {
    let length = read_varint(cursor).ok_or(MalformedRecord::Ends)?;
    let length = usize::try_from(length).map_err(|_| MalformedRecord::Number("header key length"))?;
    let key = cursor.take(length).ok_or(MalformedRecord::Ends)?;
    Ok(RecordHeader { key, value: read_nullable(cursor)? })
}

/// Appends one record to `out`.
pub(crate) fn write_record(
    out: &mut Vec<u8>,
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[RecordHeader<'_>],
) {
    let field = |bytes: Option<&[u8]>| match bytes {
        None => varlong_bytes(-1),
        Some(bytes) => varlong_bytes(bytes.len() as i64) + bytes.len(),
    };
    let body: usize = 1
        + varlong_bytes(timestamp_delta)
        + varlong_bytes(i64::from(offset_delta))
        + field(key)
        + field(value)
        + varlong_bytes(headers.len() as i64)
        + headers.iter().map(|header| field(Some(header.key)) + field(header.value)).sum::<usize>();
    assert!(i32::try_from(body).is_ok(), "a record of over 2 GiB cannot be written");
    out.reserve(body + 5);
    write_varlong(out, body as i64);
    let start = out.len();
    out.push(0);
    write_varlong(out, timestamp_delta);
    write_varlong(out, i64::from(offset_delta));
    write_nullable(out, key);
    write_nullable(out, value);
    write_varlong(out, headers.len() as i64);
    for header in headers {
        write_nullable(out, Some(header.key));
        write_nullable(out, header.value);
    }
    debug_assert_eq!(out.len() - start, body);
}

fn write_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => write_varlong(out, -1),
        Some(bytes) => {
            write_varlong(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
    }
}
