// SPDX-License-Identifier: Apache-2.0
//! What a broker knows of its cluster, for who runs several. It must not know how it came to know.
use std::collections::BTreeMap;

use odradek_metadata::Image;
use odradek_server::controller::ControllerStatus;

/// The cluster as one broker's newest image shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// How new it is: of two views the one with the higher end is the newer.
    pub end: i64,
    /// The controller epoch of which it knows.
    pub controller_epoch: i64,
    /// Whether it is the controller, as far as it knows: of two that say so the one with the higher epoch is.
    pub is_controller: bool,
    /// How many brokers vote on the metadata.
    pub voters: usize,
    /// How many partitions each registered broker leads.
    pub leaders: BTreeMap<i32, usize>,
}

impl View {
    pub(crate) fn of(image: &Image, status: &ControllerStatus) -> Self {
        let leaders = image.brokers().map(|broker| (broker.id.0, image.leadership_count(broker.id)));
        Self {
            end: image.end_offset(),
            controller_epoch: status.epoch,
            is_controller: status.leads,
            voters: status.voters,
            leaders: leaders.collect(),
        }
    }
}
