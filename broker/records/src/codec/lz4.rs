// SPDX-License-Identifier: Apache-2.0
//! LZ4 frames as `Lz4BlockInputStream` in Kafka reads them: blocks must be independent, block checksums are checked
//! if they are there, content size and content checksum are passed over, what follows the end mark is ignored.

use twox_hash::XxHash32;

use super::{DecompressError, Window};

const MAGIC: u32 = 0x184d_2204;
const BLOCK_STORED: u32 = 0x8000_0000;

const FLAG_VERSION: u8 = 0xc0;
const FLAG_VERSION_1: u8 = 0x40;
const FLAG_INDEPENDENT: u8 = 0x20;
const FLAG_BLOCK_CHECKSUM: u8 = 0x10;
const FLAG_CONTENT_SIZE: u8 = 0x08;
const FLAG_RESERVED: u8 = 0x02;
const FLAG_DICTIONARY: u8 = 0x01;

/// A match length grows by 255 for each byte it takes.
const RATIO_MAX: usize = 255;

pub(super) struct Lz4<'i> {
    input: &'i [u8],
    block_checksums: bool,
    block_bytes_max: usize,
    ended: bool,
}

fn damaged(cause: &'static str) -> DecompressError {
    DecompressError::Damaged { codec: "lz4", cause }
}

fn take<'i>(input: &mut &'i [u8], count: usize) -> Result<&'i [u8], DecompressError> {
    let (taken, rest) = input.split_at_checked(count).ok_or_else(|| damaged("it is cut off"))?;
    *input = rest;
    Ok(taken)
}

fn take_u32(input: &mut &[u8]) -> Result<u32, DecompressError> {
    let bytes = take(input, 4)?;
    Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

impl<'i> Lz4<'i> {
    pub(super) fn new(mut input: &'i [u8]) -> Result<Self, DecompressError> {
        if take_u32(&mut input)? != MAGIC {
            return Err(damaged("it does not begin with a frame"));
        }
        let start = input;
        let descriptor = take(&mut input, 2)?;
        let (flags, block_descriptor) = (descriptor[0], descriptor[1]);
        if flags & FLAG_VERSION != FLAG_VERSION_1 || flags & (FLAG_RESERVED | FLAG_DICTIONARY) != 0 {
            return Err(damaged("its frame has flags that are not supported"));
        }
        if flags & FLAG_INDEPENDENT == 0 {
            return Err(damaged("its blocks depend on each other, which Kafka does not support"));
        }
        let block_bytes_max = match block_descriptor {
            0x40 => 64 * 1024,
            0x50 => 256 * 1024,
            0x60 => 1024 * 1024,
            0x70 => 4 * 1024 * 1024,
            _ => return Err(damaged("its block size is unknown")),
        };
        if flags & FLAG_CONTENT_SIZE != 0 {
            take(&mut input, 8)?;
        }
        let hashed = &start[..start.len() - input.len()];
        let checksum = take(&mut input, 1)?[0];
        if checksum != (XxHash32::oneshot(0, hashed) >> 8) as u8 {
            return Err(damaged("the checksum of its frame is wrong"));
        }
        Ok(Self { input, block_checksums: flags & FLAG_BLOCK_CHECKSUM != 0, block_bytes_max, ended: false })
    }

    pub(super) fn fill(&mut self, window: &mut Window) -> Result<bool, DecompressError> {
        while !self.ended {
            let head = take_u32(&mut self.input)?;
            if head == 0 {
                self.ended = true;
                break;
            }
            let length = (head & !BLOCK_STORED) as usize;
            if length > self.block_bytes_max {
                return Err(damaged("a block is larger than its frame declares"));
            }
            let block = take(&mut self.input, length)?;
            if self.block_checksums && take_u32(&mut self.input)? != XxHash32::oneshot(0, block) {
                return Err(damaged("the checksum of a block is wrong"));
            }
            let written = if head & BLOCK_STORED == 0 {
                let room = self.block_bytes_max.min(length.saturating_mul(RATIO_MAX));
                let spare = &mut window.spare(room)[..room];
                lz4_flex::block::decompress_into(block, spare).map_err(|_| damaged("a block does not decode"))?
            } else {
                window.spare(length)[..length].copy_from_slice(block);
                length
            };
            window.filled(written);
            if written > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

pub(super) fn compress_into(input: &[u8], out: &mut Vec<u8>) {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    use std::io::Write as _;

    let info = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
    let mut encoder = FrameEncoder::with_frame_info(info, out);
    encoder.write_all(input).expect("writing to memory does not fail");
    encoder.finish().expect("writing to memory does not fail");
}
