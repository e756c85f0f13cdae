// SPDX-License-Identifier: Apache-2.0
//! A broker's volume comes back empty, or not as the broker left it; and a second process has a broker's id.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use odradek_e2e::site::Site;
use odradek_e2e::wait::until;

use crate::run::{Coordination, Outcome, Run, TOPIC};

const A_WHILE: Duration = Duration::from_secs(3);
/// Longer than a session (6 s) and than the renewal of a broker's Lease (10 s).
const PAST_A_RENEWAL: Duration = Duration::from_secs(15);
/// High watermarks are checkpointed every 5 s: by them a start knows what a log has to hold.
const PAST_A_CHECKPOINT: Duration = Duration::from_secs(7);
/// A broker that has just started says what it finds within seconds.
const SAID_PATIENCE: Duration = Duration::from_secs(30);
/// A voter whose folder is gone is replaced once its broker has registered with another one, which has to catch up first.
const VOTERS_PATIENCE: Duration = Duration::from_secs(90);

/// An empty volume is another replica and another voter: it is filled again, and stands in the Lease in place of the old
/// one. First that of a broker that is not the controller, then that of one that is.
pub(crate) async fn each_volume_is_wiped_in_turn(site: &mut Site, name: &str) -> Result<Outcome> {
    let mut run = Run::begin(site, name, 3, Coordination::Leases).await?;
    for is_controller in [false, true] {
        let (controller, epoch) = run.controller().await?;
        let broker = if is_controller { controller } else { (controller + 1) % 3 };
        let old = run.brokers.voter(broker)?;
        let fault = Instant::now();
        run.brokers.kill(broker)?;
        std::fs::remove_dir_all(run.brokers.data_folder(broker))?;
        if is_controller {
            run.next_controller(epoch, fault).await?;
        }
        run.recovers(&format!("serves without broker {broker} after")).await?;
        let start = Instant::now();
        run.brokers.start(broker)?;
        run.recovers("with it, empty, after").await?;
        let new = run.brokers.voter(broker)?;
        ensure!(new != old, "an empty volume is still {old}");
        run.leases
            .wait_for("the new folder is a voter in place of the old one", VOTERS_PATIENCE, |version| {
                version.voters.split(',').any(|voter| voter == new) && !version.voters.contains(&old)
            })
            .await?;
        run.measure("voter in place of the old one after", start.elapsed());
        run.whole(3).await?;
    }
    run.finish().await
}

/// Of one partition a bit has flipped in what was not known to be on the disk, of another the whole log is gone. Both are
/// told of, not elected, and filled again.
pub(crate) async fn a_followers_log_is_damaged(site: &mut Site, name: &str) -> Result<Outcome> {
    let mut run = Run::begin(site, name, 3, Coordination::Leases).await?;
    let broker = (run.controller().await?.0 + 1) % 3;
    run.goes_on(PAST_A_CHECKPOINT).await;
    run.brokers.kill(broker)?;
    let folder = run.brokers.data_folder(broker);
    let segments: Vec<PathBuf> = (0..2).map(|partition| segment(&folder, partition)).collect();
    let mut whole = Vec::new();
    for path in &segments {
        // Its first half was surely on all three when the broker died.
        let mut bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
        bytes.truncate(bytes.len() / 2);
        ensure!(bytes.len() > 10_000, "{} holds only {} bytes", path.display(), 2 * bytes.len());
        whole.push(bytes);
    }
    let mut flipped = std::fs::read(&segments[0])?;
    flipped[whole[0].len() / 2] ^= 1;
    std::fs::write(&segments[0], flipped)?;
    std::fs::remove_dir_all(segments[1].parent().context("a segment is in a folder")?)?;

    run.recovers("serves without it after").await?;
    run.brokers.start(broker)?;
    for partition in 0..2 {
        until(&format!("the broker tells of partition {partition}"), SAID_PATIENCE, async || {
            let log = run.brokers.log(broker)?;
            let wanted = format!("topic={TOPIC} index={partition}");
            let said = log.lines().any(|line| line.contains("the replica's log is damaged") && line.contains(&wanted));
            ensure!(said, "no line has {wanted}");
            Ok(())
        })
        .await?;
    }
    run.recovers("serves with it after").await?;
    run.whole(3).await?;
    for (path, whole) in segments.iter().zip(&whole) {
        let now = std::fs::read(path)?;
        ensure!(now.starts_with(whole), "{} is in sync and differs from what was there before", path.display());
    }
    run.finish().await
}

/// The second one waits, says why, and touches nothing, as long as the first renews its Lease.
pub(crate) async fn a_second_process_has_a_brokers_id(site: &mut Site, name: &str) -> Result<Outcome> {
    let run = Run::begin(site, name, 2, Coordination::Leases).await?;
    let before = run.controller().await?;
    let mut second = run.brokers.start_second(1 - before.0, 2)?;
    let said = || std::fs::read_to_string(second.log()).unwrap_or_default();
    until("the second process says what it waits for", SAID_PATIENCE, async || {
        ensure!(said().contains("another process is this broker; waiting for its end"), "its log: {}", said());
        Ok(())
    })
    .await?;
    run.goes_on(PAST_A_RENEWAL).await;
    ensure!(!said().contains("serving"), "the second process serves: {}", said());
    second.check_running()?;
    run.serves(crate::run::SERVES_PATIENCE).await?;
    ensure!(run.controller().await? == before, "another controller");
    second.kill();
    run.goes_on(A_WHILE).await;
    run.finish().await
}

/// The first segment of a partition: no run here fills one.
fn segment(data_folder: &Path, partition: u8) -> PathBuf {
    data_folder.join(format!("{TOPIC}-{partition}")).join("00000000000000000000.log")
}
