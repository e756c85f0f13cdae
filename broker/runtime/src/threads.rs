// SPDX-License-Identifier: Apache-2.0
//! The process's threads and descriptors. Nothing else.
use std::io;

use rustix::process::{Resource, getrlimit, setrlimit};

/// The asynchronous runtime: `workers` threads, or one per core that the process may use.
pub fn runtime(workers: Option<usize>) -> io::Result<tokio::runtime::Runtime> {
    builder(workers).build()
}

/// What makes such a runtime.
pub(crate) fn builder(workers: Option<usize>) -> tokio::runtime::Builder {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(workers) = workers {
        builder.worker_threads(workers);
    }
    builder
        .thread_name("serve")
        // Deep recursion is nowhere: 512 KiB is four times what the deepest handler was seen to use.
        .thread_stack_size(512 * 1024)
        // Fsyncs and openings of logs; more would only queue at the disk.
        .max_blocking_threads(16)
        .enable_all();
    builder
}

/// Raises the limit of open files to what is allowed and returns it.
pub fn raise_open_files() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let before = limit;
        limit.current = limit.maximum;
        if setrlimit(Resource::Nofile, limit).is_err() {
            limit = before;
        }
    }
    limit.current.unwrap_or(1 << 20)
}
