// SPDX-License-Identifier: Apache-2.0
//! Every version that a cluster's Leases ever had, written down as it comes, and what that history may not hold. It
//! reads Leases as kubectl does and must not know the brokers' code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::TryStreamExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::pod_identity::controller_lease;
use crate::wait::until;

/// One version of the controller Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseVersion {
    /// When the watch brought it.
    pub seen: Instant,
    pub uid: String,
    pub resource_version: String,
    /// `spec.holderIdentity`; `None` if nobody holds it.
    pub holder: Option<String>,
    /// `spec.leaseTransitions`.
    pub epoch: i32,
    /// The annotation `odradek.dev/sequence`, 0 where it is missing.
    pub sequence: i64,
    /// The annotation `odradek.dev/voters`.
    pub voters: String,
}

impl LeaseVersion {
    fn read(lease: &Lease) -> Self {
        let annotation = |name: &str| lease.annotations().get(name).cloned().unwrap_or_default();
        let spec = lease.spec.clone().unwrap_or_default();
        Self {
            seen: Instant::now(),
            uid: lease.uid().unwrap_or_default(),
            resource_version: lease.resource_version().unwrap_or_default(),
            holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
            epoch: spec.lease_transitions.unwrap_or(0),
            sequence: annotation("odradek.dev/sequence").parse().unwrap_or(0),
            voters: annotation("odradek.dev/voters"),
        }
    }

    /// The broker that holds it.
    pub fn holding_broker(&self) -> Option<u8> {
        self.holder.as_ref()?.split('/').next()?.parse().ok()
    }
}

/// What happened to the controller Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    /// It was written.
    Version(LeaseVersion),
    /// It was deleted.
    Deleted,
    /// Versions begin anew below those that were seen: etcd was restored.
    WentBack,
}

/// The history of one cluster's Leases, from now on.
#[derive(Debug)]
pub struct LeaseHistory {
    events: Arc<Mutex<Vec<Event>>>,
    strangers: Mutex<BTreeSet<String>>,
    goes_back: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl LeaseHistory {
    /// Begins with the Leases that are there. Each version of each of the namespace's Leases goes to `file` as a line
    /// of JSON; the controller's are what the other functions tell of.
    pub async fn begin(client: Client, namespace: &str, cluster: &str, file: &Path) -> Result<Self> {
        let events = Arc::<Mutex<Vec<Event>>>::default();
        let goes_back = Arc::<AtomicBool>::default();
        let mut watcher = Watcher {
            api: Api::namespaced(client, namespace),
            name: controller_lease(cluster),
            events: Arc::clone(&events),
            goes_back: Arc::clone(&goes_back),
            file: File::create(file)?,
            begun: Instant::now(),
            newest: 0,
            known: BTreeSet::new(),
        };
        watcher.list().await.context("the Leases cannot be listed")?;
        let task = tokio::spawn(async move {
            loop {
                // Whatever breaks a watch, it goes on from the version that it was at.
                let _ = watcher.watch().await;
                tokio::time::sleep(Duration::from_millis(100)).await;
                let _ = tokio::time::timeout(Duration::from_secs(5), watcher.list()).await;
            }
        });
        Ok(Self { events, strangers: Mutex::default(), goes_back, task })
    }

    /// The newest version, if it was not deleted since.
    pub fn newest(&self) -> Option<LeaseVersion> {
        match lock(&self.events).last() {
            Some(Event::Version(version)) => Some(version.clone()),
            _ => None,
        }
    }

    /// Every version so far.
    pub fn versions(&self) -> Vec<LeaseVersion> {
        lock(&self.events)
            .iter()
            .filter_map(|event| match event {
                Event::Version(version) => Some(version.clone()),
                Event::Deleted | Event::WentBack => None,
            })
            .collect()
    }

    /// Waits until a version has been seen, among all since the beginning, that is as wanted.
    pub async fn wait_for(
        &self,
        what: &str,
        patience: Duration,
        wanted: impl Fn(&LeaseVersion) -> bool,
    ) -> Result<LeaseVersion> {
        until(what, patience, async || {
            let versions = self.versions();
            versions.iter().find(|version| wanted(version)).cloned().with_context(|| {
                let newest = versions.last();
                format!("of {} versions of the controller Lease the newest is {newest:?}", versions.len())
            })
        })
        .await
    }

    /// This version was written by nobody of the cluster: what a broker writes after it follows other rules.
    pub fn a_stranger_wrote(&self, resource_version: &str) {
        self.strangers.lock().unwrap_or_else(PoisonError::into_inner).insert(resource_version.to_owned());
    }

    /// Etcd is about to be put back to an older state: what is seen after the watch has broken is another past.
    pub fn etcd_goes_back(&self) {
        self.goes_back.store(true, Ordering::Relaxed);
    }

    /// Whether the history is one that the protocol allows. Never are there two holders of one epoch. While nobody
    /// else touches the Lease and etcd keeps it, each write raises the sequence by one, each take raises the epoch by one, and a holder
    /// changes only by a take or by giving the Lease back.
    ///
    /// # Errors
    /// The two versions that contradict each other.
    pub fn check(&self) -> Result<()> {
        check(&lock(&self.events), &self.strangers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for LeaseHistory {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(events: &Mutex<Vec<Event>>) -> MutexGuard<'_, Vec<Event>> {
    events.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Watcher {
    api: Api<Lease>,
    name: String,
    events: Arc<Mutex<Vec<Event>>>,
    goes_back: Arc<AtomicBool>,
    file: File,
    begun: Instant,
    /// The version up to which everything was seen. Versions of one etcd are numbers that rise.
    newest: u64,
    /// The versions that were seen already: a list shows them again.
    known: BTreeSet<(String, String)>,
}

impl Watcher {
    async fn list(&mut self) -> Result<()> {
        let list = self.api.list(&ListParams::default()).await?;
        let now: u64 = list.metadata.resource_version.as_deref().unwrap_or_default().parse()?;
        if self.goes_back.swap(false, Ordering::Relaxed) || now < self.newest {
            writeln!(
                self.file,
                "{}",
                json!({"at": self.seconds(), "event": "went back", "from": self.newest, "to": now})
            )?;
            lock(&self.events).push(Event::WentBack);
            self.newest = 0;
            self.known.clear();
        }
        // Later versions than the one that the watch was at come by the watch, each for itself.
        if self.newest == 0 {
            self.newest = now;
            for lease in list {
                self.saw("listed", &lease)?;
            }
        }
        Ok(())
    }

    async fn watch(&mut self) -> Result<()> {
        let params = WatchParams::default().timeout(240);
        let mut events = std::pin::pin!(self.api.watch(&params, &self.newest.to_string()).await?);
        while let Some(event) = events.try_next().await? {
            match event {
                WatchEvent::Added(lease) | WatchEvent::Modified(lease) => {
                    self.newest = self.newest.max(lease.resource_version().unwrap_or_default().parse().unwrap_or(0));
                    self.saw("written", &lease)?;
                }
                WatchEvent::Deleted(lease) => {
                    self.newest = self.newest.max(lease.resource_version().unwrap_or_default().parse().unwrap_or(0));
                    writeln!(
                        self.file,
                        "{}",
                        json!({"at": self.seconds(), "event": "deleted", "name": lease.name_any()})
                    )?;
                    if lease.name_any() == self.name {
                        lock(&self.events).push(Event::Deleted);
                    }
                }
                WatchEvent::Bookmark(_) => {}
                WatchEvent::Error(status) => {
                    if status.code == 410 {
                        // What is too old to be continued begins anew; the oracle then sees a leap and says so.
                        self.newest = 0;
                    }
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn saw(&mut self, event: &str, lease: &Lease) -> Result<()> {
        let version = LeaseVersion::read(lease);
        if !self.known.insert((version.uid.clone(), version.resource_version.clone())) {
            return Ok(());
        }
        let line = json!({
            "at": self.seconds(),
            "event": event,
            "name": lease.name_any(),
            "uid": version.uid,
            "version": version.resource_version,
            "holder": version.holder,
            "epoch": version.epoch,
            "sequence": version.sequence,
            "voters": version.voters,
            "renewTime": lease.spec.as_ref().and_then(|spec| spec.renew_time.clone()),
        });
        writeln!(self.file, "{line}")?;
        if lease.name_any() == self.name {
            lock(&self.events).push(Event::Version(version));
        }
        Ok(())
    }

    fn seconds(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }
}

fn check(events: &[Event], strangers: &BTreeSet<String>) -> Result<()> {
    let mut holders: BTreeMap<i32, &LeaseVersion> = BTreeMap::new();
    let mut before: Option<&LeaseVersion> = None;
    let mut went_back = false;
    for event in events {
        let Event::Version(version) = event else {
            before = None;
            went_back = *event == Event::WentBack;
            continue;
        };
        // Text that names no broker, which only a stranger writes, is no holder.
        if let Some(holder) = version.holder.as_ref().filter(|_| version.holding_broker().is_some()) {
            let first = *holders.entry(version.epoch).or_insert(version);
            ensure!(first.holder.as_ref() == Some(holder), "two holders of one epoch: {first:?}, then {version:?}");
        }
        // After what etcd was put back to, as after what a stranger wrote, comes the repair: an epoch above all.
        if strangers.contains(&version.resource_version) || std::mem::take(&mut went_back) {
            before = None;
            continue;
        }
        if let Some(before) = before.filter(|before| before.uid == version.uid) {
            let both = || format!("{before:?}, then {version:?}");
            ensure!(
                version.sequence == before.sequence + 1,
                "a write was not seen, or did not count itself: {}",
                both()
            );
            let taken = version.epoch == before.epoch + 1;
            ensure!(taken || version.epoch == before.epoch, "the epoch leapt: {}", both());
            let same = version.holder == before.holder || version.holder.is_none();
            ensure!(taken || same, "the holder changed without a take: {}", both());
        }
        before = Some(version);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(number: u32, holder: &str, epoch: i32, sequence: i64) -> Event {
        Event::Version(LeaseVersion {
            seen: Instant::now(),
            uid: "one".to_owned(),
            resource_version: number.to_string(),
            holder: Some(holder.to_owned()).filter(|holder| !holder.is_empty()),
            epoch,
            sequence,
            voters: String::new(),
        })
    }

    #[test]
    fn what_the_protocol_allows_passes() {
        let history = [
            version(1, "", 0, 0),
            version(2, "1/a", 1, 1),
            version(3, "1/a", 1, 2),
            version(4, "", 1, 3),
            version(5, "2/b", 2, 4),
            version(6, "99/x", 3, 5),
            version(7, "2/b", 5, 6),
            version(8, "nobody", 5, 6),
            Event::Deleted,
            version(9, "2/b", 6, 0),
            Event::WentBack,
            version(2, "1/a", 1, 1),
            version(3, "2/b", 7, 2),
            version(4, "2/b", 7, 3),
        ];
        check(&history, &BTreeSet::from(["6", "8"].map(str::to_owned))).unwrap();
        assert!(check(&history, &BTreeSet::new()).unwrap_err().to_string().contains("leapt"));
    }

    #[test]
    fn each_contradiction_is_found() {
        let first = version(1, "1/a", 1, 1);
        let wrong = |second: Event, what: &str| {
            let said = check(&[first.clone(), second], &BTreeSet::new()).unwrap_err().to_string();
            assert!(said.contains(what), "{said}");
        };
        wrong(version(2, "2/b", 1, 2), "two holders");
        wrong(version(2, "1/a", 1, 3), "not seen");
        wrong(version(2, "1/a", 1, 1), "not seen");
        wrong(version(2, "2/b", 3, 2), "leapt");
        wrong(version(2, "2/b", 0, 2), "leapt");
        // One after a release, where the holder of the epoch is known already.
        let released = [first.clone(), version(2, "", 1, 2), version(3, "1/b", 1, 3)];
        assert!(check(&released, &BTreeSet::new()).unwrap_err().to_string().contains("two holders"));
        let leaps = [Event::WentBack, first.clone(), version(2, "1/a", 4, 2), version(3, "1/a", 6, 3)];
        assert!(check(&leaps, &BTreeSet::new()).unwrap_err().to_string().contains("leapt"));
        // Also across a restored etcd no epoch has two holders.
        let restored = [first.clone(), version(2, "2/b", 2, 2), Event::WentBack, version(2, "3/c", 2, 2)];
        assert!(check(&restored, &BTreeSet::new()).unwrap_err().to_string().contains("two holders"));
    }
}
