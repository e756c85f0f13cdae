// SPDX-License-Identifier: Apache-2.0
//! Committed offsets are read only once it is certain that no other coordinator has later ones: a broker that is cut off
//! does not know that another leads the journal. All else that a coordinator tells from its memory is for its members,
//! which find out by their next commit, or for people. It must not know how that becomes certain.
use std::sync::Arc;

use odradek_groups::{GroupError, OffsetFetch, Request, Response};
use odradek_replication::Confirmed;
use tokio::sync::oneshot;

use super::{Asked, Coordinator, Coordinators};

/// The offsets that were asked for are not known to be the newest, and nobody knows who has those: the answer that makes
/// every client ask for the coordinator again is none at all, as if this broker had died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not known whether this broker still coordinates the group")]
pub struct Unconfirmed;

/// Offsets that were asked for.
#[derive(Debug)]
pub enum Reading {
    /// Nothing has to be made certain first.
    Asked(Asked),
    /// To be made certain.
    Unconfirmed(Box<Uncertain>),
}

/// Offsets to be read once that may be.
#[derive(Debug)]
pub struct Uncertain {
    coordinators: Arc<Coordinators>,
    fetch: OffsetFetch,
    coordinator: Arc<Coordinator>,
    confirmed: oneshot::Receiver<Confirmed>,
}

impl Reading {
    /// Whether the answer is there.
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Asked(asked) if asked.is_ready())
    }

    /// The answer that [`Self::is_ready`] promised.
    ///
    /// # Panics
    /// If it is not there.
    pub fn take_ready(self) -> Result<Response, GroupError> {
        match self {
            Self::Asked(asked) => asked.take_ready(),
            Self::Unconfirmed(_) => panic!("asked for an answer that is not there"),
        }
    }

    /// Waits for the answer.
    ///
    /// # Errors
    /// [`Unconfirmed`]: there is none.
    pub async fn wait(self) -> Result<Result<Response, GroupError>, Unconfirmed> {
        let mut reading = self;
        loop {
            match reading {
                Self::Asked(asked) => return Ok(asked.wait().await),
                Self::Unconfirmed(uncertain) => reading = uncertain.wait().await?,
            }
        }
    }
}

impl Uncertain {
    async fn wait(self) -> Result<Reading, Unconfirmed> {
        let Self { coordinators, fetch, coordinator, confirmed } = self;
        if confirmed.await == Ok(Confirmed::Yes) {
            // If another coordinator serves here by now, what it has read from the journal is no older.
            let group_id = Arc::clone(&fetch.group_id);
            return Ok(Reading::Asked(coordinators.start(&group_id, Request::Fetch(fetch))));
        }
        // This broker may lead again: each time around takes another reign.
        match coordinators.coordinator_of(&fetch.group_id) {
            Some(present) if !Arc::ptr_eq(&present, &coordinator) => Ok(coordinators.read(fetch)),
            Some(_) | None => Err(Unconfirmed),
        }
    }
}

impl Coordinators {
    /// Reads committed offsets that are no older than what any coordinator of the group had acknowledged before the call.
    pub fn read(self: &Arc<Self>, fetch: OffsetFetch) -> Reading {
        let coordinator = self.coordinator_of(&fetch.group_id);
        // Who does not serve says so.
        let serving = coordinator.filter(|coordinator| coordinator.lock().machine.check_serving().is_ok());
        let unconfirmed = serving.and_then(|coordinator| {
            let confirmed = coordinator.replica.confirm(coordinator.leader_epoch)?;
            Some((coordinator, confirmed))
        });
        if let Some((coordinator, confirmed)) = unconfirmed {
            let coordinators = Arc::clone(self);
            Reading::Unconfirmed(Box::new(Uncertain { coordinators, fetch, coordinator, confirmed }))
        } else {
            let group_id = Arc::clone(&fetch.group_id);
            Reading::Asked(self.start(&group_id, Request::Fetch(fetch)))
        }
    }
}
