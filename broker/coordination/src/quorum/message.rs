// SPDX-License-Identifier: Apache-2.0
//! What members say to each other. Every message can be lost, late, repeated or out of order; each judges itself by
//! the epoch, the process and the request that it names.

use bytes::Bytes;
use odradek_model::{ControllerEpoch, DirectoryId};

use super::storage::{LogBatch, LogPosition, Promise, VoterSets};
use crate::{Holder, LeaseView, Voter};

/// A question and its answer have the same number. Numbers of one process begin at random.
pub type RequestId = u64;

/// A message. The connection below it has proved that the sender is the broker it says it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// The sending process.
    pub sender: Holder,
    /// The sender's folder: with the broker id, its identity as voter.
    pub directory_id: DirectoryId,
    /// The question's number, or that of the question it answers.
    pub request: RequestId,
    /// What it says.
    pub body: MessageBody,
}

impl Message {
    /// The sender as voter.
    pub fn voter(&self) -> Voter {
        Voter { broker_id: self.sender.broker_id, directory_id: self.directory_id }
    }
}

/// What is said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MessageBody {
    /// "Send me what follows this position"; by its position also an acknowledgement (rule 5).
    Fetch(FetchRequest),
    /// The answer, also to a request for a part of a snapshot that is not there.
    Fetched(FetchAnswer),
    /// "Send me this part of your snapshot."
    FetchSnapshot(SnapshotRequest),
    /// The part.
    SnapshotPart(SnapshotPart),
    /// "Promise me the epoch, which I hold the Lease for" (rule 2), or will, if all promise it (rule 10).
    AskPromise(ControllerEpoch),
    /// The answer.
    Promised(PromiseAnswer),
    /// "Do you hear the controller, and what do you keep?" (rules 1b and 10). Binds nobody.
    AskStatus,
    /// The answer.
    Status(Box<StatusAnswer>),
    /// "I lead this epoch."
    Announce(ControllerEpoch),
    /// "I have released the Lease, as you see": so that a clean stop need not wait for a watch.
    HandOver(LeaseView),
}

/// Why somebody fetches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FetchPurpose {
    /// A voter or observer follows the controller.
    Follow,
    /// A candidate catches up from a voter that promised (rule 3).
    CatchUp,
}

/// A fetch, and an acknowledgement of all below its position.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchRequest {
    /// Why.
    pub purpose: FetchPurpose,
    /// What the follower has promised; for a candidate, its own epoch and itself. The acknowledgement counts for this
    /// epoch and holder only, however late it comes.
    pub accepted: Promise,
    /// Up to where its log is fsynced.
    pub position: LogPosition,
    /// Up to where it knows records to be committed.
    pub commit_end: odradek_model::Offset,
}

/// The answer to a fetch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchAnswer {
    /// The controller that answers; with [`FetchOutcome::NotController`] the one that the answerer knows.
    pub controller: Promise,
    /// Up to where the answerer knows records to be committed.
    pub commit_end: odradek_model::Offset,
    /// The rest.
    pub outcome: FetchOutcome,
}

/// What a fetch brings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FetchOutcome {
    /// The log matched up to the position; what follows it, perhaps nothing.
    Batches(Vec<LogBatch>),
    /// It did not match: here ends the highest common candidate among the epochs.
    Diverging(LogPosition),
    /// What was asked for is below the log: take the snapshot.
    TakeSnapshot {
        /// Where it ends.
        position: LogPosition,
        /// Its length.
        bytes: u64,
    },
    /// The follower has not accepted this controller's epoch yet.
    AcceptEpoch,
    /// The one asked holds the Lease but does not lead yet.
    NotYetController,
    /// The one asked does not lead, or keeps no promise to the candidate that asks.
    NotController,
}

/// A request for a part of a snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotRequest {
    /// Why.
    pub purpose: FetchPurpose,
    /// As in a fetch.
    pub accepted: Promise,
    /// Where the snapshot ends, which names it.
    pub position: LogPosition,
    /// The first byte wanted.
    pub at: u64,
}

/// A part of a snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotPart {
    /// The controller that answers.
    pub controller: Promise,
    /// Which snapshot.
    pub position: LogPosition,
    /// Where the part begins.
    pub at: u64,
    /// The part.
    pub bytes: Bytes,
}

/// The answer to a request for a promise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PromiseAnswer {
    /// The epoch asked for.
    pub epoch: ControllerEpoch,
    /// Whether it is promised to the one who asked.
    pub granted: bool,
    /// What is promised now.
    pub promised: Promise,
    /// How far the log reaches; it will not change before a higher epoch.
    pub position: LogPosition,
}

/// What a broker hears and keeps.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StatusAnswer {
    /// The controller it hears, or is.
    pub hears: Option<Promise>,
    /// Its promise.
    pub promised: Promise,
    /// Its log.
    pub position: LogPosition,
    /// Its voter sets.
    pub voter_sets: VoterSets,
}
