// SPDX-License-Identifier: Apache-2.0
//! Snappy as Kafka's Java client writes it: Xerial's framing, a header and then blocks with their length before
//! them; as in Java's reader, anything without that header is one raw block, and a header may come again.

use snap::raw::{Decoder, decompress_len};

use super::{DecompressError, Window};

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// The magic, the version, the lowest version that can read it.
const HEADER_BYTES: usize = 16;
/// The first four bytes of the header, where a block's length could be: another header begins.
const MAGIC_HEAD: u32 = 0x8253_4e41;
/// Block size of Xerial's writer.
const BLOCK_BYTES: usize = 32 * 1024;
/// A copy writes at most 64 bytes and takes at least 3, or at most 11 and takes 2: no block grows by more than 64/3.
const RATIO_MAX: usize = 22;

pub(super) struct Snappy<'s, 'i> {
    decoder: &'s mut Decoder,
    input: &'i [u8],
    framed: bool,
}

impl<'s, 'i> Snappy<'s, 'i> {
    pub(super) fn new(decoder: &'s mut Decoder, input: &'i [u8]) -> Self {
        match input.split_at_checked(HEADER_BYTES) {
            Some((header, blocks)) if header.starts_with(&MAGIC) => Self { decoder, input: blocks, framed: true },
            _ => Self { decoder, input, framed: false },
        }
    }

    /// `Err(None)` says that the next block would not fit into `room`.
    pub(super) fn fill(&mut self, window: &mut Window, room: usize) -> Result<bool, Option<DecompressError>> {
        let damaged = |cause| Some(DecompressError::Damaged { codec: "snappy", cause });
        loop {
            let block = if self.framed {
                let Some((head, rest)) = self.input.split_first_chunk::<4>() else {
                    return if self.input.is_empty() { Ok(false) } else { Err(damaged("it is cut off")) };
                };
                let length = u32::from_be_bytes(*head);
                if length == MAGIC_HEAD {
                    self.input = rest.get(HEADER_BYTES - 4..).ok_or_else(|| damaged("it is cut off"))?;
                    continue;
                }
                let (block, rest) = rest.split_at_checked(length as usize).ok_or_else(|| damaged("it is cut off"))?;
                self.input = rest;
                block
            } else {
                std::mem::take(&mut self.input)
            };
            if block.is_empty() {
                if self.framed {
                    continue;
                }
                return Ok(false);
            }
            let size = decompress_len(block).map_err(|_| damaged("it does not decode"))?;
            if size > block.len().saturating_mul(RATIO_MAX) {
                return Err(damaged("a block declares more bytes than it can hold"));
            }
            if size > room {
                return Err(None);
            }
            let spare = window.spare(size);
            let written = self.decoder.decompress(block, spare).map_err(|_| damaged("it does not decode"))?;
            window.filled(written);
            if written > 0 {
                return Ok(true);
            }
        }
    }
}

pub(super) fn compress_into(input: &[u8], out: &mut Vec<u8>) {
    let mut encoder = snap::raw::Encoder::new();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&1u32.to_be_bytes());
    out.extend_from_slice(&1u32.to_be_bytes());
    for block in input.chunks(BLOCK_BYTES) {
        let compressed = encoder.compress_vec(block).expect("a block of 32 KiB can always be compressed");
        out.extend_from_slice(&(compressed.len() as u32).to_be_bytes());
        out.extend_from_slice(&compressed);
    }
}
