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

impl Log {
    /// The same with other names for the brokers.
    fn renamed(mut self, names: Names) -> Self {
        for record in &mut self.records[..usize::from(self.len)] {
            *record = Record::new(record.epoch(), usize::from(names[record.writer()]));
        }
        self
    }
}

impl Lease {
    fn renamed(self, names: Names) -> Self {
        let holder = self.holder.map(|holder| names[usize::from(holder)]);
        Self { holder, voters: renamed(self.voters, names), ..self }
    }
}

/// The new name of each broker.
pub(super) type Names = [u8; MAX_BROKERS];

fn renamed(voters: Voters, names: Names) -> Voters {
    let folders = (0..2 * MAX_BROKERS).filter(|folder| voters & (1 << folder) != 0);
    let new = |folder: usize| usize::from(names[folder % MAX_BROKERS]) + folder / MAX_BROKERS * MAX_BROKERS;
    folders.fold(0, |all, folder| all | (1 << new(folder)))
}

/// A broker for an epoch; of nothing there is no broker.
fn renamed_for(epoch_or_end: u8, broker: u8, names: Names) -> u8 {
    if epoch_or_end == 0 { broker } else { names[usize::from(broker)] }
}

impl Broker {
    fn renamed(self, names: Names) -> Self {
        let role = match self.role {
            Role::Candidate { epoch, voters, needs, promised, best } => Role::Candidate {
                epoch,
                voters: renamed(voters, names),
                needs: match needs {
                    Needs::All(members) => Needs::All(renamed(members, names)),
                    other => other,
                },
                promised: renamed(promised, names),
                best: best.renamed(names),
            },
            other => other,
        };
        let (epoch, holder) = self.promised;
        Self {
            log: self.log.renamed(names),
            promised: (epoch, renamed_for(epoch, holder, names)),
            seen: self.seen.map(|seen| seen.renamed(names)),
            pending: self.pending.map(|(sequence, voters)| (sequence, renamed(voters, names))),
            emptied: self.emptied,
            role,
        }
    }
}

impl State {
    /// The same state with other names for the brokers. No rule looks at a name, so what can happen in it is the same
    /// with the same other names.
    pub(super) fn renamed(&self, names: Names) -> Self {
        let mut new = self.clone();
        new.lease = self.lease.map(|lease| lease.renamed(names));
        new.backup = self.backup.map(|lease| lease.renamed(names));
        new.committed = self.committed.renamed(names);
        for request in new.requests.iter_mut().flatten() {
            request.holder = names[usize::from(request.holder)];
            request.voters = renamed(request.voters, names);
        }
        new.order_requests();
        for (old, name) in names.iter().map(|name| usize::from(*name)).enumerate() {
            new.brokers[name] = self.brokers[old].renamed(names);
            for folder in [0, MAX_BROKERS] {
                let row = self.acknowledged[old + folder];
                new.acknowledged[name + folder] = row.map(|(to, end)| (renamed_for(end, to, names), end));
            }
        }
        new
    }

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

    /// Two orders of the same requests are one state.
    pub(super) fn order_requests(&mut self) {
        self.requests.sort_by_key(|request| (request.is_none(), *request));
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
