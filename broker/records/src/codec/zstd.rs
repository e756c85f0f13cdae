// SPDX-License-Identifier: Apache-2.0
//! Zstandard: one or more frames, streamed through a context that is used again.

use std::cell::RefCell;

use zstd::zstd_safe::{CCtx, DCtx, InBuffer, OutBuffer, ResetDirective};

use super::{DecompressError, Window};

/// Room offered per step: half a zstd block.
const STEP_BYTES: usize = 64 * 1024;
/// A context grows to the window of the frame it reads: 2 MiB at the default level, 128 MiB at the highest. Above
/// this it is not kept; what a large window takes until then is only touched as far as bytes are really written.
pub(super) const KEPT_BYTES_MAX: usize = 4 * 1024 * 1024;

pub(super) struct Zstd<'s, 'i> {
    context: &'s mut DCtx<'static>,
    input: &'i [u8],
    /// Whether a frame has been read to its end and no other begun.
    between_frames: bool,
}

fn damaged(cause: &'static str) -> DecompressError {
    DecompressError::Damaged { codec: "zstd", cause }
}

impl<'s, 'i> Zstd<'s, 'i> {
    pub(super) fn new(context: &'s mut Option<DCtx<'static>>, input: &'i [u8]) -> Result<Self, DecompressError> {
        let context = context.get_or_insert_with(DCtx::create);
        context.reset(ResetDirective::SessionOnly).map_err(|_| damaged("its context cannot be used again"))?;
        Ok(Self { context, input, between_frames: true })
    }

    pub(super) fn fill(&mut self, window: &mut Window) -> Result<bool, DecompressError> {
        loop {
            if self.input.is_empty() && self.between_frames {
                return Ok(false);
            }
            let spare = &mut window.spare(STEP_BYTES)[..STEP_BYTES];
            let mut output = OutBuffer::around(spare);
            let mut input = InBuffer::around(self.input);
            let left =
                self.context.decompress_stream(&mut output, &mut input).map_err(|_| damaged("it does not decode"))?;
            let (read, written) = (input.pos(), output.pos());
            self.input = &self.input[read..];
            self.between_frames = left == 0;
            window.filled(written);
            if written > 0 {
                return Ok(true);
            }
            if read == 0 && !self.between_frames {
                return Err(damaged("it is cut off"));
            }
        }
    }
}

thread_local! {
    static COMPRESSOR: RefCell<CCtx<'static>> = RefCell::new(CCtx::create());
}

pub(super) fn compress_into(input: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + zstd::zstd_safe::compress_bound(input.len()), 0);
    let written = COMPRESSOR
        .with_borrow_mut(|context| context.compress(&mut out[start..], input, zstd::DEFAULT_COMPRESSION_LEVEL))
        .expect("there is room for the worst case");
    out.truncate(start + written);
}
