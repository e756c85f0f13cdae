// SPDX-License-Identifier: Apache-2.0
//! How each type of field stands on the wire. Structs get their implementation from the derive macro.
//! It must not know any message.

use bytes::Bytes;
use uuid::Uuid;

use crate::decode::{DecodeError, Decoder};
use crate::encode::{EncodeError, Encoder};
use crate::text::Text;

/// A value that can stand in a message. Whether the encoding is flexible is the coder's state.
pub trait Field: Sized {
    /// Reads the value as it stands in `version` of the message; null is an error.
    fn read(decoder: &mut Decoder, version: i16) -> Result<Self, DecodeError>;
    /// Writes the value as it stands in `version` of the message.
    fn write(&self, encoder: &mut Encoder, version: i16) -> Result<(), EncodeError>;
    /// The least bytes that a value takes on the wire; what a count of elements is checked with.
    fn min_size(version: i16, flexible: bool) -> usize;
}

/// A value in whose place null can stand.
pub trait Nullable: Field {
    /// As [`Field::read`]; `None` is null.
    fn read_nullable(decoder: &mut Decoder, version: i16) -> Result<Option<Self>, DecodeError>;
    /// As [`Field::write`]; `None` is null.
    fn write_nullable(value: Option<&Self>, encoder: &mut Encoder, version: i16) -> Result<(), EncodeError>;
    /// The least bytes that value or null take on the wire.
    fn min_nullable_size(version: i16, flexible: bool) -> usize {
        Self::min_size(version, flexible)
    }
}

macro_rules! number_field {
    ($ty:ty, $read:ident, $put:ident) => {
        impl Field for $ty {
            #[inline]
            fn read(decoder: &mut Decoder, _version: i16) -> Result<Self, DecodeError> {
                decoder.$read()
            }

            #[inline]
            fn write(&self, encoder: &mut Encoder, _version: i16) -> Result<(), EncodeError> {
                encoder.$put(*self);
                Ok(())
            }

            #[inline]
            fn min_size(_version: i16, _flexible: bool) -> usize {
                size_of::<$ty>()
            }
        }
    };
}

number_field!(i8, read_i8, put_i8);
number_field!(i16, read_i16, put_i16);
number_field!(u16, read_u16, put_u16);
number_field!(i32, read_i32, put_i32);
number_field!(u32, read_u32, put_u32);
number_field!(i64, read_i64, put_i64);
number_field!(f64, read_f64, put_f64);
number_field!(bool, read_bool, put_bool);
number_field!(Uuid, read_uuid, put_uuid);

impl Field for Text {
    fn read(decoder: &mut Decoder, version: i16) -> Result<Self, DecodeError> {
        Self::read_nullable(decoder, version)?.ok_or_else(|| decoder.null_error())
    }

    fn write(&self, encoder: &mut Encoder, version: i16) -> Result<(), EncodeError> {
        Self::write_nullable(Some(self), encoder, version)
    }

    fn min_size(_version: i16, flexible: bool) -> usize {
        if flexible { 1 } else { 2 }
    }
}

impl Nullable for Text {
    fn read_nullable(decoder: &mut Decoder, _version: i16) -> Result<Option<Self>, DecodeError> {
        match decoder.read_string_length()? {
            Some(length) => decoder.read_text(length).map(Some),
            None => Ok(None),
        }
    }

    fn write_nullable(value: Option<&Self>, encoder: &mut Encoder, _version: i16) -> Result<(), EncodeError> {
        encoder.put_string_length(value.map(|text| text.len()))?;
        if let Some(text) = value {
            encoder.put_slice(text.as_bytes());
        }
        Ok(())
    }
}

/// Bytes of a group protocol and the like; records go through [`Encoder::put_records`].
impl Field for Bytes {
    fn read(decoder: &mut Decoder, version: i16) -> Result<Self, DecodeError> {
        Self::read_nullable(decoder, version)?.ok_or_else(|| decoder.null_error())
    }

    fn write(&self, encoder: &mut Encoder, version: i16) -> Result<(), EncodeError> {
        Self::write_nullable(Some(self), encoder, version)
    }

    fn min_size(_version: i16, flexible: bool) -> usize {
        if flexible { 1 } else { 4 }
    }
}

/// Bytes from this length on are passed on as a segment; below, copying costs less than another segment.
const COPY_BELOW: usize = 1024;

impl Nullable for Bytes {
    fn read_nullable(decoder: &mut Decoder, _version: i16) -> Result<Option<Self>, DecodeError> {
        match decoder.read_bytes_length()? {
            Some(length) => decoder.read_slice(length).map(Some),
            None => Ok(None),
        }
    }

    fn write_nullable(value: Option<&Self>, encoder: &mut Encoder, _version: i16) -> Result<(), EncodeError> {
        match value {
            Some(bytes) if bytes.len() < COPY_BELOW => {
                encoder.put_length(Some(bytes.len()))?;
                encoder.put_slice(bytes);
                Ok(())
            }
            value => encoder.put_records(value),
        }
    }
}

impl<T: Field> Field for Vec<T> {
    fn read(decoder: &mut Decoder, version: i16) -> Result<Self, DecodeError> {
        Self::read_nullable(decoder, version)?.ok_or_else(|| decoder.null_error())
    }

    fn write(&self, encoder: &mut Encoder, version: i16) -> Result<(), EncodeError> {
        Self::write_nullable(Some(self), encoder, version)
    }

    fn min_size(_version: i16, flexible: bool) -> usize {
        if flexible { 1 } else { 4 }
    }
}

impl<T: Field> Nullable for Vec<T> {
    fn read_nullable(decoder: &mut Decoder, version: i16) -> Result<Option<Self>, DecodeError> {
        let element_size = T::min_size(version, decoder.is_flexible());
        let Some(count) = decoder.read_count(element_size, size_of::<T>())? else {
            return Ok(None);
        };
        // Bounded: `read_count` has checked it against the bytes left and the decoder's allocation limit.
        let mut elements = Self::with_capacity(count);
        for _ in 0..count {
            elements.push(T::read(decoder, version)?);
        }
        Ok(Some(elements))
    }

    fn write_nullable(value: Option<&Self>, encoder: &mut Encoder, version: i16) -> Result<(), EncodeError> {
        encoder.put_length(value.map(Self::len))?;
        for element in value.into_iter().flatten() {
            element.write(encoder, version)?;
        }
        Ok(())
    }
}

/// A nullable struct: one byte, negative for null, else 1 and the struct (KIP-893).
pub fn read_nullable_struct<T: Field>(decoder: &mut Decoder, version: i16) -> Result<Option<T>, DecodeError> {
    if decoder.read_i8()? < 0 {
        return Ok(None);
    }
    T::read(decoder, version).map(Some)
}

/// See [`read_nullable_struct`].
pub fn write_nullable_struct<T: Field>(
    value: Option<&T>,
    encoder: &mut Encoder,
    version: i16,
) -> Result<(), EncodeError> {
    if let Some(value) = value {
        encoder.put_i8(1);
        value.write(encoder, version)
    } else {
        encoder.put_i8(-1);
        Ok(())
    }
}
