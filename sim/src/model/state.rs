// SPDX-License-Identifier: Apache-2.0
//! What a state of the model holds. Small and flat: tens of millions are visited.

use super::{Bounds, MAX_BROKERS, MAX_EPOCH, MAX_LOG};

/// Voters, one bit for each folder: a broker's first folder, then, [`MAX_BROKERS`] bits above, its second.
pub(super) type Voters = u16;

/// A record: its epoch, and the broker that wrote it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Record(u8);

impl Record {
    pub(super) fn new(epoch: u8, writer: usize) -> Self {
        Self(epoch << 3 | writer as u8)
    }

    pub(super) fn epoch(self) -> u8 {
        self.0 >> 3
    }

    pub(super) fn writer(self) -> usize {
        usize::from(self.0 & 7)
    }
}

/// A log or a part of one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Log {
    len: u8,
    records: [Record; MAX_LOG],
}

impl Log {
    pub(super) fn len(self) -> usize {
        usize::from(self.len)
    }

    pub(super) fn records(&self) -> &[Record] {
        &self.records[..self.len()]
    }

    pub(super) fn last_epoch(self) -> u8 {
        self.records().last().map_or(0, |record| record.epoch())
    }

    /// How far it reaches (rule 3).
    pub(super) fn position(self) -> (u8, usize) {
        (self.last_epoch(), self.len())
    }

    pub(super) fn push(&mut self, record: Record) {
        self.records[self.len()] = record;
        self.len += 1;
    }

    pub(super) fn cut(&mut self, len: usize) {
        // Cleared, so that equal logs are equal states.
        self.records[len..].fill(Record::default());
        self.len = len as u8;
    }

    /// The common beginning, as far as epochs tell: the last record of one epoch at one offset names all before it.
    pub(super) fn matched(self, other: Self) -> usize {
        let common = self.len().min(other.len());
        (0..common).find(|at| self.records[*at].epoch() != other.records[*at].epoch()).unwrap_or(common)
    }
}

/// A view of the Lease. `life` is its uid.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Lease {
    pub(super) life: u8,
    pub(super) epoch: u8,
    pub(super) sequence: u8,
    pub(super) holder: Option<u8>,
    pub(super) voters: Voters,
}

/// A write on its way: what it is based on, and the voters it leaves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Request {
    pub(super) life: u8,
    pub(super) sequence: u8,
    pub(super) epoch: u8,
    pub(super) holder: u8,
    pub(super) voters: Voters,
}

/// Whose promises a candidate needs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Needs {
    PromiseQuorum,
    Majority,
    /// All of these; the Lease is written last (rule 10).
    All(Voters),
}

/// What a broker is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Role {
    Follower,
    Candidate {
        epoch: u8,
        voters: Voters,
        needs: Needs,
        promised: Voters,
        best: Log,
    },
    /// `commit_end` only for the question whether it has grown.
    Controller {
        epoch: u8,
        commit_end: u8,
    },
}

/// What a broker has on disk, and what it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Broker {
    pub(super) log: Log,
    /// The epoch promised and to whom.
    pub(super) promised: (u8, u8),
    /// The newest view of the Lease it has seen; kept on disk, as far as it matters.
    pub(super) seen: Option<Lease>,
    /// The voters it sent while their fate is unknown, and the sequence that is based on.
    pub(super) pending: Option<(u8, Voters)>,
    /// Whether this is its second folder.
    pub(super) emptied: bool,
    pub(super) role: Role,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct State {
    pub(super) lease: Option<Lease>,
    /// A state of the Lease to which it can be rolled back.
    pub(super) backup: Option<Lease>,
    pub(super) lives: u8,
    pub(super) falls: u8,
    pub(super) writes: u8,
    pub(super) brokers: [Broker; MAX_BROKERS],
    pub(super) requests: [Option<Request>; 2],
    /// By folder and epoch: to whom it acknowledged in that epoch, and how much.
    pub(super) acknowledged: [[(u8, u8); MAX_EPOCH + 1]; 2 * MAX_BROKERS],
    pub(super) committed: Log,
}

impl State {
    pub(super) fn new(bounds: &Bounds) -> Self {
        let voters = (1 << bounds.voters) - 1;
        let lease = Lease { life: 0, epoch: 0, sequence: 0, holder: None, voters };
        let seen = (voters != 0).then_some(lease);
        let broker =
            Broker { log: Log::default(), promised: (0, 0), seen, pending: None, emptied: false, role: Role::Follower };
        Self {
            lease: Some(lease),
            backup: None,
            lives: 1,
            falls: 0,
            writes: 0,
            brokers: [broker; MAX_BROKERS],
            requests: [None; 2],
            acknowledged: [[(0, 0); MAX_EPOCH + 1]; 2 * MAX_BROKERS],
            committed: Log::default(),
        }
    }

    /// The bit of a broker's present folder.
    pub(super) fn folder(&self, broker: usize) -> usize {
        broker + if self.brokers[broker].emptied { MAX_BROKERS } else { 0 }
    }

    pub(super) fn bit(&self, broker: usize) -> Voters {
        1 << self.folder(broker)
    }

    /// The broker whose present folder the bit stands for.
    pub(super) fn broker_of(&self, folder: usize) -> Option<usize> {
        let broker = folder % MAX_BROKERS;
        (self.folder(broker) == folder).then_some(broker)
    }
}

/// How many must have a record.
pub(super) fn commit_quorum(voters: Voters) -> u32 {
    let n = voters.count_ones();
    if n <= 2 { n } else { n / 2 + 1 }
}

/// How many must promise.
pub(super) fn promise_quorum(voters: Voters) -> u32 {
    voters.count_ones() - commit_quorum(voters) + 1
}
