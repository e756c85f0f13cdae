// SPDX-License-Identifier: Apache-2.0
//! SIGTERM and SIGINT as something to wait for. Nothing else.
use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The wish to stop.
#[derive(Debug)]
pub struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    /// Takes over both signals; from here on they do not kill the process.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the first of them.
    pub async fn requested(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
