// SPDX-License-Identifier: Apache-2.0
//! The operator finalises an upgrade: records of a newer level may be written from then on, and versions that do not
//! know them are refused.

use odradek_model::BrokerId;
use thiserror::Error;

use super::Decision;
use crate::records::FeatureLevelRecord;
use crate::{Image, SUPPORTED_FEATURE_LEVEL};

/// The feature level is to be raised.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UpdateFeatureLevel {
    /// The level wanted.
    pub level: u32,
    /// Only say what would happen.
    pub validate_only: bool,
}

/// Why the level was not raised (`FEATURE_UPDATE_FAILED`, 96, unless said otherwise).
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum UpdateFeatureLevelError {
    /// Levels never fall: what was written under the present one could not be read.
    #[error("the feature level is {present} and cannot fall to {wanted}")]
    Downgrade {
        /// The image's.
        present: u32,
        /// The request's.
        wanted: u32,
    },
    /// This version does not know it.
    #[error("the controller supports feature levels up to {SUPPORTED_FEATURE_LEVEL}, not {0}")]
    Unsupported(u32),
    /// A registered broker would not understand it.
    #[error("broker {broker} supports feature levels up to {supported}: upgrade it, or unregister it, first")]
    BrokerTooOld {
        /// Which.
        broker: BrokerId,
        /// What it knows.
        supported: u32,
    },
}

pub(super) fn decide(image: &Image, command: &UpdateFeatureLevel) -> Decision<Result<u32, UpdateFeatureLevelError>> {
    let (present, wanted) = (image.feature_level(), command.level);
    let refuse = |error| Decision { records: Vec::new(), reply: Err(error) };
    if wanted < present {
        return refuse(UpdateFeatureLevelError::Downgrade { present, wanted });
    }
    if wanted > SUPPORTED_FEATURE_LEVEL {
        return refuse(UpdateFeatureLevelError::Unsupported(wanted));
    }
    if let Some(broker) = image.brokers().find(|broker| broker.supported_feature_level.max(1) < wanted) {
        let supported = broker.supported_feature_level.max(1);
        return refuse(UpdateFeatureLevelError::BrokerTooOld { broker: broker.id, supported });
    }
    let records = if wanted == present || command.validate_only {
        vec![]
    } else {
        vec![FeatureLevelRecord { level: wanted }.into()]
    };
    Decision { records, reply: Ok(wanted) }
}
