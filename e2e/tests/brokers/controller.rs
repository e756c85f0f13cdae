// SPDX-License-Identifier: Apache-2.0
//! The active controller, or another broker, ends or freezes, and comes back.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use odradek_e2e::site::Site;

use crate::run::{Coordination, Outcome, Run};

/// Longer than a Lease (6 s) and than a broker's session (6 s).
const PAST_THE_LEASE: Duration = Duration::from_secs(15);
/// Long enough that every broker is at work, short beside a run.
const A_WHILE: Duration = Duration::from_secs(3);

/// Checks the harness itself: a broker without Leases is killed and started again.
pub(crate) async fn a_lone_broker_is_killed(site: &mut Site, name: &str) -> Result<Outcome> {
    let mut run = Run::begin(site, name, 1, Coordination::Alone).await?;
    run.goes_on(A_WHILE).await;
    run.brokers.kill(0)?;
    run.goes_on(Duration::from_secs(1)).await;
    run.brokers.start(0)?;
    run.recovers("serves again after its start after").await?;
    run.finish().await
}

pub(crate) async fn the_controller_is_killed(site: &mut Site, name: &str) -> Result<Outcome> {
    let mut run = Run::begin(site, name, 3, Coordination::Leases).await?;
    let (controller, epoch) = run.controller().await?;
    let fault = Instant::now();
    run.brokers.kill(controller)?;
    run.next_controller(epoch, fault).await?;
    run.recovers("all partitions serve with two after").await?;
    run.goes_on(A_WHILE).await;
    run.brokers.start(controller)?;
    run.recovers("after its return after").await?;
    run.goes_on(A_WHILE).await;
    run.finish().await
}

/// Each broker in turn, the controller last, as a rolling restart by force; each with time to come back into the ISR.
pub(crate) async fn every_broker_is_killed_in_turn(site: &mut Site, name: &str) -> Result<Outcome> {
    let mut run = Run::begin(site, name, 3, Coordination::Leases).await?;
    let (controller, epoch) = run.controller().await?;
    for broker in (0..3).filter(|broker| *broker != controller).chain([controller]) {
        let fault = Instant::now();
        run.brokers.kill(broker)?;
        if broker == controller {
            run.next_controller(epoch, fault).await?;
        }
        run.recovers(&format!("serves without broker {broker} after")).await?;
        run.brokers.start(broker)?;
        run.recovers("with it after").await?;
        run.whole(3).await?;
    }
    run.finish().await
}

pub(crate) async fn the_controller_is_frozen_past_its_lease(site: &mut Site, name: &str) -> Result<Outcome> {
    let mut run = Run::begin(site, name, 3, Coordination::Leases).await?;
    let (controller, epoch) = run.controller().await?;
    let fault = Instant::now();
    run.brokers.freeze(controller)?;
    let next = run.next_controller(epoch, fault).await?;
    ensure!(next != controller, "a frozen broker leads");
    run.serves(crate::run::SERVES_PATIENCE).await?;
    run.goes_on(PAST_THE_LEASE.saturating_sub(fault.elapsed())).await;
    // It believes that no time has passed, and that it leads.
    run.brokers.thaw(controller)?;
    run.recovers("serves after it goes on after").await?;
    run.goes_on(A_WHILE).await;
    let (leader, _) = run.controller().await?;
    ensure!(leader == next, "broker {leader} leads, not {next}");
    run.finish().await
}

pub(crate) async fn a_broker_is_frozen_past_its_session(site: &mut Site, name: &str) -> Result<Outcome> {
    let mut run = Run::begin(site, name, 3, Coordination::Leases).await?;
    let (controller, epoch) = run.controller().await?;
    let other = (controller + 1) % 3;
    run.brokers.freeze(other)?;
    let frozen = run.serves(crate::run::SERVES_PATIENCE).await?;
    run.measure("all partitions serve without it after", frozen);
    run.goes_on(PAST_THE_LEASE).await;
    run.brokers.thaw(other)?;
    run.recovers("serves after it goes on after").await?;
    run.goes_on(A_WHILE).await;
    ensure!(run.controller().await? == (controller, epoch), "another controller");
    run.finish().await
}

/// As after an eviction: the volume comes back in another pod, which waits until the Lease of the old one has expired.
pub(crate) async fn a_broker_comes_back_in_another_pod(site: &mut Site, name: &str) -> Result<Outcome> {
    let mut run = Run::begin(site, name, 3, Coordination::Leases).await?;
    let (controller, _) = run.controller().await?;
    let broker = (controller + 1) % 3;
    run.brokers.kill(broker)?;
    run.recovers("serves without it after").await?;
    run.brokers.move_to_another_pod(broker, "another-pod");
    run.brokers.start(broker)?;
    run.whole(3).await?;
    ensure!(
        run.brokers.log(broker)?.contains("another process is this broker; waiting for its end"),
        "it did not wait for the old pod's Lease"
    );
    run.goes_on(A_WHILE).await;
    run.finish().await
}

pub(crate) async fn the_controller_stops_cleanly(site: &mut Site, name: &str) -> Result<Outcome> {
    let mut run = Run::begin(site, name, 3, Coordination::Leases).await?;
    let (controller, epoch) = run.controller().await?;
    let fault = Instant::now();
    let took = run.brokers.stop(controller).await?;
    run.measure("its stop took", took);
    run.next_controller(epoch, fault).await?;
    run.recovers("serves without it after").await?;
    let released =
        run.leases.versions().iter().any(|version| i64::from(version.epoch) == epoch && version.holder.is_none());
    ensure!(released, "a clean stop gave the Lease back in no version of it");
    run.brokers.start(controller)?;
    run.recovers("with it after").await?;
    run.goes_on(A_WHILE).await;
    run.finish().await
}

/// Two brokers: each of the two is killed in turn while the other goes on, so the controller and the other one.
pub(crate) async fn each_of_two_brokers_is_killed(site: &mut Site, name: &str) -> Result<Outcome> {
    let mut run = Run::begin(site, name, 2, Coordination::Leases).await?;
    for round in ["first", "second"] {
        let (controller, epoch) = run.controller().await?;
        let fault = Instant::now();
        run.brokers.kill(controller)?;
        run.next_controller(epoch, fault).await?;
        run.recovers(&format!("{round} survivor serves alone after")).await?;
        run.goes_on(A_WHILE).await;
        run.brokers.start(controller)?;
        run.recovers("both serve after").await?;
        run.whole(2).await?;
    }
    // Whoever leads now: the other one is killed.
    let (controller, epoch) = run.controller().await?;
    let other = 1 - controller;
    run.brokers.kill(other)?;
    run.recovers("controller serves alone after").await?;
    ensure!(run.controller().await?.0 == controller, "another controller than the survivor");
    run.brokers.start(other)?;
    run.recovers("both serve after").await?;
    let (last, now) = run.controller().await?;
    ensure!((last, now) == (controller, epoch), "broker {last} leads epoch {now}, not {controller} epoch {epoch}");
    run.finish().await
}
