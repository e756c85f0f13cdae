// SPDX-License-Identifier: Apache-2.0
//! Which of several operator processes works: the holder of one Lease.
//!
//! The Lease keeps two operators from working against each other; no data depends on it, because
//! every write of the operator is idempotent. Expiry is measured by the time since the Lease was
//! last *seen to change* on this process' own clock, so clocks of two nodes are never compared.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, PostParams};
use tracing::{info, warn};

use crate::calls::{CallError, bounded};

/// The Lease's name.
pub const LEASE_NAME: &str = "odradek-operator";
/// A holder that is not seen to renew for this long is taken as gone.
pub const LEASE_DURATION: Duration = Duration::from_secs(15);
/// The holder stops working when it could not renew for this long: a third less than others wait.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Time between two tries.
pub const RETRY_PERIOD: Duration = Duration::from_secs(2);

/// What to do about the Lease, decided from what was read.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Write this spec: take or renew.
    Write(Box<LeaseSpec>),
    /// Someone else holds it.
    Wait,
}

/// The last change of the Lease that this process saw.
#[derive(Clone, Debug)]
pub struct Seen {
    resource_version: Option<String>,
    at: Instant,
}

/// Decides from the Lease as read. Pure: `now` and `wall` are the caller's.
pub fn decide(lease: &Lease, identity: &str, seen: &Seen, now: Instant, wall: Timestamp) -> Step {
    let spec = lease.spec.clone().unwrap_or_default();
    let holder = spec.holder_identity.as_deref().unwrap_or_default();
    let ours = holder == identity;
    let free = holder.is_empty() || now.duration_since(seen.at) >= LEASE_DURATION;
    if !ours && !free {
        return Step::Wait;
    }
    let transitions = spec.lease_transitions.unwrap_or(0);
    Step::Write(Box::new(LeaseSpec {
        holder_identity: Some(identity.into()),
        lease_duration_seconds: Some(LEASE_DURATION.as_secs() as i32),
        acquire_time: if ours { spec.acquire_time } else { Some(MicroTime(wall)) },
        renew_time: Some(MicroTime(wall)),
        lease_transitions: Some(if ours { transitions } else { transitions.saturating_add(1) }),
        ..LeaseSpec::default()
    }))
}

/// How a try to hold the Lease ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    /// It is ours.
    Ours,
    /// Someone else holds it.
    Others,
    /// It was written meanwhile, by whomever.
    Conflict,
}

/// One process' part in the election.
pub struct Election {
    leases: Api<Lease>,
    identity: String,
    seen: Option<Seen>,
    /// When the last write that succeeded was sent: others count from when they see it, which is later.
    renewed: Option<Instant>,
}

impl Election {
    /// A candidate of this name.
    pub fn new(client: Client, namespace: &str, identity: &str) -> Self {
        Self { leases: Api::namespaced(client, namespace), identity: identity.into(), seen: None, renewed: None }
    }

    /// Waits until this process holds the Lease.
    pub async fn acquire(&mut self) {
        info!(lease = LEASE_NAME, identity = self.identity, "waiting for the operator's Lease");
        loop {
            match self.try_hold().await {
                Ok(Hold::Ours) => {
                    info!(lease = LEASE_NAME, "holding the operator's Lease");
                    return;
                }
                Ok(Hold::Others | Hold::Conflict) => {}
                Err(error) => warn!(%error, "cannot read or write the operator's Lease"),
            }
            tokio::time::sleep(RETRY_PERIOD).await;
        }
    }

    /// Renews until the Lease is lost, then returns why. Returns in time even if no call is answered: a holder
    /// that waits for an answer while another takes the Lease would work beside it.
    pub async fn hold(&mut self) -> String {
        let begun = Instant::now();
        loop {
            tokio::time::sleep(RETRY_PERIOD).await;
            let left = RENEW_DEADLINE.saturating_sub(self.renewed.unwrap_or(begun).elapsed());
            match tokio::time::timeout(left, self.try_hold()).await {
                Ok(Ok(Hold::Others)) => return "another operator took the Lease".into(),
                // After a conflict, whose it is the next read tells.
                Ok(Ok(Hold::Ours | Hold::Conflict)) | Err(_) => {}
                Ok(Err(error)) => warn!(%error, "cannot renew the operator's Lease"),
            }
            if self.renewed.unwrap_or(begun).elapsed() >= RENEW_DEADLINE {
                return format!("the Lease could not be renewed for {} s", RENEW_DEADLINE.as_secs());
            }
        }
    }

    /// Gives the Lease up so that another process need not wait for its end.
    pub async fn release(&mut self) {
        let released = async {
            let mut lease = bounded("get Lease", self.leases.get(LEASE_NAME)).await?;
            let Some(spec) = lease.spec.as_mut() else { return Ok(()) };
            if spec.holder_identity.as_deref() != Some(&self.identity) {
                return Ok(());
            }
            spec.holder_identity = Some(String::new());
            bounded("release Lease", self.leases.replace(LEASE_NAME, &PostParams::default(), &lease)).await?;
            Ok::<_, CallError>(())
        };
        if let Err(error) = released.await {
            warn!(%error, "the operator's Lease was not released; it ends by itself");
        }
    }

    async fn try_hold(&mut self) -> Result<Hold, CallError> {
        let sent = Instant::now();
        let hold = self.read_and_write().await?;
        if hold == Hold::Ours {
            self.renewed = Some(sent);
        }
        Ok(hold)
    }

    async fn read_and_write(&mut self) -> Result<Hold, CallError> {
        let Some(mut lease) = bounded("get Lease", self.leases.get_opt(LEASE_NAME)).await? else {
            return self.create().await;
        };
        let now = Instant::now();
        let version = lease.metadata.resource_version.clone();
        let seen = match self.seen.take() {
            Some(seen) if seen.resource_version == version => seen,
            _ => Seen { resource_version: version, at: now },
        };
        let step = decide(&lease, &self.identity, &seen, now, Timestamp::now());
        self.seen = Some(seen);
        let Step::Write(spec) = step else { return Ok(Hold::Others) };
        lease.spec = Some(*spec);
        // A replace with the resource version that was read: compare-and-set.
        match bounded("write Lease", self.leases.replace(LEASE_NAME, &PostParams::default(), &lease)).await {
            Ok(_) => Ok(Hold::Ours),
            Err(error) if error.code() == Some(409) => Ok(Hold::Conflict),
            Err(error) => Err(error),
        }
    }

    async fn create(&self) -> Result<Hold, CallError> {
        let empty =
            Lease { metadata: ObjectMeta { name: Some(LEASE_NAME.into()), ..ObjectMeta::default() }, spec: None };
        let seen = Seen { resource_version: None, at: Instant::now() };
        let Step::Write(spec) = decide(&empty, &self.identity, &seen, seen.at, Timestamp::now()) else {
            return Ok(Hold::Others);
        };
        let lease = Lease { spec: Some(*spec), ..empty };
        match bounded("create Lease", self.leases.create(&PostParams::default(), &lease)).await {
            Ok(_) => Ok(Hold::Ours),
            Err(error) if error.code() == Some(409) => Ok(Hold::Conflict),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str, transitions: i32) -> Lease {
        Lease {
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.into()),
                lease_transitions: Some(transitions),
                ..LeaseSpec::default()
            }),
            ..Lease::default()
        }
    }

    fn step(lease: &Lease, unchanged_for: Duration) -> Step {
        let at = Instant::now();
        let seen = Seen { resource_version: None, at };
        decide(lease, "me", &seen, at + unchanged_for, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_live_holder_is_left_alone_and_a_silent_one_is_replaced() {
        let other = lease("other", 4);
        assert_eq!(step(&other, Duration::from_secs(14)), Step::Wait);
        let Step::Write(spec) = step(&other, LEASE_DURATION) else { panic!("the Lease has ended") };
        assert_eq!((spec.holder_identity.as_deref(), spec.lease_transitions), (Some("me"), Some(5)));
    }

    #[test]
    fn renewing_is_no_transition() {
        let Step::Write(spec) = step(&lease("me", 4), Duration::ZERO) else { panic!("ours is renewed") };
        assert_eq!(spec.lease_transitions, Some(4));
    }

    #[test]
    fn a_released_lease_is_free_at_once() {
        assert!(matches!(step(&lease("", 4), Duration::ZERO), Step::Write(_)));
    }

    #[tokio::test]
    async fn a_holder_without_answers_stops_before_others_take_over() {
        // An API server that takes connections and says nothing.
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", silent.local_addr().unwrap()).parse().unwrap();
        let client = Client::try_from(kube::Config::new(address)).unwrap();
        let begun = Instant::now();
        let why = Election::new(client, "odradek-system", "me").hold().await;
        assert!(why.contains("could not be renewed"), "{why}");
        assert!(begun.elapsed() < LEASE_DURATION.checked_sub(RETRY_PERIOD).unwrap(), "{:?}", begun.elapsed());
    }
}
