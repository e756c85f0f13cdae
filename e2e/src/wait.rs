// SPDX-License-Identifier: Apache-2.0
//! Waiting for a condition, with a deadline and with what was missing last in the error.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const PERIOD: Duration = Duration::from_millis(100);
const LAST_LOOK: Duration = Duration::from_secs(10);

/// Calls `look` until it gives `Ok`, every 100 ms, and returns that. After `patience` it fails with the
/// last error: `look` says by its error what is missing.
pub async fn until<T>(what: &str, patience: Duration, mut look: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        // The last look gets the time to say what is missing, too.
        let left = deadline.saturating_duration_since(Instant::now()).max(LAST_LOOK);
        let missing = match tokio::time::timeout(left, look()).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => "no answer".to_owned(),
        };
        if Instant::now() > deadline {
            bail!("{what}: not after {patience:?}: {missing}");
        }
        tokio::time::sleep(PERIOD).await;
    }
}
