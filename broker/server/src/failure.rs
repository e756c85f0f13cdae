// SPDX-License-Identifier: Apache-2.0
//! The one way to say that the broker cannot go on (a failed fsync, a broken metadata log). The binaries wait for it.
use std::sync::OnceLock;

use tokio_util::sync::CancellationToken;

/// Set once, seen by all.
#[derive(Debug, Default)]
pub struct Failure {
    reason: OnceLock<String>,
    happened: CancellationToken,
}

impl Failure {
    /// The broker cannot go on. Only the first reason is kept.
    pub fn fail(&self, reason: String) {
        tracing::error!(%reason, "the broker cannot go on");
        let _ = self.reason.set(reason);
        self.happened.cancel();
    }

    /// Why, if it has failed.
    pub fn reason(&self) -> Option<&str> {
        self.reason.get().map(String::as_str)
    }

    /// Waits for a failure.
    pub async fn wait(&self) -> String {
        self.happened.cancelled().await;
        self.reason().unwrap_or_default().to_owned()
    }
}
