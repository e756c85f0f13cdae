// SPDX-License-Identifier: Apache-2.0
//! A registered broker is fenced, unfenced, begins its controlled shutdown, is cordoned, or is unregistered
//! (`handleBrokerFenced` and its neighbours in Kafka's `ReplicationControlManager`).
//!
//! Fencing, unfencing and shutdown are asked for by [`Sessions`](super::Sessions) or by the broker itself. Each carries
//! the broker's epoch, so that what was meant for an earlier incarnation does nothing to the next.

use odradek_model::{BrokerEpoch, BrokerId};
use thiserror::Error;

use super::partition_updates::{self, Changes};
use super::{ControllerSettings, Decision, Progress};
use crate::records::{BrokerChangeRecord, UnregisterBrokerRecord};
use crate::{BrokerImage, Image};

/// What a broker is to become.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BrokerState {
    /// Neither leading nor in sync.
    Fenced,
    /// Able to lead and to be in sync.
    Unfenced,
    /// About to stop: as if fenced, but it still answers, and it is told when it may stop.
    ShuttingDown,
}

/// A broker changes its state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChangeBrokerState {
    /// The broker.
    pub broker_id: BrokerId,
    /// Its registration.
    pub broker_epoch: BrokerEpoch,
    /// The new state.
    pub state: BrokerState,
}

/// New replicas are kept off a broker, or allowed again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CordonBroker {
    /// The broker.
    pub broker_id: BrokerId,
    /// Whether they are kept off.
    pub cordoned: bool,
}

/// A broker that is gone for good is forgotten. What it held counts as lost.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnregisterBroker {
    /// The broker.
    pub broker_id: BrokerId,
}

/// Why a broker's state was not changed.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum BrokerStateError {
    /// Not registered (`BROKER_ID_NOT_REGISTERED`, 102; from the broker itself `STALE_BROKER_EPOCH`, 77).
    #[error("broker {0} is not registered")]
    UnknownBroker(BrokerId),
    /// Of an earlier registration (`STALE_BROKER_EPOCH`, 77).
    #[error("broker epoch {given} is stale, the present one is {present}")]
    StaleBrokerEpoch {
        /// The request's.
        given: BrokerEpoch,
        /// The image's.
        present: BrokerEpoch,
    },
}

pub(super) type BrokerStateOutcome = Result<Progress, BrokerStateError>;

pub(super) fn change_state(
    image: &Image,
    settings: &ControllerSettings,
    command: &ChangeBrokerState,
) -> Decision<BrokerStateOutcome> {
    let broker = match registered(image, command.broker_id) {
        Ok(broker) if broker.epoch == command.broker_epoch => broker,
        Ok(broker) => {
            let (given, present) = (command.broker_epoch, broker.epoch);
            return refuse(BrokerStateError::StaleBrokerEpoch { given, present });
        }
        Err(error) => return refuse(error),
    };
    let there = match command.state {
        BrokerState::Fenced => broker.fenced,
        BrokerState::Unfenced => !broker.fenced,
        BrokerState::ShuttingDown => broker.fenced || broker.shutting_down_at.is_some(),
    };
    if there {
        return Decision { records: Vec::new(), reply: Ok(Progress::Complete) };
    }
    let record = BrokerChangeRecord {
        broker_id: broker.id.0,
        broker_epoch: broker.epoch,
        fenced: match command.state {
            BrokerState::Fenced => Some(true),
            BrokerState::Unfenced => Some(false),
            BrokerState::ShuttingDown => None,
        },
        shutting_down: command.state == BrokerState::ShuttingDown,
        cordoned: None,
    };
    if command.state == BrokerState::Unfenced {
        // Unfenced first: leaders are unfenced brokers at every offset. Partitions that did not fit into the batch are
        // tried again by the look after leaderless partitions.
        let mut records = vec![record.into()];
        if broker.shutting_down_at.is_none() {
            records.extend(partition_updates::arrive(image, settings, broker.id).records);
        }
        return Decision { records, reply: Ok(Progress::Complete) };
    }
    // Last: whoever has applied it has applied all that was handed over.
    finish(partition_updates::leave(image, settings, broker.id), || record.into())
}

pub(super) fn cordon(image: &Image, command: &CordonBroker) -> Decision<BrokerStateOutcome> {
    match registered(image, command.broker_id) {
        Err(error) => refuse(error),
        Ok(broker) if broker.cordoned == command.cordoned => {
            Decision { records: Vec::new(), reply: Ok(Progress::Complete) }
        }
        Ok(broker) => {
            let record = BrokerChangeRecord {
                broker_id: broker.id.0,
                broker_epoch: broker.epoch,
                cordoned: Some(command.cordoned),
                ..BrokerChangeRecord::default()
            };
            Decision { records: vec![record.into()], reply: Ok(Progress::Complete) }
        }
    }
}

pub(super) fn unregister(
    image: &Image,
    settings: &ControllerSettings,
    command: &UnregisterBroker,
) -> Decision<BrokerStateOutcome> {
    let broker = match registered(image, command.broker_id) {
        Ok(broker) => broker,
        Err(error) => return refuse(error),
    };
    let newly_lost = |key| image.partition(key).is_some_and(|partition| !partition.lost_logs.contains(&broker.id));
    let changes = partition_updates::leave_without_proof(image, settings, broker.id, newly_lost);
    finish(changes, || UnregisterBrokerRecord { broker_id: broker.id.0, broker_epoch: broker.epoch }.into())
}

fn finish(changes: Changes, last: impl FnOnce() -> crate::Record) -> Decision<BrokerStateOutcome> {
    let mut records = changes.records;
    if !changes.complete {
        return Decision { records, reply: Ok(Progress::AskAgain) };
    }
    records.push(last());
    Decision { records, reply: Ok(Progress::Complete) }
}

fn registered(image: &Image, id: BrokerId) -> Result<&BrokerImage, BrokerStateError> {
    image.broker(id).map(AsRef::as_ref).ok_or(BrokerStateError::UnknownBroker(id))
}

fn refuse(error: BrokerStateError) -> Decision<BrokerStateOutcome> {
    Decision { records: Vec::new(), reply: Err(error) }
}
