// SPDX-License-Identifier: Apache-2.0
//! What happens to the controller Lease: a read, then a watch from there, and again, whatever breaks.

use std::time::Duration;

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{WatchEvent, WatchParams};
use odradek_coordination::{LeaseError, LeaseView};
use odradek_model::ClusterId;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::controller_object::view;
use crate::failure::{Failure, classify, classify_status};
use crate::settings::LeaseSettings;
use crate::store::{LeaseStore, deadline_in};

/// The shortest and longest pause after a failure: a restarted API server is found again within the longest, and gets
/// at most two requests a second from each watch.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(4);

/// A lively watch is begun again with a read after so long.
const WATCH_SECONDS: u32 = 240;

/// What was seen of the Lease. Views may be old, or come more than once.
#[derive(Debug)]
pub enum LeaseSeen {
    /// The Lease at some moment.
    View(LeaseView),
    /// There was no Lease at some moment; a read tells whether that is so.
    Missing,
    /// The object is not ours; the error names the field.
    Malformed(LeaseError),
    /// Nothing was seen, and why. The watch goes on by itself.
    Unavailable(String),
}

type Events = BoxStream<'static, kube::Result<WatchEvent<Lease>>>;

/// See [`crate::KubernetesLease::watch`]. It never ends and needs no task: it goes on while [`Self::next`] is awaited.
pub struct LeaseWatch {
    store: LeaseStore,
    name: String,
    cluster_id: ClusterId,
    settings: LeaseSettings,
    state: State,
    pause: Duration,
    not_before: Instant,
}

impl std::fmt::Debug for LeaseWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LeaseWatch").field("name", &self.name).finish_non_exhaustive()
    }
}

enum State {
    /// The Lease has to be read.
    Read,
    /// It was read at this version (empty: there was none); a watch has to be opened from there.
    Open(String),
    /// The watch is open.
    Watching(Events),
}

impl LeaseWatch {
    pub(crate) fn new(store: LeaseStore, name: String, cluster_id: ClusterId, settings: LeaseSettings) -> Self {
        let not_before = Instant::now();
        Self { store, name, cluster_id, settings, state: State::Read, pause: PAUSE_MIN, not_before }
    }

    /// What is seen next. Dropping the future loses nothing that was not yet seen.
    pub async fn next(&mut self) -> LeaseSeen {
        loop {
            if !matches!(self.state, State::Watching(_)) {
                sleep_until(self.not_before.max(self.store.pause.asked().until)).await;
            }
            let seen = match &mut self.state {
                State::Read => Some(self.read().await),
                State::Open(version) => {
                    let version = version.clone();
                    self.open(&version).await
                }
                State::Watching(events) => {
                    let event = timeout(self.settings.watch_silence, events.try_next()).await;
                    self.event(event.unwrap_or(Ok(None)))
                }
            };
            if let Some(seen) = seen {
                return seen;
            }
        }
    }

    async fn read(&mut self) -> LeaseSeen {
        match self.store.get(&self.name, deadline_in(self.settings.call_deadline)).await {
            Ok(found) => {
                let version = found.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
                self.state = State::Open(version.unwrap_or_default());
                found.map_or(LeaseSeen::Missing, |lease| self.show(&lease))
            }
            Err(error) => self.failed(error.to_string()),
        }
    }

    async fn open(&mut self, version: &str) -> Option<LeaseSeen> {
        // RBAC takes the name out of the field selector. The server ends even a lively watch after this time.
        let params = WatchParams::default().fields(&format!("metadata.name={}", self.name)).timeout(WATCH_SECONDS);
        let api = self.store.api.clone();
        let opened = timeout_at(deadline_in(self.settings.call_deadline), api.watch(&params, version)).await;
        match opened {
            Ok(Ok(events)) => {
                self.state = State::Watching(events.boxed());
                None
            }
            Ok(Err(error)) => self.broken(classify(&error, &self.name)),
            Err(_) => self.broken(Failure::Unclear("no answer within the deadline".to_owned())),
        }
    }

    fn event(&mut self, event: kube::Result<Option<WatchEvent<Lease>>>) -> Option<LeaseSeen> {
        match event {
            Ok(Some(WatchEvent::Added(lease) | WatchEvent::Modified(lease))) => {
                self.pause = PAUSE_MIN;
                Some(self.show(&lease))
            }
            Ok(Some(WatchEvent::Deleted(_))) => Some(LeaseSeen::Missing),
            Ok(Some(WatchEvent::Bookmark(_))) => None,
            Ok(Some(WatchEvent::Error(status))) => self.broken(classify_status(&status, &self.name)),
            // The end of a watch, or silence: a read shows whether anything was missed. Never more often than the
            // shortest pause, should a server end every watch at once.
            Ok(None) => {
                self.state = State::Read;
                self.pause = PAUSE_MIN;
                self.not_before = Instant::now() + PAUSE_MIN.min(self.settings.watch_silence / 2);
                None
            }
            Err(error) => self.broken(classify(&error, &self.name)),
        }
    }

    fn broken(&mut self, failure: Failure) -> Option<LeaseSeen> {
        match failure {
            // Compacted: from a new read.
            Failure::Expired => {
                self.state = State::Read;
                self.not_before = Instant::now() + PAUSE_MIN;
                None
            }
            Failure::Throttled(wait, reason) => {
                self.store.pause.extend(wait, Instant::now());
                Some(self.failed(reason))
            }
            Failure::NotDone(reason) | Failure::Unclear(reason) => Some(self.failed(reason)),
            Failure::NotFound | Failure::Conflict | Failure::Paused(_) => Some(self.failed(format!("{failure:?}"))),
        }
    }

    fn failed(&mut self, reason: String) -> LeaseSeen {
        self.state = State::Read;
        self.not_before = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        LeaseSeen::Unavailable(reason)
    }

    fn show(&self, lease: &Lease) -> LeaseSeen {
        match view(lease, &self.cluster_id) {
            Ok(view) => LeaseSeen::View(view),
            Err(error) => LeaseSeen::Malformed(error),
        }
    }
}
