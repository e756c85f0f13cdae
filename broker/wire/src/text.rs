// SPDX-License-Identifier: Apache-2.0
//! `Text`: a UTF-8 string that may be a slice of a received frame.
//! It must not know the wire encoding of strings.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use bytes::Bytes;

/// An immutable UTF-8 string, cheap to clone.
///
/// A `Text` that was decoded keeps the whole frame it came from in memory: before storing one for longer
/// than the request, make it own its bytes with [`Text::detached`] or [`str::to_owned`].
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Text(Bytes);

impl Text {
    /// A text of static storage; costs no allocation.
    pub const fn from_static(text: &'static str) -> Self {
        Self(Bytes::from_static(text.as_bytes()))
    }

    /// A text that shares `bytes`; an error if they are not UTF-8.
    pub fn from_utf8(bytes: Bytes) -> Result<Self, std::str::Utf8Error> {
        std::str::from_utf8(&bytes)?;
        Ok(Self(bytes))
    }

    /// A text of its own with what is not UTF-8 replaced by U+FFFD. Allocates its length at once.
    pub fn from_utf8_lossy(bytes: &[u8]) -> Self {
        let mend = |part: std::str::Utf8Chunk<'_>| (part.valid().len(), !part.invalid().is_empty());
        let length = bytes.utf8_chunks().map(mend).map(|(valid, bad)| valid + if bad { 3 } else { 0 }).sum();
        let mut text = String::with_capacity(length);
        for part in bytes.utf8_chunks() {
            text.push_str(part.valid());
            if !part.invalid().is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        Self::from(text)
    }

    /// The string itself.
    #[allow(unsafe_code)]
    pub fn as_str(&self) -> &str {
        // SAFETY: every constructor takes a `str` or checks the bytes, which are immutable afterwards.
        unsafe { std::str::from_utf8_unchecked(&self.0) }
    }

    /// The same text in storage of its own, so that it does not keep a received frame alive.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }

    /// The bytes, shared.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

// As `str`, so that maps with `Text` keys can be asked with a `str`. Equality and order of UTF-8 bytes are
// those of the strings.
impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl PartialEq<String> for Text {
    fn eq(&self, other: &String) -> bool {
        self.as_str() == other
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(Bytes::from(text))
    }
}

impl From<&String> for Text {
    fn from(text: &String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.as_str().to_owned()
    }
}

impl From<&Text> for String {
    fn from(text: &Text) -> Self {
        text.as_str().to_owned()
    }
}

impl fmt::Display for Text {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), formatter)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_utf8_is_replaced_as_java_does() {
        // As `new String(bytes, UTF_8)`: one replacement for each longest beginning of a character, and for each byte
        // that begins none.
        let cases: [(&[u8], &str); 7] = [
            (b"plain", "plain"),
            (b"a\xffb", "a\u{fffd}b"),
            (b"\xff\xfe", "\u{fffd}\u{fffd}"),
            (b"\xe2\x82", "\u{fffd}"),
            (b"\xe2\x82x", "\u{fffd}x"),
            (b"\xf0\x9f\x98\x80\x80", "\u{1f600}\u{fffd}"),
            (b"\xc0\xaf", "\u{fffd}\u{fffd}"),
        ];
        for (bytes, expected) in cases {
            let text = Text::from_utf8_lossy(bytes);
            assert_eq!(&*text, expected, "{bytes:x?}");
            assert_eq!(&*text, String::from_utf8_lossy(bytes), "{bytes:x?}");
        }
    }
}
