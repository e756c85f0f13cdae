// SPDX-License-Identifier: Apache-2.0
//! Gzip: one or more members; as in Java's reader, bytes after a member that do not begin another are ignored.

use std::io::Write as _;

use flate2::{Decompress, FlushDecompress, Status};

use super::{DecompressError, Window};

/// Room offered per step: what Kafka's own reader takes at once (16 KiB) is small for us; 64 KiB stays in L2.
const STEP_BYTES: usize = 64 * 1024;
const MEMBER_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// Largest window that deflate has.
const WINDOW_BITS: u8 = 15;

pub(super) struct Gzip<'s, 'i> {
    context: &'s mut Decompress,
    input: &'i [u8],
    ended: bool,
}

impl<'s, 'i> Gzip<'s, 'i> {
    pub(super) fn new(context: &'s mut Option<Decompress>, input: &'i [u8]) -> Self {
        let context = context.get_or_insert_with(|| Decompress::new_gzip(WINDOW_BITS));
        // True keeps the gzip header that `new_gzip` asked for.
        context.reset(true);
        Self { context, input, ended: false }
    }

    pub(super) fn fill(&mut self, window: &mut Window) -> Result<bool, DecompressError> {
        let damaged = |cause| DecompressError::Damaged { codec: "gzip", cause };
        while !self.ended {
            let spare = window.spare(STEP_BYTES);
            let (read_before, written_before) = (self.context.total_in(), self.context.total_out());
            let status = self
                .context
                .decompress(self.input, &mut spare[..STEP_BYTES], FlushDecompress::None)
                .map_err(|_| damaged("it does not decode"))?;
            let read = (self.context.total_in() - read_before) as usize;
            let written = (self.context.total_out() - written_before) as usize;
            self.input = &self.input[read..];
            window.filled(written);
            match status {
                Status::StreamEnd if self.input.starts_with(&MEMBER_MAGIC) => self.context.reset(true),
                Status::StreamEnd => self.ended = true,
                Status::Ok | Status::BufError if read == 0 && written == 0 => return Err(damaged("it is cut off")),
                Status::Ok | Status::BufError => {}
            }
            if written > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

pub(super) fn compress_into(input: &[u8], out: &mut Vec<u8>) {
    let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::default());
    encoder.write_all(input).and_then(|()| encoder.finish()).expect("writing to memory does not fail");
}
