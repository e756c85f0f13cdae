// SPDX-License-Identifier: Apache-2.0
//! Requests for Lease objects by name, each within a deadline, none repeated unless it was certainly not looked at.

use std::future::Future;
use std::time::Duration;

use http::Response;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::client::{ClientBuilder, DynBody};
use kube::{Api, Config};
use odradek_coordination::LeaseError;
use tokio::time::{Instant, sleep_until, timeout_at};
use tower::util::MapResponseLayer;

use crate::failure::{Failure, classify};
use crate::pause::{Asked, Pause};

/// What a request that waited must have left of its deadline. Without it a write could be cut off as soon as it is sent,
/// and nobody would know what became of it; the deadline of 2 s minus the usual pause of 1 s leaves twice as much.
const LEAST_LEFT: Duration = Duration::from_millis(500);

/// The Leases of one namespace.
#[derive(Clone)]
pub struct LeaseStore {
    pub(crate) api: Api<Lease>,
    pub(crate) pause: Pause,
}

impl std::fmt::Debug for LeaseStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LeaseStore").finish_non_exhaustive()
    }
}

/// What a write came to.
#[derive(Debug)]
pub(crate) enum Put {
    Written(Box<Lease>),
    Refused,
    Unknown(String),
}

impl LeaseStore {
    /// A connection of its own. kube's client would repeat what was answered with 503 or 504, also when that had been
    /// carried out, and the repetition's conflict would then pass for a refusal: this one repeats nothing. The pod's
    /// token is read again from its file by kube, at least once a minute. The heads of answers are read before kube makes
    /// errors of them, which do not carry `Retry-After`.
    ///
    /// # Errors
    /// [`LeaseError::Unavailable`] if the configuration makes no client.
    pub fn connect(mut config: Config, namespace: &str) -> Result<Self, LeaseError> {
        config.default_retry = false;
        let builder = ClientBuilder::try_from(config).map_err(|error| LeaseError::Unavailable(error.to_string()))?;
        let pause = Pause::new(Instant::now());
        let heard = pause.clone();
        let heed = MapResponseLayer::new(move |answer: Response<Box<DynBody>>| {
            heard.heed(answer.status(), answer.headers(), Instant::now());
            answer
        });
        Ok(Self { api: Api::namespaced(builder.with_layer(&heed).build(), namespace), pause })
    }

    /// As [`Self::connect`], with the pod's service account and namespace.
    ///
    /// # Errors
    /// [`LeaseError::Unavailable`] outside a pod.
    pub fn in_pod() -> Result<Self, LeaseError> {
        let config = Config::incluster().map_err(|error| LeaseError::Unavailable(error.to_string()))?;
        let namespace = config.default_namespace.clone();
        Self::connect(config, &namespace)
    }

    /// The Lease as it is now: a GET without resourceVersion, which no cache answers.
    pub(crate) async fn get(&self, name: &str, deadline: Instant) -> Result<Option<Lease>, LeaseError> {
        match self.request(name, deadline, || self.api.get(name)).await {
            Ok(lease) => Ok(Some(lease)),
            Err(Failure::NotFound) => Ok(None),
            Err(failure) => Err(unavailable(&failure)),
        }
    }

    /// Replaces the Lease. With uid and resourceVersion only that state of that Lease; without both only if there is
    /// none.
    ///
    /// # Errors
    /// If it was certainly not made, for another reason than the Lease itself.
    pub(crate) async fn put(&self, name: &str, object: &Lease, deadline: Instant) -> Result<Put, LeaseError> {
        let metadata = &object.metadata;
        assert_eq!(metadata.uid.is_some(), metadata.resource_version.is_some(), "compare-and-set or create");
        let params = PostParams { dry_run: false, field_manager: Some("odradek-broker".to_owned()) };
        match self.request(name, deadline, || self.api.replace(name, &params, object)).await {
            Ok(lease) => Ok(Put::Written(Box::new(lease))),
            // A Lease that is gone cannot be of the uid that was asked for ever again.
            Err(Failure::Conflict) => Ok(Put::Refused),
            Err(Failure::NotFound) if metadata.uid.is_some() => Ok(Put::Refused),
            Err(Failure::Unclear(reason)) => Ok(Put::Unknown(reason)),
            Err(failure) => Err(unavailable(&failure)),
        }
    }

    /// Makes a request within the deadline, and not before the pause ends that the API server asked for; not at all if that
    /// leaves too little time. What was throttled was not looked at, so it is made again: the pause of a second or more
    /// each time bounds the number of times.
    async fn request<F>(&self, name: &str, deadline: Instant, mut make: impl FnMut() -> F) -> Result<Lease, Failure>
    where
        F: Future<Output = kube::Result<Lease>>,
    {
        let leaves_time = |asked: Asked| asked.until + LEAST_LEFT <= deadline;
        loop {
            let asked = self.pause.asked();
            if asked.until > Instant::now() && !leaves_time(asked) {
                return Err(Failure::Paused(asked.wait));
            }
            sleep_until(asked.until).await;
            let failure = match timeout_at(deadline, make()).await {
                Err(_) => return Err(Failure::Unclear("no answer within the deadline".to_owned())),
                Ok(Ok(lease)) => return Ok(lease),
                Ok(Err(error)) => classify(&error, name),
            };
            match failure {
                Failure::Throttled(wait, reason) => {
                    self.pause.extend(wait, Instant::now());
                    if !leaves_time(self.pause.asked()) {
                        return Err(Failure::Throttled(wait, reason));
                    }
                }
                failure => return Err(failure),
            }
        }
    }
}

fn unavailable(failure: &Failure) -> LeaseError {
    LeaseError::Unavailable(match failure {
        Failure::Throttled(_, reason) | Failure::NotDone(reason) | Failure::Unclear(reason) => reason.clone(),
        Failure::Paused(wait) => {
            format!("the API server is not asked, as it wanted to be left alone for {} s", wait.as_secs())
        }
        Failure::NotFound => "its namespace is gone".to_owned(),
        Failure::Conflict | Failure::Expired => format!("an answer that does not belong to the request: {failure:?}"),
    })
}

pub(crate) fn deadline_in(time: Duration) -> Instant {
    Instant::now() + time
}

/// The time for people to read in `renewTime` and `acquireTime`.
pub(crate) fn wall_clock() -> MicroTime {
    MicroTime(Timestamp::now())
}
