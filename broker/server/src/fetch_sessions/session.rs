// SPDX-License-Identifier: Apache-2.0
//! One fetch session (`FetchSession`): its partitions in the order in which they are read, and what its client knows of
//! each. It must not know other sessions.
use std::collections::{BTreeMap, HashMap};

use odradek_wire::messages::{FetchTopic, ForgottenTopic, PartitionData};
use odradek_wire::{ErrorCode, Records};

use super::watch::Watch;
use super::{Position, Requested, RequestedTopic};

/// Memory of one partition beside the text of its topic's name: its place in the order (160 bytes), in the look-up (64),
/// in a follower's watch (96) and its waker in the partition (160), and what trees and tables leave free of all (a third).
const PARTITION_BYTES: usize = 640;

/// A partition, and what its client was told last.
#[derive(Debug)]
struct Known {
    requested: Requested,
    /// -1: to be told again.
    high_watermark: i64,
    log_start_offset: i64,
}

/// A session.
#[derive(Debug)]
pub(crate) struct Session {
    /// Of the next request. 0 and -1 mean something else.
    epoch: i32,
    by_id: bool,
    places: HashMap<(RequestedTopic, i32), u64>,
    /// Who got records last comes last: a partition with much to read does not take the bytes of all others.
    in_order: BTreeMap<u64, Known>,
    next_place: u64,
    /// See [`Self::bytes`].
    bytes: usize,
    /// Between two requests of a follower.
    watch: Option<Watch>,
}

impl Session {
    /// The session that a first answer opens.
    pub(super) fn opened<'a>(by_id: bool, read: impl Iterator<Item = (&'a Requested, &'a PartitionData)>) -> Self {
        let (places, in_order) = (HashMap::new(), BTreeMap::new());
        let mut session = Self { epoch: 1, by_id, places, in_order, next_place: 0, bytes: 0, watch: None };
        let mut topic: Option<RequestedTopic> = None;
        for (requested, data) in read {
            let own = topic.take().filter(|own| *own == requested.topic).unwrap_or_else(|| kept(&requested.topic));
            let requested = Requested { topic: own.clone(), ..requested.clone() };
            session.add(requested, data.high_watermark, data.log_start_offset);
            topic = Some(own);
        }
        session
    }

    /// Which epoch the next request has.
    pub(super) fn epoch(&self) -> i32 {
        self.epoch
    }

    /// Whether topics are named by id.
    pub(super) fn by_id(&self) -> bool {
        self.by_id
    }

    /// Partitions.
    pub(super) fn len(&self) -> usize {
        self.in_order.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.in_order.is_empty()
    }

    /// Memory taken; names count with each partition, although the partitions of a request share them.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// A request has come in turn; the epoch of the next.
    pub(super) fn turn(&mut self) -> i32 {
        self.epoch = if self.epoch == i32::MAX { 1 } else { self.epoch + 1 };
        self.epoch
    }

    #[cfg(test)]
    pub(super) fn set_epoch(&mut self, epoch: i32) {
        self.epoch = epoch;
    }

    /// Takes over what a request says. Gives the watch away, in which what the request names has to be looked at.
    pub(super) fn update(&mut self, topics: &[FetchTopic], forgotten: &[ForgottenTopic]) -> Option<Watch> {
        let mut watch = self.watch.take();
        for topic in topics {
            let name = RequestedTopic::of(topic);
            let mut own = None;
            for partition in &topic.partitions {
                let position = Position::of(partition);
                let index = partition.partition;
                let topic = if let Some(place) = self.places.get(&(name.clone(), index)) {
                    let known = self.in_order.get_mut(place).expect("a place has its partition");
                    known.requested.position = position;
                    known.requested.topic.clone()
                } else {
                    let topic = own.get_or_insert_with(|| kept(&name)).clone();
                    self.add(Requested { topic: topic.clone(), partition: index, position, resolved: None }, -1, -1);
                    topic
                };
                if let Some(watch) = &mut watch {
                    watch.loosen((topic, index));
                }
            }
        }
        for topic in forgotten {
            let name = RequestedTopic { name: topic.topic.clone(), id: topic.topic_id };
            for partition in &topic.partitions {
                let at = (name.clone(), *partition);
                if let Some(place) = self.places.remove(&at) {
                    let known = self.in_order.remove(&place).expect("a place has its partition");
                    self.bytes -= bytes_of(&known.requested);
                }
                if let Some(watch) = &mut watch {
                    watch.forget(&at);
                }
            }
        }
        watch
    }

    /// Takes the watch back that [`Self::update`] gave.
    pub(super) fn keep(&mut self, watch: Option<Watch>) {
        self.watch = watch;
    }

    /// What to read, in order.
    pub(super) fn requested(&self) -> Vec<Requested> {
        self.in_order.values().map(|known| known.requested.clone()).collect()
    }

    /// Of that, these, in the same order.
    pub(super) fn requested_of<'a>(&self, names: impl Iterator<Item = &'a (RequestedTopic, i32)>) -> Vec<Requested> {
        let mut places: Vec<u64> = names.filter_map(|name| self.places.get(name).copied()).collect();
        places.sort_unstable();
        places.into_iter().map(|place| self.in_order[&place].requested.clone()).collect()
    }

    /// Whether the client is to be told of what was read: there are records, or something is not as it knows it. It
    /// counts as told.
    pub(super) fn is_news(&mut self, at: &Requested, data: &PartitionData) -> bool {
        let Some(place) = self.places.get_mut(&(at.topic.clone(), at.partition)) else { return false };
        let known = self.in_order.get_mut(place).expect("a place has its partition");
        if at.resolved.is_some() && known.requested.resolved != at.resolved {
            known.requested.resolved.clone_from(&at.resolved);
        }
        let has_records = data.records.as_ref().map_or(0, Records::len) > 0;
        let has_error = data.error_code != ErrorCode::None.code();
        let is_news = has_records
            || has_error
            || known.high_watermark != data.high_watermark
            || known.log_start_offset != data.log_start_offset
            || data.preferred_read_replica >= 0
            || data.diverging_epoch.epoch >= 0
            || data.diverging_epoch.end_offset >= 0;
        // Once an error is over the client is told, whatever there is.
        known.high_watermark = if has_error { -1 } else { data.high_watermark };
        known.log_start_offset = data.log_start_offset;
        if has_records {
            let known = self.in_order.remove(place).expect("a place has its partition");
            *place = self.next_place;
            self.in_order.insert(self.next_place, known);
            self.next_place += 1;
        }
        is_news
    }

    fn add(&mut self, requested: Requested, high_watermark: i64, log_start_offset: i64) {
        let place = self.next_place;
        self.next_place += 1;
        self.bytes += bytes_of(&requested);
        let before = self.places.insert((requested.topic.clone(), requested.partition), place);
        assert!(before.is_none(), "a partition is in a session once");
        self.in_order.insert(place, Known { requested, high_watermark, log_start_offset });
    }
}

/// The topic without the frame in which it came.
fn kept(topic: &RequestedTopic) -> RequestedTopic {
    RequestedTopic { name: topic.name.detached(), id: topic.id }
}

fn bytes_of(requested: &Requested) -> usize {
    PARTITION_BYTES + requested.topic.name.len()
}
