// SPDX-License-Identifier: Apache-2.0
//! Reading a received frame: primitive values, lengths and counts, each checked before use.
//! It must not know any message.

use bytes::Bytes;
use thiserror::Error;

use crate::text::Text;

/// Structs may nest this deep. The deepest message of Kafka 4.4 nests five; nothing in the protocol is
/// recursive, so this bound only holds our own definitions to that.
pub const MAX_DEPTH: u8 = 16;

/// Why bytes are not the message they were taken for. All mean: the peer is broken or hostile.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// A value needs more bytes than the frame has left.
    #[error("{needed} bytes needed at offset {at}, {left} left")]
    Truncated {
        /// Bytes that the value needs.
        needed: usize,
        /// Offset in the frame.
        at: usize,
        /// Bytes left in the frame, or in the tagged field around the value.
        left: usize,
    },
    /// A length or count below -1, or -1 where null cannot stand.
    #[error("length {length} at offset {at}")]
    NegativeLength {
        /// The length read.
        length: i64,
        /// Offset behind it.
        at: usize,
    },
    /// Null in a version in which the value cannot be null.
    #[error("null at offset {at}, where a value must stand")]
    NullNotAllowed {
        /// Offset behind it.
        at: usize,
    },
    /// More elements announced than the bytes left can hold.
    #[error("{count} elements at offset {at}, {left} bytes left")]
    CountTooLarge {
        /// Elements announced.
        count: usize,
        /// Offset behind the count.
        at: usize,
        /// Bytes left.
        left: usize,
    },
    /// The decoded message would take more memory than the limit of this decoder.
    #[error("the message would take more than {limit} bytes of memory")]
    AllocationLimit {
        /// The decoder's limit in bytes.
        limit: usize,
    },
    /// A variable-length integer of more than five bytes or 32 bits.
    #[error("a variable-length integer at offset {at} has too many bits")]
    VarintTooLong {
        /// Offset in the frame.
        at: usize,
    },
    /// A string that is not UTF-8, and too long to be said again with its bad bytes replaced.
    #[error("a string at offset {at} is not UTF-8 and too long to be mended")]
    NotUtf8 {
        /// Offset in the frame.
        at: usize,
    },
    /// Structs nested deeper than [`MAX_DEPTH`].
    #[error("structs nested too deep")]
    TooDeep,
    /// Bytes left behind the end of a message or of a tagged field.
    #[error("{left} bytes left at offset {at}")]
    TrailingBytes {
        /// Offset in the frame.
        at: usize,
        /// Bytes left.
        left: usize,
    },
    /// A version of a message that we do not have.
    #[error("{message} has no version {version} here")]
    UnsupportedVersion {
        /// Name of the message.
        message: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// An API key that we do not have.
    #[error("API key {key} is not known here")]
    UnknownApiKey {
        /// The key read.
        key: i16,
    },
}

/// Bytes of memory that vectors, and strings that are not UTF-8, decoded from a frame of this length may take.
///
/// An element in memory is larger than on the wire: up to 16 times in real messages (a topic with a name of
/// one byte in Metadata v9), so small frames get 16 times their length. Large frames are large because of
/// records, which are not copied; beyond their own length they get 64 MiB for the structure around them.
pub const fn allocation_limit(frame_length: usize) -> usize {
    const SMALL_FRAME_FLOOR: usize = 64 << 10;
    const LARGE_FRAME_ALLOWANCE: usize = 64 << 20;
    let small = frame_length.saturating_mul(16).saturating_add(SMALL_FRAME_FLOOR);
    let large = frame_length.saturating_add(LARGE_FRAME_ALLOWANCE);
    if small < large { small } else { large }
}

/// What a string with storage of its own takes beside its bytes, at most: a header of the allocator's and one of `Bytes`.
const MENDED_TEXT_OVERHEAD: usize = 64;

/// A cursor over one frame.
#[derive(Debug)]
pub struct Decoder {
    frame: Bytes,
    at: usize,
    /// End of the frame, or of the tagged field being read.
    end: usize,
    flexible: bool,
    depth: u8,
    allocation_limit: usize,
    allocation_left: usize,
}

/// A tagged field being read; see [`Decoder::begin_tagged_field`].
#[derive(Debug)]
pub struct TaggedField {
    /// The field's number.
    pub tag: u32,
    outer_end: usize,
}

impl Decoder {
    /// Reads `frame` (without its size prefix), with the default [`allocation_limit`].
    pub fn new(frame: Bytes) -> Self {
        let limit = allocation_limit(frame.len());
        Self::with_allocation_limit(frame, limit)
    }

    /// As [`Decoder::new`], with what is not a slice of the frame bounded to `limit` bytes of memory altogether.
    pub fn with_allocation_limit(frame: Bytes, limit: usize) -> Self {
        let end = frame.len();
        Self { frame, at: 0, end, flexible: false, depth: 0, allocation_limit: limit, allocation_left: limit }
    }

    /// Bytes not yet read.
    pub fn left(&self) -> usize {
        self.end - self.at
    }

    /// An error if bytes are left: a message must fill its frame.
    pub fn finish(&self) -> Result<(), DecodeError> {
        match self.left() {
            0 => Ok(()),
            left => Err(DecodeError::TrailingBytes { at: self.at, left }),
        }
    }

    /// Whether the message being read uses compact lengths and tagged fields (KIP-482).
    pub fn is_flexible(&self) -> bool {
        self.flexible
    }

    /// Switches between the two encodings; done by [`crate::Message::decode`] and the headers.
    pub fn set_flexible(&mut self, flexible: bool) {
        self.flexible = flexible;
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        self.need(N)?;
        let mut value = [0; N];
        value.copy_from_slice(&self.frame[self.at..self.at + N]);
        self.at += N;
        Ok(value)
    }

    fn need(&self, needed: usize) -> Result<(), DecodeError> {
        let left = self.left();
        if needed > left { Err(DecodeError::Truncated { needed, at: self.at, left }) } else { Ok(()) }
    }

    /// One byte, signed.
    pub fn read_i8(&mut self) -> Result<i8, DecodeError> {
        self.take().map(i8::from_be_bytes)
    }

    /// Two bytes, signed.
    pub fn read_i16(&mut self) -> Result<i16, DecodeError> {
        self.take().map(i16::from_be_bytes)
    }

    /// Two bytes, unsigned.
    pub fn read_u16(&mut self) -> Result<u16, DecodeError> {
        self.take().map(u16::from_be_bytes)
    }

    /// Four bytes, signed.
    pub fn read_i32(&mut self) -> Result<i32, DecodeError> {
        self.take().map(i32::from_be_bytes)
    }

    /// Four bytes, unsigned.
    pub fn read_u32(&mut self) -> Result<u32, DecodeError> {
        self.take().map(u32::from_be_bytes)
    }

    /// Eight bytes, signed.
    pub fn read_i64(&mut self) -> Result<i64, DecodeError> {
        self.take().map(i64::from_be_bytes)
    }

    /// Eight bytes, a floating point number.
    pub fn read_f64(&mut self) -> Result<f64, DecodeError> {
        self.take().map(f64::from_be_bytes)
    }

    /// One byte; anything but zero is true.
    pub fn read_bool(&mut self) -> Result<bool, DecodeError> {
        self.take().map(|[byte]| byte != 0)
    }

    /// Sixteen bytes.
    pub fn read_uuid(&mut self) -> Result<uuid::Uuid, DecodeError> {
        self.take().map(uuid::Uuid::from_bytes)
    }

    /// An unsigned LEB128 integer of at most 32 bits.
    pub fn read_unsigned_varint(&mut self) -> Result<u32, DecodeError> {
        let start = self.at;
        let mut value: u32 = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.take()?;
            if shift == 28 && byte > 0x0f {
                return Err(DecodeError::VarintTooLong { at: start });
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::VarintTooLong { at: start })
    }

    /// Length of a string, null if `None`; checked against the bytes left.
    pub fn read_string_length(&mut self) -> Result<Option<usize>, DecodeError> {
        let length = if self.flexible { self.read_compact_length()? } else { i64::from(self.read_i16()?) };
        self.check_length(length)
    }

    /// Length of bytes or records, null if `None`; checked against the bytes left.
    pub fn read_bytes_length(&mut self) -> Result<Option<usize>, DecodeError> {
        let length = if self.flexible { self.read_compact_length()? } else { i64::from(self.read_i32()?) };
        self.check_length(length)
    }

    /// Number of elements of an array, null if `None`; `element_size` is the least that one element takes on
    /// the wire, and `element_memory` what it takes in a vector.
    pub fn read_count(&mut self, element_size: usize, element_memory: usize) -> Result<Option<usize>, DecodeError> {
        let count = if self.flexible { self.read_compact_length()? } else { i64::from(self.read_i32()?) };
        let Some(count) = self.non_negative(count)? else { return Ok(None) };
        let left = self.left();
        // No element is free: else a short frame could announce any number of them.
        if count > left / element_size.max(1) {
            return Err(DecodeError::CountTooLarge { count, at: self.at, left });
        }
        self.allocate(count.saturating_mul(element_memory))?;
        Ok(Some(count))
    }

    /// Takes `memory` bytes of what this frame may make us allocate.
    fn allocate(&mut self, memory: usize) -> Result<(), DecodeError> {
        let Some(allocation_left) = self.allocation_left.checked_sub(memory) else {
            return Err(DecodeError::AllocationLimit { limit: self.allocation_limit });
        };
        self.allocation_left = allocation_left;
        Ok(())
    }

    /// A compact length: the value is one more than the length, zero is null (-1 here).
    fn read_compact_length(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from(self.read_unsigned_varint()?) - 1)
    }

    fn non_negative(&self, length: i64) -> Result<Option<usize>, DecodeError> {
        match length {
            -1 => Ok(None),
            length => match usize::try_from(length) {
                Ok(length) => Ok(Some(length)),
                Err(_) => Err(DecodeError::NegativeLength { length, at: self.at }),
            },
        }
    }

    fn check_length(&self, length: i64) -> Result<Option<usize>, DecodeError> {
        let length = self.non_negative(length)?;
        if let Some(length) = length {
            self.need(length)?;
        }
        Ok(length)
    }

    /// The error for a null where a value must stand.
    pub fn null_error(&self) -> DecodeError {
        DecodeError::NullNotAllowed { at: self.at }
    }

    /// The next `length` bytes as a slice of the frame.
    pub fn read_slice(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        self.need(length)?;
        let slice = self.frame.slice(self.at..self.at + length);
        self.at += length;
        Ok(slice)
    }

    /// The next `length` bytes as a string that shares the frame. Bytes that are not UTF-8 are replaced by U+FFFD, as
    /// Kafka reads them (`Readable.readString`); such a string has storage of its own.
    pub fn read_text(&mut self, length: usize) -> Result<Text, DecodeError> {
        let at = self.at;
        let bytes = self.read_slice(length)?;
        if let Ok(text) = Text::from_utf8(bytes.clone()) {
            return Ok(text);
        }
        // A replacement has three bytes. What the answer may have to repeat must fit the length of a plain string.
        let most = length.saturating_mul(3);
        self.allocate(most.saturating_add(MENDED_TEXT_OVERHEAD))?;
        let text = Text::from_utf8_lossy(&bytes);
        if text.len() > i16::MAX as usize { Err(DecodeError::NotUtf8 { at }) } else { Ok(text) }
    }

    /// Counts a struct that begins, so that nesting is bounded.
    pub fn enter_struct(&mut self) -> Result<(), DecodeError> {
        if self.depth >= MAX_DEPTH {
            return Err(DecodeError::TooDeep);
        }
        self.depth += 1;
        Ok(())
    }

    /// The end of a struct begun with [`Decoder::enter_struct`].
    pub fn leave_struct(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    /// Reads tag and size of a tagged field; until [`Decoder::end_tagged_field`] nothing beyond it is readable.
    pub fn begin_tagged_field(&mut self) -> Result<TaggedField, DecodeError> {
        let tag = self.read_unsigned_varint()?;
        let size = self.read_unsigned_varint()? as usize;
        self.need(size)?;
        let outer_end = self.end;
        self.end = self.at + size;
        Ok(TaggedField { tag, outer_end })
    }

    /// The end of a tagged field: a known one must have been read whole, an unknown one is skipped.
    pub fn end_tagged_field(&mut self, field: &TaggedField, known: bool) -> Result<(), DecodeError> {
        if known {
            self.finish()?;
        }
        self.at = self.end;
        self.end = field.outer_end;
        Ok(())
    }

    /// Skips the tagged fields of a struct that knows none.
    pub fn skip_tagged_fields(&mut self) -> Result<(), DecodeError> {
        // Each takes two bytes at least, so a hostile count ends with the frame.
        for _ in 0..self.read_unsigned_varint()? {
            let field = self.begin_tagged_field()?;
            self.end_tagged_field(&field, false)?;
        }
        Ok(())
    }
}
