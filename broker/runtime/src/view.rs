// SPDX-License-Identifier: Apache-2.0
//! What a broker knows of its cluster, for who runs several. It must not know how it came to know.
use std::collections::BTreeMap;

use odradek_metadata::Image;

/// The cluster as one broker's newest image shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// How new it is: of two views the one with the higher end is the newer.
    pub end: i64,
    /// The broker that has led the metadata last.
    pub controller: Option<i32>,
    /// How many partitions each registered broker leads.
    pub leaders: BTreeMap<i32, usize>,
}

impl View {
    pub(crate) fn of(image: &Image) -> Self {
        let leaders = image.brokers().map(|broker| (broker.id.0, image.leadership_count(broker.id)));
        Self {
            end: image.end_offset(),
            controller: image.controller().map(|controller| controller.broker_id.0),
            leaders: leaders.collect(),
        }
    }
}
