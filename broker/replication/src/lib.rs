// SPDX-License-Identifier: Apache-2.0
//! Who fetches what from whom: the followers of one broker as a whole. The replica itself ([`odradek_partition`])
//! knows what it has to ask next; this crate decides when, in which request, and on which connection.
//!
//! - [`fetcher_of`] gives each followed partition to one [`Fetcher`]: one per leader and [`Lane`].
//! - [`Fetcher`] makes the next request from the partitions that are due, and takes note of what became of each.
//! - [`Throttle`] bounds the bytes per second of partitions that a reassignment adds.
//! - [`Confirmations`] asks the replicas of partitions that this broker leads whether a later leader is known.
//! - [`Proposals`] gathers the ISR changes that this broker's leaders propose: one command at a time.
//! - [`TakingOver`] says what an image of the metadata asks of this broker's replicas, [`Following`] which fetchers begin,
//!   end, and get which partition because of it.
//!
//! # How to drive a fetcher
//! Loop: [`Fetcher::next`]; send what it gives, the questions for offsets first; give each answer to its partition, whose
//! question is [`Fetcher::question`], and then what became of it to [`Fetcher::answered`], and what the leader said of the
//! session to [`Fetcher::session_answered`]. What was named and not answered is [`Outcome::Failed`] if all were named; a
//! request without an answer is [`Fetcher::failed`]. A caller whose leaders keep no sessions says nothing of them: each
//! request names all then. When there is nothing to send, wait until the time that it names or until [`Fetcher::add`] or
//! [`Fetcher::ready`] was called. When either is called while a request is on its way, a second loop does the same with
//! [`Fetcher::next_of_newcomers`].
//!
//! Time is a parameter. Invariant: must not know the wire, tasks, logs, or how metadata travels.

mod confirmations;
mod fetcher;
mod following;
mod isr_changes;
mod lane;
mod proposals;
#[cfg(test)]
mod scenarios;
mod session;
mod taking_over;
mod throttle;

pub use confirmations::{Confirmations, Confirmed, Question, READ_WAIT_MS, ReadToken, Turn};
pub use fetcher::{Ask, Fetch, FetchSettings, Fetcher, Next, Outcome};
pub use following::{FollowEffect, Following};
pub use lane::{FetcherId, Lane, fetcher_of};
use odradek_model::TopicId;
pub use proposals::{Batch, PROPOSALS_MAX, Proposal, Proposals, RETRY_PAUSE_MS};
pub use session::{SessionAnswer, SessionStep};
pub use taking_over::{Change, Present, TakingOver, Task, decided};
pub use throttle::Throttle;

/// One partition, by its topic's id: a topic that is created anew under its name is another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReplicaKey {
    /// Its topic.
    pub topic: TopicId,
    /// Its index.
    pub partition: i32,
}
