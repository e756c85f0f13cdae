// SPDX-License-Identifier: Apache-2.0
//! The newest image that was taken over, as all parts of the broker see it: replicas too, which ask it about other
//! brokers. They have been told what it decides about them before it is seen here.
use std::sync::{Arc, PoisonError, RwLock};

use odradek_metadata::Image;
use odradek_model::BrokerId;
use odradek_partition::{BrokerStatus, Brokers};

#[derive(Debug, Default)]
pub(super) struct NewestImage {
    image: RwLock<Arc<Image>>,
}

impl NewestImage {
    pub(super) fn get(&self) -> Arc<Image> {
        Arc::clone(&self.image.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set(&self, image: Arc<Image>) {
        *self.image.write().unwrap_or_else(PoisonError::into_inner) = image;
    }
}

impl Brokers for NewestImage {
    fn status(&self, broker: BrokerId) -> Option<BrokerStatus> {
        let image = self.image.read().unwrap_or_else(PoisonError::into_inner);
        image.broker(broker).map(|broker| BrokerStatus {
            epoch: broker.epoch,
            fenced: broker.fenced,
            shutting_down: broker.shutting_down_at.is_some(),
        })
    }
}
