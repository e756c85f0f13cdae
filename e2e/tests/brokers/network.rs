// SPDX-License-Identifier: Apache-2.0
//! The network between the brokers, or to the API server, loses what is sent. Clients reach every broker all the time.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use odradek_e2e::cuts::{cut, cut_both};
use odradek_e2e::site::Site;

use crate::run::{Coordination, Outcome, Run, SERVES_PATIENCE};

/// Longer than a Lease (6 s) and a session (6 s), with an election after both.
const CUT: Duration = Duration::from_secs(25);
const A_WHILE: Duration = Duration::from_secs(3);

/// The controller cannot hear the others nor they it; it still renews the Lease and its clients still reach it.
pub(crate) async fn the_controller_is_cut_off_from_the_others(site: &mut Site, name: &str) -> Result<Outcome> {
    let mut run = Run::begin(site, name, 3, Coordination::Leases).await?;
    let (controller, epoch) = run.controller().await?;
    let fault = Instant::now();
    for other in (0..3).filter(|other| *other != controller) {
        cut_both(Site::machine_of(controller), Site::machine_of(other)).await?;
    }
    let next = run.next_controller(epoch, fault).await?;
    ensure!(next != controller, "the controller that is cut off leads a later epoch");
    let served = run.serves(SERVES_PATIENCE).await.context("while the old controller is cut off")?;
    run.measure("all partitions serve without it after", served);
    run.goes_on(CUT.saturating_sub(fault.elapsed())).await;
    site.heal().await?;
    run.recovers("serves after the network is whole after").await?;
    run.goes_on(A_WHILE).await;
    run.finish().await
}

/// As above, with a broker that is not the controller: no other controller follows.
pub(crate) async fn a_broker_is_cut_off_from_the_others(site: &mut Site, name: &str) -> Result<Outcome> {
    let mut run = Run::begin(site, name, 3, Coordination::Leases).await?;
    let (controller, epoch) = run.controller().await?;
    let alone = (controller + 1) % 3;
    let fault = Instant::now();
    for other in (0..3).filter(|other| *other != alone) {
        cut_both(Site::machine_of(alone), Site::machine_of(other)).await?;
    }
    let served = run.serves(SERVES_PATIENCE).await.context("while one broker is cut off")?;
    run.measure("all partitions serve without it after", served);
    run.goes_on(CUT.saturating_sub(fault.elapsed())).await;
    ensure!(run.controller().await? == (controller, epoch), "another controller, because of a broker that is cut off");
    site.heal().await?;
    run.recovers("serves after the network is whole after").await?;
    run.goes_on(A_WHILE).await;
    ensure!(run.controller().await? == (controller, epoch), "another controller after the network is whole");
    run.finish().await
}

/// What the controller sends to the others is lost; what they send reaches it.
pub(crate) async fn the_others_do_not_hear_the_controller(site: &mut Site, name: &str) -> Result<Outcome> {
    one_way(site, name, |controller, other| (controller, other)).await
}

/// What the others send to the controller is lost; what it sends reaches them.
pub(crate) async fn the_controller_does_not_hear_the_others(site: &mut Site, name: &str) -> Result<Outcome> {
    one_way(site, name, |controller, other| (other, controller)).await
}

async fn one_way(site: &mut Site, name: &str, direction: fn(u8, u8) -> (u8, u8)) -> Result<Outcome> {
    let mut run = Run::begin(site, name, 3, Coordination::Leases).await?;
    let (controller, epoch) = run.controller().await?;
    let fault = Instant::now();
    for other in (0..3).filter(|other| *other != controller) {
        let (from, to) = direction(controller, other);
        cut(Site::machine_of(from), Site::machine_of(to)).await?;
    }
    let next = run.next_controller(epoch, fault).await?;
    ensure!(next != controller, "the controller that is cut off leads a later epoch");
    let served = run.serves(SERVES_PATIENCE).await.context("while one direction is cut")?;
    run.measure("all partitions serve after", served);
    run.goes_on(CUT.saturating_sub(fault.elapsed())).await;
    site.heal().await?;
    run.recovers("serves after the network is whole after").await?;
    run.goes_on(A_WHILE).await;
    run.finish().await
}

/// The controller cannot reach the API server, the others can: nothing changes, as its voters hear it.
pub(crate) async fn the_controller_is_cut_off_from_the_api_server(site: &mut Site, name: &str) -> Result<Outcome> {
    let mut run = Run::begin(site, name, 3, Coordination::Leases).await?;
    let before = run.controller().await?;
    cut_both(Site::machine_of(before.0), Site::control()).await?;
    run.goes_on(CUT).await;
    run.serves(SERVES_PATIENCE).await.context("while the controller does not reach the API server")?;
    ensure!(run.controller().await? == before, "another controller, though its voters hear it");
    site.heal().await?;
    run.recovers("serves after the network is whole after").await?;
    run.goes_on(A_WHILE).await;
    run.finish().await?.unnoticed()
}

/// Of two brokers, which do not hear each other while both reach the API server, exactly one goes on.
pub(crate) async fn two_brokers_are_cut_off_from_each_other(site: &mut Site, name: &str) -> Result<Outcome> {
    let mut run = Run::begin(site, name, 2, Coordination::Leases).await?;
    let fault = Instant::now();
    cut_both(Site::machine_of(0), Site::machine_of(1)).await?;
    let served = run.serves(SERVES_PATIENCE).await.context("while two brokers do not hear each other")?;
    run.measure("all partitions serve on one after", served);
    run.goes_on(CUT.saturating_sub(fault.elapsed())).await;
    site.heal().await?;
    run.recovers("serves after the network is whole after").await?;
    run.goes_on(A_WHILE).await;
    run.finish().await
}

/// Of three brokers, none of which hears another, nobody goes on; what is acknowledged is acknowledged by two.
pub(crate) async fn three_brokers_are_cut_off_from_each_other(site: &mut Site, name: &str) -> Result<Outcome> {
    let mut run = Run::begin(site, name, 3, Coordination::Leases).await?;
    for (one, other) in [(0, 1), (0, 2), (1, 2)] {
        cut_both(Site::machine_of(one), Site::machine_of(other)).await?;
    }
    // What two had already may still be answered.
    run.goes_on(A_WHILE).await;
    let (before, _) = run.writer.progress();
    run.goes_on(CUT).await;
    let (after, _) = run.writer.progress();
    ensure!(after == before, "{} records were acknowledged, by one broker alone", after - before);
    site.heal().await?;
    run.recovers("serves after the network is whole after").await?;
    run.goes_on(A_WHILE).await;
    run.finish().await
}
