// SPDX-License-Identifier: Apache-2.0
//! Quorum: what the members of the metadata log's quorum say to each other. One-way: nothing answers it, the members'
//! own answers are messages of their own on the connection of the other direction.
//!
//! Exactly one of the bodies is there; each is a tagged field, so that one of a later version is skipped by an earlier.
//! Batches and snapshot parts are slices of the frame. It must not know what members do.

use bytes::Bytes;
use odradek_wire_derive::Wire;
use uuid::Uuid;

use crate::text::Text;

/// A message.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0", flexible = "0+")]
pub struct QuorumMessage {
    /// The sending process.
    pub sender: QuorumHolder,
    /// The sender's data folder.
    pub directory_id: Uuid,
    /// The number of the question, or of the one that is answered; 64 bits of a random beginning.
    pub request: i64,
    /// "Send me what follows this position."
    #[wire(nullable = "0+", tag = 0, tagged = "0+", default = None)]
    pub fetch: Option<QuorumFetch>,
    /// The answer.
    #[wire(nullable = "0+", tag = 1, tagged = "0+", default = None)]
    pub fetched: Option<QuorumFetched>,
    /// "Send me this part of your snapshot."
    #[wire(nullable = "0+", tag = 2, tagged = "0+", default = None)]
    pub fetch_snapshot: Option<QuorumFetchSnapshot>,
    /// The part.
    #[wire(nullable = "0+", tag = 3, tagged = "0+", default = None)]
    pub snapshot_part: Option<QuorumSnapshotPart>,
    /// "Promise me the epoch."
    #[wire(nullable = "0+", tag = 4, tagged = "0+", default = None)]
    pub ask_promise: Option<QuorumEpoch>,
    /// The answer.
    #[wire(nullable = "0+", tag = 5, tagged = "0+", default = None)]
    pub promised: Option<QuorumPromised>,
    /// "Do you hear the controller, and what do you keep?"
    #[wire(nullable = "0+", tag = 6, tagged = "0+", default = None)]
    pub ask_status: Option<QuorumAskStatus>,
    /// The answer.
    #[wire(nullable = "0+", tag = 7, tagged = "0+", default = None)]
    pub status: Option<QuorumStatus>,
    /// "I lead this epoch."
    #[wire(nullable = "0+", tag = 8, tagged = "0+", default = None)]
    pub announce: Option<QuorumEpoch>,
    /// "I have released the Lease."
    #[wire(nullable = "0+", tag = 9, tagged = "0+", default = None)]
    pub hand_over: Option<QuorumLease>,
}

/// One process of a broker.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct QuorumHolder {
    /// The broker.
    pub broker_id: i32,
    /// The process.
    pub incarnation: Text,
}

/// An epoch.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct QuorumEpoch {
    /// The epoch.
    pub epoch: i64,
}

/// A question without content.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct QuorumAskStatus {}

/// A promise: an epoch and to whom it is given.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct QuorumPromise {
    /// The epoch.
    pub epoch: i64,
    /// To whom, or null.
    #[wire(nullable = "0+", default = None)]
    pub holder: Option<QuorumHolder>,
}

/// How far a log reaches.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct QuorumPosition {
    /// The epoch of the last record.
    pub epoch: i64,
    /// The offset after it.
    pub end_offset: i64,
}

/// A fetch, and an acknowledgement of all below its position.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct QuorumFetch {
    /// 0 to follow, 1 to catch up.
    pub purpose: i8,
    /// What the sender has promised.
    pub accepted: QuorumPromise,
    /// Up to where its log is fsynced.
    pub position: QuorumPosition,
    /// Up to where it knows records to be committed.
    pub commit_end: i64,
}

/// The answer to a fetch.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct QuorumFetched {
    /// The controller that answers, or that the answerer knows.
    pub controller: QuorumPromise,
    /// Up to where the answerer knows records to be committed.
    pub commit_end: i64,
    /// 0 batches, 1 diverging, 2 take the snapshot, 3 accept the epoch, 4 not yet controller, 5 not controller.
    pub outcome: i8,
    /// With 0 what follows the position.
    pub batches: Vec<QuorumBatch>,
    /// With 1 where the logs part; with 2 where the snapshot ends.
    pub position: QuorumPosition,
    /// With 2 the snapshot's length.
    pub snapshot_bytes: i64,
}

/// What one append wrote.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct QuorumBatch {
    /// The epoch of the controller that appended it.
    pub epoch: i64,
    /// The offset of its first record.
    pub base_offset: i64,
    /// The offset after its last record.
    pub end_offset: i64,
    /// The records, as the metadata log writes them.
    #[wire(nullable = "0+", records)]
    pub records: Option<Bytes>,
}

/// A request for a part of a snapshot.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct QuorumFetchSnapshot {
    /// As in a fetch.
    pub purpose: i8,
    /// As in a fetch.
    pub accepted: QuorumPromise,
    /// Where the snapshot ends.
    pub position: QuorumPosition,
    /// The first byte wanted.
    pub at: i64,
}

/// A part of a snapshot.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct QuorumSnapshotPart {
    /// The controller that answers.
    pub controller: QuorumPromise,
    /// Where the snapshot ends.
    pub position: QuorumPosition,
    /// Where the part begins.
    pub at: i64,
    /// The part.
    #[wire(nullable = "0+", records)]
    pub part: Option<Bytes>,
}

/// The answer to a request for a promise.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct QuorumPromised {
    /// The epoch asked for.
    pub epoch: i64,
    /// Whether it is promised to the one who asked.
    pub granted: bool,
    /// What is promised now.
    pub promised: QuorumPromise,
    /// How far the log reaches.
    pub position: QuorumPosition,
}

/// What a broker hears and keeps.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct QuorumStatus {
    /// The controller it hears, or null.
    #[wire(nullable = "0+", default = None)]
    pub hears: Option<QuorumPromise>,
    /// Its promise.
    pub promised: QuorumPromise,
    /// Its log.
    pub position: QuorumPosition,
    /// The newest voter set it has seen, or null.
    #[wire(nullable = "0+", default = None)]
    pub newest: Option<QuorumVoterSet>,
    /// Sets whose outcome it does not know.
    pub pending: Vec<QuorumVoterSet>,
}

/// A voter set, and the view of the Lease that it goes with.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct QuorumVoterSet {
    /// The life of the Lease.
    pub uid: Text,
    /// The controller epoch.
    pub epoch: i64,
    /// The write.
    pub sequence: i64,
    /// The voters.
    pub voters: Vec<QuorumVoter>,
}

/// A voter.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct QuorumVoter {
    /// The broker.
    pub broker_id: i32,
    /// Its folder.
    pub directory_id: Uuid,
}

/// A view of the Lease.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct QuorumLease {
    /// The life of the Lease.
    pub uid: Text,
    /// The controller epoch.
    pub epoch: i64,
    /// The write.
    pub sequence: i64,
    /// The holder, or null.
    #[wire(nullable = "0+", default = None)]
    pub holder: Option<QuorumHolder>,
    /// The voters.
    pub voters: Vec<QuorumVoter>,
    /// The cluster.
    pub cluster_id: Text,
    /// What compare-and-set compares.
    pub version: Text,
}
