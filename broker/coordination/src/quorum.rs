// SPDX-License-Identifier: Apache-2.0
//! The quorum of the metadata log: who is controller, and what is committed. A state machine without I/O.
//!
//! [`QuorumMember`] is one broker's part: a follower, a candidate, or the controller. It holds the rules of the
//! coordination protocol (decision 4), each where it stands in the code:
//!
//! | rule | where |
//! |---|---|
//! | 1 when to take the Lease | `take_policy` decides, `follower` asks and takes |
//! | 2 promises | `member`, kept by [`QuorumStorage::promise`] |
//! | 3, 4 catching up, beginning to lead | `candidate`, `fetching` |
//! | 5 commit | `controller`, `sizes` |
//! | 6 change of voters | `controller`; which ones, `voter_policy` |
//! | 7, 8 what the Lease says, stepping down | `lease_knowledge` |
//! | 9 identity | the caller: a folder that lost something comes back with another directory id |
//! | 10 a fallen Lease | `lease_knowledge` sees it; `controller` repairs, `recovery` asks |
//! | 11 committed and current only | [`Effect::Committed`], `fetching` |
//!
//! # How to drive it
//!
//! 1. Open the storage (its calls block: give the member a thread that may), make a member, tell it
//!    [`Input::Brokers`], and [`Input::ImageLoaded`] once the image is there.
//! 2. Call [`QuorumMember::handle`] with everything that happens, one at a time, and with [`Input::Tick`] at the latest
//!    at [`QuorumMember::wake_at`]. Carry out the effects in their order. Every [`Effect::ReadLease`] and
//!    [`Effect::WriteLease`] must be answered, within a deadline of a second or two: by an error only if it was
//!    certainly not made, else by [`crate::WriteOutcome::Unknown`]. Give the views of a watch, if there is one, as
//!    [`Input::LeaseSeen`]; without one, lower [`QuorumSettings::lease_poll_ms`].
//! 3. [`Effect::Committed`]: read the batches up to there from the storage and apply them to the image; nothing beyond
//!    may be shown to anybody (rule 11). On [`Effect::ReloadImage`] begin anew from the snapshot.
//! 4. Between [`Effect::Leading`] and [`Effect::SteppedDown`], decide on an image that also has the uncommitted tail,
//!    [`QuorumMember::append`] what was decided, and send each answer, errors included, when the commit reaches the end
//!    of what it was decided on. After `SteppedDown` throw that image away: answers that wait are "not the controller".
//! 5. [`Input::Resign`] for a clean stop, and wait a while for [`Effect::Resigned`]. On [`Effect::Stop`] end the
//!    process: what is on disk decides on the next start.
//!
//! Time is the caller's monotonic clock and only policy; jitter comes from the seed. Two members with the same inputs
//! do the same. Must not know what records mean, nor Kubernetes, sockets, tasks or clocks.
//!
//! # Bounds
//!
//! One fetch under way for each member, one held for each broker at the controller; an answer has
//! [`QuorumSettings::max_answer_bytes`] or one batch; inquiries and contacts are bounded by the brokers there are,
//! promises and recovery answers by the voters. Nothing queues.

mod candidate;
mod controller;
mod effect;
mod fetching;
mod follower;
mod lease_knowledge;
mod member;
mod message;
mod planted;
mod random;
mod recovery;
mod serving;
mod settings;
mod sizes;
mod storage;
mod take_policy;
mod voter_policy;
mod voter_sets;

pub use effect::{Effect, Input, KnownBroker, LeaseCall};
pub use member::{AppendError, MemberRole, MemberStatus, QuorumMember};
pub use message::{
    FetchAnswer, FetchOutcome, FetchPurpose, FetchRequest, Message, MessageBody, PromiseAnswer, RequestId,
    SnapshotPart, SnapshotRequest, StatusAnswer,
};
#[cfg(feature = "planted-bugs")]
pub use planted::PlantedBug;
pub use settings::QuorumSettings;
pub use sizes::{MAX_VOTERS, VoterSet, commit_quorum, promise_quorum};
pub use storage::{LeaseStamp, LogBatch, LogPosition, Promise, QuorumStorage, StorageError, StoredVoterSet, VoterSets};

#[cfg(test)]
mod tests;
