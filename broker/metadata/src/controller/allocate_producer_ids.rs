// SPDX-License-Identifier: Apache-2.0
//! Producer ids are handed to brokers in blocks and never used again (`ProducerIdControlManager` in Kafka).

use odradek_model::{BrokerEpoch, BrokerId, ProducerId};
use thiserror::Error;

use super::Decision;
use crate::Image;
use crate::records::ProducerIdsRecord;

/// Ids in a block (`ProducerIdsBlock.PRODUCER_ID_BLOCK_SIZE`).
pub const PRODUCER_ID_BLOCK: i64 = 1000;

/// A broker needs a block of ids.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AllocateProducerIds {
    /// The broker.
    pub broker_id: BrokerId,
    /// Its registration.
    pub broker_epoch: BrokerEpoch,
}

/// Ids that are the broker's alone: `first` to `first + len - 1`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProducerIdBlock {
    /// The first id.
    pub first: ProducerId,
    /// How many, at least 1.
    pub len: i64,
}

/// Why no block was given.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum AllocateProducerIdsError {
    /// Not registered (`BROKER_ID_NOT_REGISTERED`).
    #[error("broker {0} is not registered")]
    UnknownBroker(BrokerId),
    /// Of an earlier registration (`STALE_BROKER_EPOCH`).
    #[error("broker epoch {given} is stale, the present one is {present}")]
    StaleBrokerEpoch {
        /// The request's.
        given: BrokerEpoch,
        /// The image's.
        present: BrokerEpoch,
    },
    /// All 2^63 ids are used (`UNKNOWN_SERVER_ERROR`).
    #[error("all producer ids are used")]
    Exhausted,
}

pub(super) fn decide(
    image: &Image,
    command: &AllocateProducerIds,
) -> Decision<Result<ProducerIdBlock, AllocateProducerIdsError>> {
    let refuse = |error| Decision { records: Vec::new(), reply: Err(error) };
    let Some(broker) = image.broker(command.broker_id) else {
        return refuse(AllocateProducerIdsError::UnknownBroker(command.broker_id));
    };
    if broker.epoch != command.broker_epoch {
        let (given, present) = (command.broker_epoch, broker.epoch);
        return refuse(AllocateProducerIdsError::StaleBrokerEpoch { given, present });
    }
    let first = image.next_producer_id();
    let Some(next_producer_id) = first.checked_add(PRODUCER_ID_BLOCK) else {
        return refuse(AllocateProducerIdsError::Exhausted);
    };
    let record =
        ProducerIdsRecord { broker_id: command.broker_id.0, broker_epoch: command.broker_epoch, next_producer_id };
    Decision { records: vec![record.into()], reply: Ok(ProducerIdBlock { first, len: PRODUCER_ID_BLOCK }) }
}
