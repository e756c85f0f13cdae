// SPDX-License-Identifier: Apache-2.0
//! Kafka's primitive types as its coordinator records use them: plain and compact texts, bytes, varints, tags.
//! Every length is checked against the bytes that are there before anything is allocated. Must not know any record.

use bytes::{Bytes, BytesMut};

use crate::RecordError;

/// Reads the fields of one record.
pub(crate) struct Reader<'a> {
    what: &'static str,
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, bytes, position: 0 }
    }

    pub(crate) fn malformed(&self) -> RecordError {
        RecordError::Malformed { what: self.what, position: self.position }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], RecordError> {
        let end = self.position.checked_add(len).ok_or_else(|| self.malformed())?;
        let taken = self.bytes.get(self.position..end).ok_or_else(|| self.malformed())?;
        self.position = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        self.take(N).map(|bytes| bytes.try_into().expect("as many as asked for"))
    }

    pub(crate) fn i16(&mut self) -> Result<i16, RecordError> {
        self.array().map(i16::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, RecordError> {
        self.array().map(i32::from_be_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, RecordError> {
        self.array().map(i64::from_be_bytes)
    }

    pub(crate) fn uuid(&mut self) -> Result<[u8; 16], RecordError> {
        self.array()
    }

    pub(crate) fn unsigned_varint(&mut self) -> Result<u32, RecordError> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.take(1)?[0];
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.malformed())
    }

    /// Length of a text, byte string or array; `None` is null. Compact lengths are stored plus one.
    fn length(&mut self, flexible: bool, plain: impl Fn(&mut Self) -> Result<i32, RecordError>) -> LengthResult {
        if flexible {
            return Ok((self.unsigned_varint()? as usize).checked_sub(1));
        }
        match plain(self)? {
            -1 => Ok(None),
            length => usize::try_from(length).map(Some).map_err(|_| self.malformed()),
        }
    }

    pub(crate) fn nullable_text(&mut self, flexible: bool) -> Result<Option<&'a str>, RecordError> {
        let Some(len) = self.length(flexible, |reader| reader.i16().map(i32::from))? else { return Ok(None) };
        let bytes = self.take(len)?;
        std::str::from_utf8(bytes).map(Some).map_err(|_| self.malformed())
    }

    pub(crate) fn text(&mut self, flexible: bool) -> Result<&'a str, RecordError> {
        self.nullable_text(flexible)?.ok_or_else(|| self.malformed())
    }

    pub(crate) fn byte_string(&mut self, flexible: bool) -> Result<Bytes, RecordError> {
        let len = self.length(flexible, Self::i32)?.ok_or_else(|| self.malformed())?;
        self.take(len).map(Bytes::copy_from_slice)
    }

    /// Number of elements of an array, at most as many as there are bytes left.
    pub(crate) fn count(&mut self, flexible: bool) -> Result<usize, RecordError> {
        let count = self.length(flexible, Self::i32)?.ok_or_else(|| self.malformed())?;
        if count > self.bytes.len() - self.position { Err(self.malformed()) } else { Ok(count) }
    }

    /// Tagged fields: `field` takes those it knows; the others are skipped.
    pub(crate) fn tags(
        &mut self,
        mut field: impl FnMut(u32, &mut Reader<'a>) -> Result<(), RecordError>,
    ) -> Result<(), RecordError> {
        for _ in 0..self.unsigned_varint()? {
            let tag = self.unsigned_varint()?;
            let len = self.unsigned_varint()? as usize;
            let bytes = self.take(len)?;
            field(tag, &mut Reader::new(self.what, bytes))?;
        }
        Ok(())
    }
}

type LengthResult = Result<Option<usize>, RecordError>;

/// Writes the fields of one record.
#[derive(Default)]
pub(crate) struct Writer {
    bytes: BytesMut,
}

impl Writer {
    pub(crate) fn finish(self) -> Bytes {
        self.bytes.freeze()
    }

    pub(crate) fn i16(&mut self, value: i16) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn i32(&mut self, value: i32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.bytes.extend_from_slice(&[value as u8 | 0x80]);
            value >>= 7;
        }
        self.bytes.extend_from_slice(&[value as u8]);
    }

    /// A text with its length as int16.
    ///
    /// # Panics
    /// If it is over 32,767 bytes; requests with such texts are refused before.
    pub(crate) fn plain_text(&mut self, text: &str) {
        self.i16(i16::try_from(text.len()).expect("texts of plain records are bounded when requests are checked"));
        self.raw(text.as_bytes());
    }

    pub(crate) fn plain_nullable_text(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.plain_text(text),
            None => self.i16(-1),
        }
    }

    pub(crate) fn plain_bytes(&mut self, bytes: &[u8]) {
        self.plain_count(bytes.len());
        self.raw(bytes);
    }

    pub(crate) fn plain_count(&mut self, count: usize) {
        self.i32(i32::try_from(count).expect("requests are far below 2 GiB"));
    }

    pub(crate) fn compact_text(&mut self, text: &str) {
        self.unsigned_varint(u32::try_from(text.len() + 1).expect("requests are far below 4 GiB"));
        self.raw(text.as_bytes());
    }
}
