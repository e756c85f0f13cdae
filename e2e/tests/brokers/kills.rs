// SPDX-License-Identifier: Apache-2.0
//! One broker after another is killed at random and comes back, while librdkafka and Java's client write and read.

use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use odradek_clients::{JavaTools, Random, native};
use odradek_e2e::site::Site;
use odradek_e2e::wait::until;

use crate::run::{Coordination, Outcome, Run};

const KILLS: u32 = 20;
const JAVA_TOPIC: &str = "orders-of-java";
const JAVA_PARTITIONS: i32 = 6;
/// Longer than a scenario may take, whose own bound ends it.
const JAVA_LIMIT: Duration = Duration::from_mins(25);
/// A compiler and a JVM start, on a busy machine.
const JAVA_STARTS: Duration = Duration::from_mins(1);
/// A broker that was down fetches what it missed, and its ISRs take it back.
const IN_SYNC_LIMIT: Duration = Duration::from_mins(1);

/// Tells Java's clients to come to their end, also when a scenario ends early.
struct StopFile(PathBuf);

impl Drop for StopFile {
    fn drop(&mut self) {
        // In a folder that is gone nobody waits for it.
        let _ = std::fs::write(&self.0, "");
    }
}

/// Each third kill takes the controller, the others take anyone. `ODRADEK_CHECK_SEED` repeats a run's schedule.
pub(crate) async fn brokers_are_killed_at_random(site: &mut Site, name: &str) -> Result<Outcome> {
    let seed = match std::env::var("ODRADEK_CHECK_SEED") {
        Ok(text) => text.parse().context("ODRADEK_CHECK_SEED")?,
        Err(_) => UNIX_EPOCH.elapsed()?.as_nanos() as u64,
    };
    println!("  ODRADEK_CHECK_SEED={seed}");
    let mut random = Random::new(seed);
    let mut run = Run::begin(site, name, 3, Coordination::Leases).await?;
    let bootstrap = run.brokers.bootstrap();
    let stop = StopFile(site.folder().join("stop-java"));
    let to = bootstrap.clone();
    tokio::task::spawn_blocking(move || {
        let settings = [("min.insync.replicas", "2")];
        native::create_replicated_topic(&to, JAVA_TOPIC, JAVA_PARTITIONS, 3, &settings)
    })
    .await??;
    let (to, file) = (bootstrap.clone(), stop.0.clone());
    let java = tokio::task::spawn_blocking(move || {
        let file = file.to_str().context("the folder's name is text")?;
        let ran = JavaTools::start()?.run_within(JAVA_LIMIT, "FailoverChecks", &[&to, JAVA_TOPIC, file], "")?;
        Ok::<_, anyhow::Error>(ran.succeeded("FailoverChecks")?.stdout)
    });
    until("Java's client writes", JAVA_STARTS, async || {
        let to = bootstrap.clone();
        let (_, end) = tokio::task::spawn_blocking(move || native::offsets(&to, JAVA_TOPIC, 0)).await??;
        ensure!(end > 0, "nothing was written");
        Ok(())
    })
    .await?;
    for kill in 1..=KILLS {
        run.goes_on(Duration::from_millis(random.between(200, 1_500))).await;
        let (controller, _) = run.controller().await?;
        let broker = if random.between(0, 3) == 0 { controller } else { random.between(0, 3) as u8 };
        let down = Duration::from_millis(random.between(0, 3_000));
        let context = || format!("kill {kill} of {KILLS}, broker {broker}, seed {seed}");
        run.brokers.kill(broker)?;
        run.goes_on(down).await;
        run.brokers.start(broker)?;
        run.serves(crate::run::SERVES_PATIENCE).await.with_context(context)?;
        let bootstrap = bootstrap.clone();
        let in_sync = move || native::wait_until_in_sync(&bootstrap, IN_SYNC_LIMIT);
        tokio::task::spawn_blocking(in_sync).await?.with_context(context)?;
    }
    run.recovers("after the last kill serves after").await?;
    drop(stop);
    print!("  {}", java.await?.with_context(|| format!("Java's clients, seed {seed}"))?);
    run.finish().await
}
