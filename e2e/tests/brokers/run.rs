// SPDX-License-Identifier: Apache-2.0
//! One scenario's cluster under load: brokers, a writer, a group, and those who write down who leads and what the Lease
//! says. At the end all of it is judged.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kube::Client;
use odradek_clients::history::{self, Gaps};
use odradek_clients::keyed::{self, KeyedGroup, KeyedTopic, KeyedWriter};
use odradek_clients::native;
use odradek_e2e::broker_processes::{self, BrokerProcesses};
use odradek_e2e::leadership::Leadership;
use odradek_e2e::lease_history::LeaseHistory;
use odradek_e2e::pod_identity::PodIdentity;
use odradek_e2e::site::Site;
use odradek_e2e::wait::until;

/// A cluster of empty brokers serves in a second; this machine also compiles.
const START_PATIENCE: Duration = Duration::from_mins(1);
/// The bound for serving again after a fault: a session of 6 s, a Lease of 6 s, an election with its back-off, loading
/// a coordinator, and the pauses of clients that were refused; twice that on a busy machine.
pub(crate) const SERVES_PATIENCE: Duration = Duration::from_secs(45);
/// The bound for the next controller.
pub(crate) const LEADS_PATIENCE: Duration = Duration::from_secs(40);
/// The bound for being whole again: a replica that was away catches up in a moment; voters change one at a time, and a
/// dead one is replaced only after 30 s.
const WHOLE_PATIENCE: Duration = Duration::from_secs(90);
/// How long a record may wait for its acknowledgement before the client gives it up: longer than any fault here.
const RECORD_PATIENCE: Duration = Duration::from_mins(5);

/// What is written to.
pub(crate) const TOPIC: &str = "orders";
const NEXT_CONTROLLER: &str = "next controller after";
const PARTITIONS: i32 = 6;
const KEYS: u32 = 24;
const PER_SECOND: u32 = 300;
/// One group for each partition of the groups' journal, so that every broker coordinates one: names that differ in the
/// last digit go to partitions one after another.
const GROUPS: usize = broker_processes::JOURNAL_PARTITIONS;
const MEMBERS: usize = 1;
const CLUSTER: &str = "c";
const LOG_LIMIT: Duration = Duration::from_mins(2);

/// Who coordinates a run's brokers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coordination {
    /// Leases.
    Leases,
    /// Nobody: a broker that is alone.
    Alone,
}

pub(crate) struct Run {
    pub(crate) brokers: BrokerProcesses,
    pub(crate) leases: LeaseHistory,
    pub(crate) leadership: Leadership,
    pub(crate) writer: KeyedWriter,
    pub(crate) client: Client,
    pub(crate) namespace: String,
    groups: Vec<KeyedGroup>,
    topic: KeyedTopic,
    folder: PathBuf,
    coordination: Coordination,
    /// When the load had begun and all was well.
    steady: Instant,
    measured: Vec<(String, Duration)>,
}

/// What a run that passed has shown.
#[derive(Debug)]
pub(crate) struct Outcome {
    measured: Vec<(String, Duration)>,
    gaps: Gaps,
    acknowledged: usize,
    /// Of them those whose acknowledgement named no offset.
    without_offset: usize,
    committed: usize,
    lease_versions: usize,
    epochs: (i32, i32),
    /// How many brokers led at some time.
    controllers: usize,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, time) in &self.measured {
            write!(f, "{what} {:.2} s; ", time.as_secs_f64())?;
        }
        write!(
            f,
            "longest without an acknowledgement: {:.2} s of any partition, {:.2} s of one; {} records and {} commits \
             confirmed and kept, {} without an offset; {} versions of the Lease, epochs {} to {}",
            self.gaps.all.as_secs_f64(),
            self.gaps.one.as_secs_f64(),
            self.acknowledged,
            self.committed,
            self.without_offset,
            self.lease_versions,
            self.epochs.0,
            self.epochs.1,
        )
    }
}

/// The head of the table that is made of [`Outcome::row`].
pub(crate) const TABLE: &str = "\
| what failed | next controller after | no partition acknowledged for | some partition did not acknowledge for |
|---|---|---|---|";

/// Half a session: who waits no longer waits for no election. A busy machine has shorter pauses.
const UNNOTICED: Duration = Duration::from_secs(3);

impl Outcome {
    /// Of a fault that clients may not notice.
    ///
    /// # Errors
    /// For how long some partition acknowledged nothing.
    pub(crate) fn unnoticed(self) -> Result<Self> {
        ensure!(self.gaps.one < UNNOTICED, "some partition acknowledged nothing for {:?}", self.gaps.one);
        Ok(self)
    }

    /// A line of the table for `docs/failures.md`. Of several next controllers it has the slowest.
    pub(crate) fn row(&self, name: &str) -> String {
        let next = self.measured.iter().filter(|(what, _)| what == NEXT_CONTROLLER).map(|(_, time)| *time).max();
        let next = match next {
            Some(time) => format!("{:.1} s", time.as_secs_f64()),
            None if self.controllers == 1 => "(the same goes on)".to_owned(),
            None => "(not measured)".to_owned(),
        };
        let [all, one] = [self.gaps.all, self.gaps.one].map(|gap| gap.as_secs_f64());
        format!("| {} | {next} | {all:.1} s | {one:.1} s |", name.replace('_', " "))
    }
}

/// The folder of a scenario's files in a site.
pub(crate) fn folder(site: &Site, name: &str) -> PathBuf {
    site.folder().join(name)
}

impl Run {
    /// Starts so many brokers and the load, and waits until all is well.
    pub(crate) async fn begin(site: &Site, name: &str, brokers: u8, coordination: Coordination) -> Result<Self> {
        let folder = folder(site, name);
        std::fs::create_dir_all(&folder)?;
        let namespace = name.replace('_', "-");
        let identity =
            PodIdentity::create(&site.plane, &namespace, CLUSTER, name, brokers, &folder.join("serviceaccount"))
                .await?;
        let client = site.plane.client().await?;
        let leases = LeaseHistory::begin(client.clone(), &namespace, CLUSTER, &folder.join("leases.jsonl")).await?;
        let given = (coordination == Coordination::Leases).then_some(&identity);
        let mut processes = BrokerProcesses::prepare(&folder, CLUSTER, name, brokers, given)?;
        let begun = Instant::now();
        for broker in 0..brokers {
            processes.start(broker)?;
        }
        let addresses: Vec<_> = (0..brokers).map(broker_processes::http_address).collect();
        let leadership = Leadership::watch(&addresses, &folder.join("leadership.txt"))?;
        while let Err(error) = leadership.one(Duration::from_secs(1)).await {
            // One that has ended says more than that nobody leads.
            processes.check_running()?;
            ensure!(begun.elapsed() < START_PATIENCE, "after {START_PATIENCE:?}: {error:#}");
        }
        let mut measured = vec![("first controller after".to_owned(), begun.elapsed())];

        let topic =
            KeyedTopic { bootstrap: processes.bootstrap(), name: TOPIC.to_owned(), partitions: PARTITIONS, keys: KEYS };
        let (replicas, settings): (i32, &[(&str, &str)]) = match brokers {
            1 => (1, &[]),
            // Two brokers are for those who want to go on with one: what the survivor alone has is acknowledged.
            2 => (2, &[("min.insync.replicas", "1")]),
            _ => (3, &[("min.insync.replicas", "2")]),
        };
        let deadline = Instant::now() + START_PATIENCE;
        let wanted = topic.clone();
        tokio::task::spawn_blocking(move || keyed::create(&wanted, replicas, settings, deadline))
            .await?
            .context("the topic cannot be made")?;
        let writer = KeyedWriter::start(&topic, PER_SECOND, RECORD_PATIENCE)?;
        let groups = (0..GROUPS)
            .map(|number| KeyedGroup::start(&topic, &format!("readers-{number}"), MEMBERS))
            .collect::<Result<_>>()?;
        let mut run = Self {
            brokers: processes,
            leases,
            leadership,
            writer,
            client,
            namespace,
            groups,
            topic,
            folder,
            coordination,
            steady: Instant::now(),
            measured: Vec::new(),
        };
        run.serves(START_PATIENCE).await.context("before any fault")?;
        run.groups_go_on(START_PATIENCE).await.context("before any fault")?;
        measured.push(("all well after".to_owned(), begun.elapsed()));
        run.measured = measured;
        run.steady = Instant::now();
        Ok(run)
    }

    /// Notes a time for whoever reads the outcome.
    pub(crate) fn measure(&mut self, what: &str, time: Duration) {
        self.measured.push((what.to_owned(), time));
    }

    /// Lets time pass in which everything goes on.
    pub(crate) async fn goes_on(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Waits until each partition has acknowledged a record from now on.
    pub(crate) async fn serves(&self, patience: Duration) -> Result<Duration> {
        let from = Instant::now();
        until("every partition acknowledges records", patience, async || {
            let mut last: BTreeMap<i32, Instant> = BTreeMap::new();
            for one in self.writer.acknowledged() {
                last.insert(one.partition, one.at);
            }
            let silent: Vec<i32> =
                (0..PARTITIONS).filter(|partition| last.get(partition).is_none_or(|at| *at <= from)).collect();
            ensure!(silent.is_empty(), "these do not: {silent:?}; given up: {:?}", self.writer.failed().first());
            Ok(())
        })
        .await?;
        Ok(from.elapsed())
    }

    /// Waits until each group commits further than it had.
    pub(crate) async fn groups_go_on(&self, patience: Duration) -> Result<()> {
        let at = || self.groups.iter().map(|group| group.committed_total(PARTITIONS)).collect::<Vec<_>>();
        let from = at();
        until("every group reads and commits", patience, async || {
            let now = at();
            let further = now.iter().zip(&from).all(|(now, from)| now > from);
            ensure!(further, "they were at {from:?} records and are at {now:?}");
            Ok(())
        })
        .await
    }

    /// The active controller and its epoch.
    pub(crate) async fn controller(&self) -> Result<(u8, i64)> {
        self.leadership.one(LEADS_PATIENCE).await
    }

    /// Waits for the controller after this epoch, and notes how long after `fault` it led.
    pub(crate) async fn next_controller(&mut self, epoch: i64, fault: Instant) -> Result<u8> {
        let said = self.leadership.after(epoch, LEADS_PATIENCE).await?;
        self.measure(NEXT_CONTROLLER, said.at.saturating_duration_since(fault));
        Ok(said.broker)
    }

    /// Waits until all is well after a fault: every partition and every group serve, and one broker leads.
    pub(crate) async fn recovers(&mut self, what: &str) -> Result<()> {
        let from = Instant::now();
        self.serves(SERVES_PATIENCE).await?;
        self.measure(what, from.elapsed());
        self.groups_go_on(SERVES_PATIENCE).await?;
        self.brokers.check_running()?;
        self.leadership.one(LEADS_PATIENCE).await?;
        Ok(())
    }

    /// Waits until every replica is in sync and so many voters stand in the Lease: only then is the loss of another
    /// broker survived. Brokers that run but do not come back into the cluster are found here.
    pub(crate) async fn whole(&mut self, voters: usize) -> Result<()> {
        let from = Instant::now();
        until("every replica is in sync", WHOLE_PATIENCE, async || {
            let topic = self.topic.clone();
            let ask = move || native::replicas_in_sync(&topic.bootstrap, &topic.name, topic.partitions);
            let partitions = tokio::task::spawn_blocking(ask).await??;
            let missing: Vec<_> = partitions.iter().filter(|(replicas, in_sync)| in_sync < replicas).collect();
            ensure!(missing.is_empty(), "of some partitions not all replicas are (replicas, in sync): {missing:?}");
            Ok(())
        })
        .await?;
        self.measure("all in sync after", from.elapsed());
        if self.coordination == Coordination::Leases {
            until(&format!("{voters} voters stand in the Lease"), WHOLE_PATIENCE, async || {
                let newest = self.leases.newest().context("the Lease is gone")?;
                let now = newest.voters.split(',').filter(|voter| !voter.is_empty()).count();
                ensure!(now == voters, "its voters: {:?}", newest.voters);
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Stops the load and judges everything.
    pub(crate) async fn finish(mut self) -> Result<Outcome> {
        self.whole(usize::from(self.brokers.count())).await?;
        let ended = Instant::now();
        let Self { mut brokers, leases, leadership, writer, groups, topic, folder, coordination, steady, .. } = self;
        let written = tokio::task::spawn_blocking(move || writer.finish()).await??;
        let reading = topic.clone();
        let log = tokio::task::spawn_blocking(move || reading.read_log(LOG_LIMIT)).await??;
        // The groups are given the rest.
        let end = log.len() as i64;
        until("the groups have read everything", SERVES_PATIENCE, async || {
            let now: Vec<_> = groups.iter().map(|group| group.committed_total(PARTITIONS)).collect();
            ensure!(now.iter().all(|now| *now >= end), "they are at {now:?} of {end} records");
            Ok(())
        })
        .await?;
        let finish = move || groups.into_iter().map(KeyedGroup::finish).collect::<Result<Vec<_>>>();
        let readers = tokio::task::spawn_blocking(finish).await??;
        brokers.check_running()?;
        for (number, group) in readers.iter().enumerate() {
            std::fs::write(folder.join(format!("group-{number}.txt")), group.lines(steady))?;
        }

        history::check_log(&log, &written.acknowledged).context("the log")?;
        for (number, group) in readers.iter().enumerate() {
            let name = || format!("group {number}");
            history::check_group(&group.committed, &group.seen).with_context(name)?;
            history::check_read(&log, &group.given).with_context(name)?;
        }
        ensure!(
            written.failed.is_empty(),
            "the client gave up {} records: {:?}",
            written.failed.len(),
            written.failed[0]
        );
        ensure!(
            written.acknowledged.len() == written.sent as usize && log.len() == written.sent as usize,
            "{} records were sent, {} acknowledged, {} are there",
            written.sent,
            written.acknowledged.len(),
            log.len()
        );
        leadership.check().context("who leads")?;
        leases.check().context("the Lease's history")?;
        let versions = leases.versions();
        let epochs: Vec<i32> = versions.iter().map(|version| version.epoch).collect();
        if coordination == Coordination::Leases {
            ensure!(epochs.iter().any(|epoch| *epoch > 0), "no broker ever took the Lease");
        }
        let gaps = history::gaps(&written.acknowledged, steady, ended);
        Ok(Outcome {
            measured: self.measured,
            gaps,
            acknowledged: written.acknowledged.len(),
            without_offset: written.acknowledged.iter().filter(|one| one.offset < 0).count(),
            committed: readers.iter().map(|group| group.committed.len()).sum(),
            lease_versions: versions.len(),
            controllers: leadership.ever().len(),
            epochs: (epochs.iter().min().copied().unwrap_or(0), epochs.iter().max().copied().unwrap_or(0)),
        })
    }
}

/// What of a scenario is worth keeping when it failed: logs, configuration and histories, but not the data.
pub(crate) fn keep(folder: &Path, kept: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder)?.flatten() {
        let target = kept.join(entry.file_name());
        let path = entry.path();
        if path.is_file() {
            std::fs::copy(&path, target)?;
        } else if path.ends_with("logs") {
            std::fs::create_dir_all(&target)?;
            for log in std::fs::read_dir(&path)?.flatten() {
                std::fs::copy(log.path(), target.join(log.file_name()))?;
            }
        }
    }
    Ok(())
}
