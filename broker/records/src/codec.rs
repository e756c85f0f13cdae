// SPDX-License-Identifier: Apache-2.0
//! The codecs of batches, as Kafka's clients write them: gzip, snappy (Xerial's framing or one raw block), LZ4
//! (frames of independent blocks), zstd.
//!
//! Decompressing goes block by block into a [`Window`] and stops at a limit: neither a declared nor a real size can
//! make it allocate or run beyond that. Must not know what the bytes are.

mod gzip;
mod lz4;
mod snappy;
mod window;
mod zstd;

pub(crate) use self::window::Window;

use std::cell::RefCell;

use thiserror::Error;

/// Most bytes that the records of one batch may decompress to: 100 MiB, Kafka's `socket.request.max.bytes`. More
/// than that could not have been produced uncompressed either. At the default `max.message.bytes` it allows a ratio
/// of 100.
pub const DECOMPRESSED_BYTES_MAX: usize = 100 * 1024 * 1024;

/// How the records of a batch are compressed. The numbers stand in batches for ever.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy blocks in Xerial's framing.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// RFC 8878 (KIP-110).
    Zstd,
}

impl Compression {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec with this number.
    pub fn from_id(id: u8) -> Option<Self> {
        Self::ALL.get(usize::from(id)).copied()
    }

    /// Its number in the attributes of a batch.
    pub fn id(self) -> u8 {
        self as u8
    }

    /// Its name in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// Why bytes could not be decompressed.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum DecompressError {
    /// They are not what the codec writes.
    #[error("{codec} data is damaged: {cause}")]
    Damaged {
        /// The codec's name.
        codec: &'static str,
        /// What is wrong.
        cause: &'static str,
    },
    /// They become more than allowed.
    #[error("they decompress to over {limit} bytes")]
    TooLarge {
        /// What is allowed.
        limit: usize,
    },
}

/// The parts of the codecs that are worth keeping from batch to batch.
pub(crate) struct DecompressorState {
    gzip: Option<flate2::Decompress>,
    snappy: snap::raw::Decoder,
    zstd: Option<::zstd::zstd_safe::DCtx<'static>>,
}

impl DecompressorState {
    pub(crate) fn new() -> Self {
        Self { gzip: None, snappy: snap::raw::Decoder::new(), zstd: None }
    }

    /// Begins with one batch.
    pub(crate) fn start<'s, 'i>(
        &'s mut self,
        codec: Compression,
        input: &'i [u8],
        limit: usize,
    ) -> Result<Decompressor<'s, 'i>, DecompressError> {
        let kind = match codec {
            Compression::None => Kind::Stored { input },
            Compression::Gzip => Kind::Gzip(gzip::Gzip::new(&mut self.gzip, input)),
            Compression::Snappy => Kind::Snappy(snappy::Snappy::new(&mut self.snappy, input)),
            Compression::Lz4 => Kind::Lz4(lz4::Lz4::new(input)?),
            Compression::Zstd => Kind::Zstd(zstd::Zstd::new(&mut self.zstd, input)?),
        };
        Ok(Decompressor { kind, produced: 0, limit })
    }

    /// Gives contexts back that one large batch has made large.
    pub(crate) fn release_large(&mut self) {
        if self.zstd.as_ref().is_some_and(|context| context.sizeof() > zstd::KEPT_BYTES_MAX) {
            self.zstd = None;
        }
    }
}

/// One batch being decompressed.
pub(crate) struct Decompressor<'s, 'i> {
    kind: Kind<'s, 'i>,
    produced: usize,
    limit: usize,
}

enum Kind<'s, 'i> {
    Stored { input: &'i [u8] },
    Gzip(gzip::Gzip<'s, 'i>),
    Snappy(snappy::Snappy<'s, 'i>),
    Lz4(lz4::Lz4<'i>),
    Zstd(zstd::Zstd<'s, 'i>),
}

impl Decompressor<'_, '_> {
    /// Appends some bytes to the window; false at the end. `room` in the codecs is what the limit leaves, so they
    /// can refuse a block by its declared size; that the sum stays within is checked here for all of them.
    pub(crate) fn fill(&mut self, window: &mut Window) -> Result<bool, DecompressError> {
        let too_large = DecompressError::TooLarge { limit: self.limit };
        let room = self.limit - self.produced;
        let before = window.available();
        let more = match &mut self.kind {
            Kind::Stored { input } => {
                let taken = std::mem::take(input);
                if taken.len() > room {
                    return Err(too_large);
                }
                window.append(taken);
                !taken.is_empty()
            }
            Kind::Gzip(gzip) => gzip.fill(window)?,
            Kind::Snappy(snappy) => snappy.fill(window, room).map_err(|error| error.unwrap_or(too_large))?,
            Kind::Lz4(lz4) => lz4.fill(window)?,
            Kind::Zstd(zstd) => zstd.fill(window)?,
        };
        let appended = window.available() - before;
        if appended > room {
            return Err(too_large);
        }
        self.produced += appended;
        Ok(more)
    }
}

thread_local! {
    /// Contexts for whole batches ([`decompress`]), apart from those of validation.
    static STATE: RefCell<DecompressorState> = RefCell::new(DecompressorState::new());
}

/// Decompresses all of `input`; to `limit` bytes at most, which also bounds the memory (at most twice that, while the
/// buffer grows).
pub fn decompress(codec: Compression, input: &[u8], limit: usize) -> Result<Vec<u8>, DecompressError> {
    STATE.with_borrow_mut(|state| {
        let mut window = Window::new();
        let result = state.start(codec, input, limit).and_then(|mut decompressor| {
            while decompressor.fill(&mut window)? {}
            Ok(())
        });
        state.release_large();
        result.map(|()| window.into_vec())
    })
}

/// Compresses all of `input` at the codec's default level, in the form that Kafka's clients write.
pub fn compress(codec: Compression, input: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    compress_into(codec, input, &mut out);
    out
}

/// As [`compress`], appending to `out`.
pub(crate) fn compress_into(codec: Compression, input: &[u8], out: &mut Vec<u8>) {
    match codec {
        Compression::None => out.extend_from_slice(input),
        Compression::Gzip => gzip::compress_into(input, out),
        Compression::Snappy => snappy::compress_into(input, out),
        Compression::Lz4 => lz4::compress_into(input, out),
        Compression::Zstd => zstd::compress_into(input, out),
    }
}
