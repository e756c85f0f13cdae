// SPDX-License-Identifier: Apache-2.0
//! Ids for idempotent producers, out of blocks from the controller. Ids left in a block when the broker stops are
//! lost, never given twice.
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use odradek_metadata::{AllocateProducerIds, ProducerIdBlock};
use odradek_model::ProducerId;

use crate::broker::Broker;

/// How long the controller is asked for a block. The producer's request waits meanwhile (`request.timeout.ms`, 30 s), and
/// is repeated after a refusal.
const PATIENCE: Duration = Duration::from_secs(10);

/// This broker's block.
#[derive(Debug, Default)]
pub struct ProducerIds {
    block: Mutex<Option<ProducerIdBlock>>,
    /// One request for a block at a time: others wait and find it.
    refilling: tokio::sync::Mutex<()>,
}

impl ProducerIds {
    /// The next id, if the block has one left.
    pub fn next(&self) -> Option<ProducerId> {
        let mut block = self.block.lock().unwrap_or_else(PoisonError::into_inner);
        let block = block.as_mut().filter(|block| block.len > 0)?;
        let id = block.first;
        block.first += 1;
        block.len -= 1;
        Some(id)
    }

    /// The next id, after asking the controller for a block if needed; `None` if it gives none now.
    pub async fn refill(&self, broker: &Broker) -> Option<ProducerId> {
        let _one = self.refilling.lock().await;
        if let Some(id) = self.next() {
            return Some(id);
        }
        let broker_epoch = broker.image().broker(broker.id)?.epoch;
        let command = AllocateProducerIds { broker_id: broker.id, broker_epoch };
        match broker.controller_client.allocate_producer_ids(&command, PATIENCE).await {
            Ok(Ok(block)) => *self.block.lock().unwrap_or_else(PoisonError::into_inner) = Some(block),
            Ok(Err(error)) => {
                tracing::warn!(%error, "no producer ids");
                return None;
            }
            Err(error) => {
                tracing::warn!(%error, "no producer ids");
                return None;
            }
        }
        self.next()
    }
}
