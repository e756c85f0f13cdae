// SPDX-License-Identifier: Apache-2.0
//! The allocator of this binary and its settings; nothing else.
#![allow(unsafe_code)]

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Small when idle: freed pages go back to the system within a second, by a thread of the allocator's own; two arenas
/// are enough for a thread per core, as threads keep caches of their own.
// SAFETY: jemalloc reads this symbol once at start as a pointer to a text that ends in zero. The first word of a
// slice reference is that pointer, the text is static and ends in zero, and no other definition exists.
#[unsafe(export_name = "_rjem_malloc_conf")]
pub(crate) static CONFIGURATION: &[u8] = b"background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0,narenas:2\0";
