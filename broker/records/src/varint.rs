// SPDX-License-Identifier: Apache-2.0
//! The variable-length integers inside records: zig-zag, seven bits a byte, lowest first (Kafka's `ByteUtils`).
//!
//! As in Kafka an encoding may be longer than needed but never over 5 (32 bits) or 10 (64 bits) bytes, and bits
//! beyond the type's width are dropped. Must not know what the numbers mean.

/// Longest encoding of a 32-bit number in bytes.
pub(crate) const VARINT_BYTES_MAX: usize = 5;

/// A reader of bytes one after another; `None` at their end.
pub(crate) trait NextByte {
    fn next_byte(&mut self) -> Option<u8>;
}

/// A place in a slice.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The bytes not read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// The next `count` bytes, or `None` and no movement if there are fewer.
    #[inline]
    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        Some(taken)
    }
}

impl NextByte for Cursor<'_> {
    #[inline]
    fn next_byte(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*first)
    }
}

/// Reads a 32-bit number; `None` if the bytes end or the encoding goes on after 5 bytes.
#[inline]
pub(crate) fn read_varint(source: &mut impl NextByte) -> Option<i32> {
    let byte = source.next_byte()?;
    // Most numbers in records are below 64.
    if byte & 0x80 == 0 {
        return Some(i32::from(byte >> 1) ^ -i32::from(byte & 1));
    }
    read_long_varint(source, byte)
}

#[inline]
fn read_long_varint(source: &mut impl NextByte, first: u8) -> Option<i32> {
    let mut byte = first;
    let mut raw = u32::from(byte & 0x7f);
    let mut shift = 7;
    while byte & 0x80 != 0 {
        if shift > 28 {
            return None;
        }
        byte = source.next_byte()?;
        raw |= u32::from(byte & 0x7f) << shift;
        shift += 7;
    }
    Some((raw >> 1) as i32 ^ -((raw & 1) as i32))
}

/// Reads a 64-bit number; `None` if the bytes end or the encoding goes on after 10 bytes.
#[inline]
pub(crate) fn read_varlong(source: &mut impl NextByte) -> Option<i64> {
    let mut byte = source.next_byte()?;
    let mut raw = u64::from(byte & 0x7f);
    let mut shift = 7;
    while byte & 0x80 != 0 {
        if shift > 63 {
            return None;
        }
        byte = source.next_byte()?;
        raw |= u64::from(byte & 0x7f) << shift;
        shift += 7;
    }
    Some((raw >> 1) as i64 ^ -((raw & 1) as i64))
}

/// Appends a 64-bit number; a 32-bit number has the same encoding.
pub(crate) fn write_varlong(out: &mut Vec<u8>, value: i64) {
    let mut raw = (value << 1) as u64 ^ (value >> 63) as u64;
    while raw >= 0x80 {
        out.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
}

/// Length in bytes of what [`write_varlong`] appends.
pub(crate) fn varlong_bytes(value: i64) -> usize {
    let raw = (value << 1) as u64 ^ (value >> 63) as u64;
    (64 - (raw | 1).leading_zeros() as usize).div_ceil(7)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_encodings() {
        for (value, bytes) in [
            (0, &[0x00][..]),
            (-1, &[0x01]),
            (1, &[0x02]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (64, &[0x80, 0x01]),
            (i64::from(i32::MAX), &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i64::from(i32::MIN), &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        ] {
            let mut out = Vec::new();
            write_varlong(&mut out, value);
            assert_eq!(out, bytes, "{value}");
            assert_eq!(read_varint(&mut Cursor::new(bytes)), Some(value as i32));
            assert_eq!(read_varlong(&mut Cursor::new(bytes)), Some(value));
        }
    }

    #[test]
    fn encodings_without_end_are_refused() {
        assert_eq!(read_varint(&mut Cursor::new(&[0x80; 5])), None);
        assert_eq!(read_varint(&mut Cursor::new(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00])), None);
        assert_eq!(read_varint(&mut Cursor::new(&[0x80, 0x80, 0x80, 0x80, 0x00])), Some(0));
        assert_eq!(read_varlong(&mut Cursor::new(&[0x80; 11])), None);
        assert_eq!(read_varlong(&mut Cursor::new(&[])), None);
    }

    proptest! {
        #[test]
        fn round_trip(value: i64) {
            let mut out = Vec::new();
            write_varlong(&mut out, value);
            prop_assert_eq!(out.len(), varlong_bytes(value));
            let mut cursor = Cursor::new(&out);
            prop_assert_eq!(read_varlong(&mut cursor), Some(value));
            prop_assert!(cursor.rest().is_empty());
        }
    }
}
