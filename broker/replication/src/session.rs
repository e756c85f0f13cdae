// SPDX-License-Identifier: Apache-2.0
//! The follower's side of a fetch session (KIP-227; `FetchSessionHandler`): which session and epoch the next request
//! names. Must not know which partitions are in it: the fetcher does.

/// How a Fetch request stands to the leader's session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionStep {
    /// The session, or 0. One that opens another ends this one.
    pub id: i32,
    /// Its epoch; 0 opens a session, -1 is without.
    pub epoch: i32,
}

impl SessionStep {
    /// A request of its own.
    pub const NONE: Self = Self { id: 0, epoch: -1 };

    /// Whether the request names all its partitions.
    pub fn is_full(self) -> bool {
        self.epoch <= 0
    }
}

/// What the leader said of the session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionAnswer {
    /// It goes on, or is opened, under this id; with 0 there is none.
    Continues(i32),
    /// FETCH_SESSION_ID_NOT_FOUND: the leader knows it no more.
    NotFound,
    /// Another error of sessions.
    Refused,
}

/// The session of one fetcher.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Session {
    id: i32,
    /// Of the next request; 0 if there is none to go on with.
    epoch: i32,
    /// Whether it is not certain that both sides mean the same by it.
    is_doubted: bool,
    /// The request on its way.
    asked: Option<SessionStep>,
}

impl Session {
    /// Whether the leader knows the partitions that were named before.
    pub(crate) fn is_open(&self) -> bool {
        self.epoch > 0 && !self.is_doubted
    }

    /// The next request names all partitions, and ends the session that there is.
    pub(crate) fn doubt(&mut self) {
        self.is_doubted = true;
    }

    /// The next request; whatever came of the last counts no more.
    pub(crate) fn next(&mut self) -> SessionStep {
        if std::mem::take(&mut self.is_doubted) {
            self.epoch = 0;
        }
        let step = SessionStep { id: self.id, epoch: self.epoch };
        self.asked = Some(step);
        step
    }

    /// Whether a request was made of which nothing was heard.
    pub(crate) fn awaits_answer(&self) -> bool {
        self.asked.is_some()
    }

    /// Takes an answer; whether the session goes on with all that was named.
    pub(crate) fn answered(&mut self, answer: SessionAnswer) -> bool {
        let Some(asked) = self.asked.take() else { return false };
        match answer {
            SessionAnswer::Continues(id) if id > 0 && (asked.is_full() || id == asked.id) => {
                self.id = id;
                self.epoch = if asked.epoch == i32::MAX { 1 } else { asked.epoch + 1 };
                true
            }
            SessionAnswer::Continues(_) | SessionAnswer::NotFound => {
                *self = Self::default();
                false
            }
            SessionAnswer::Refused => {
                self.is_doubted = true;
                false
            }
        }
    }

    /// No answer came.
    pub(crate) fn failed(&mut self) {
        self.asked = None;
        self.is_doubted = true;
    }
}
