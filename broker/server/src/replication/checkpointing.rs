// SPDX-License-Identifier: Apache-2.0
//! Writes the checkpoints after logs were cut. After an election many are at once: they share one write.
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::{Links, Replication};

/// Pause after checkpoints could not be written, on a full disk for instance. Nothing is fetched for the cut replicas
/// meanwhile.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) async fn run(replication: Arc<Replication>, links: Links) {
    loop {
        tokio::select! {
            () = replication.was_cut.notified() => {}
            () = links.stopping.cancelled() => return,
        }
        let cut = std::mem::take(&mut *replication.cut.lock().unwrap_or_else(PoisonError::into_inner));
        if cut.is_empty() {
            continue;
        }
        loop {
            let Some(broker) = links.broker.upgrade() else { return };
            let write = move || {
                let logs = broker.folder.checkpoint_logs(&broker.replicas);
                logs.and_then(|()| broker.folder.checkpoint_high_watermarks(&broker.replicas))
            };
            match tokio::task::spawn_blocking(write).await {
                Ok(Ok(())) => break,
                Ok(Err(error)) => tracing::warn!(%error, "no checkpoints are written after logs were cut"),
                Err(error) => tracing::error!(%error, "writing checkpoints"),
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = links.stopping.cancelled() => return,
            }
        }
        for replica in cut {
            replica.checkpointed();
            replication.ready(replica.key());
        }
    }
}
