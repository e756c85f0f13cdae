// SPDX-License-Identifier: Apache-2.0
//! The API server is away, or the controller Lease is not what the brokers left there.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, PostParams};
use odradek_e2e::site::Site;
use odradek_e2e::wait::until;

use crate::run::{Coordination, LEADS_PATIENCE, Outcome, Run, SERVES_PATIENCE};

const A_WHILE: Duration = Duration::from_secs(3);
const LEASE: &str = "c-controller";
const SEQUENCE: &str = "odradek.dev/sequence";
/// Longer than it takes a broker to renew its own Lease (10 s).
const PAST_A_RENEWAL: Duration = Duration::from_secs(13);
/// Longer than a Lease (6 s).
const PAST_THE_LEASE: Duration = Duration::from_secs(10);
/// Brokers repair the Lease within a few of its renewals of 2 s.
const REPAIR_PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn the_api_server_is_away_for_a_short_time(site: &mut Site, name: &str) -> Result<Outcome> {
    the_api_server_is_away(site, name, Duration::from_secs(20)).await
}

pub(crate) async fn the_api_server_is_away_for_two_minutes(site: &mut Site, name: &str) -> Result<Outcome> {
    the_api_server_is_away(site, name, Duration::from_mins(2)).await
}

pub(crate) async fn the_api_server_is_away_for_ten_minutes(site: &mut Site, name: &str) -> Result<Outcome> {
    the_api_server_is_away(site, name, Duration::from_mins(10)).await
}

/// Nothing may be noticed: no broker fails meanwhile.
async fn the_api_server_is_away(site: &mut Site, name: &str, time: Duration) -> Result<Outcome> {
    let run = Run::begin(site, name, 3, Coordination::Leases).await?;
    let before = run.controller().await?;
    site.plane.stop_api_server();
    run.goes_on(time).await;
    run.serves(SERVES_PATIENCE).await.context("while the API server is away")?;
    ensure!(run.controller().await? == before, "another controller, without the API server");
    site.plane.start_api_server().await?;
    let renewals = run.leases.versions().len();
    run.leases
        .wait_for("the Lease is renewed again", REPAIR_PATIENCE, |_| run.leases.versions().len() > renewals)
        .await?;
    run.goes_on(A_WHILE).await;
    ensure!(run.controller().await? == before, "another controller, after the API server came back");
    run.finish().await?.unnoticed()
}

/// A broker that is not the controller is killed meanwhile and comes back: with three voters that needs no API server.
pub(crate) async fn a_broker_is_killed_while_the_api_server_is_away(site: &mut Site, name: &str) -> Result<Outcome> {
    let mut run = Run::begin(site, name, 3, Coordination::Leases).await?;
    let before = run.controller().await?;
    let other = (before.0 + 1) % 3;
    site.plane.stop_api_server();
    run.goes_on(A_WHILE).await;
    run.brokers.kill(other)?;
    run.recovers("serves without it and without the API server after").await?;
    // Its container starts again in its pod.
    run.brokers.start(other)?;
    run.recovers("with it after").await?;
    run.goes_on(Duration::from_secs(10)).await;
    site.plane.start_api_server().await?;
    // Every broker has renewed its own Lease since, also the one that had to start without it.
    run.goes_on(PAST_A_RENEWAL).await;
    ensure!(run.controller().await? == before, "another controller");
    run.finish().await
}

/// The controller is killed meanwhile: nobody can follow it until the API server is back, and then somebody does.
pub(crate) async fn the_controller_is_killed_while_the_api_server_is_away(
    site: &mut Site,
    name: &str,
) -> Result<Outcome> {
    let mut run = Run::begin(site, name, 3, Coordination::Leases).await?;
    let (controller, epoch) = run.controller().await?;
    site.plane.stop_api_server();
    run.goes_on(A_WHILE).await;
    run.brokers.kill(controller)?;
    run.goes_on(Duration::from_secs(10)).await;
    ensure!(
        run.leadership.leaders().is_empty(),
        "somebody leads without the API server: {:?}",
        run.leadership.leaders()
    );
    let back = Instant::now();
    site.plane.start_api_server().await?;
    run.measure("the API server's own start took", back.elapsed());
    let back = Instant::now();
    run.next_controller(epoch, back).await?;
    run.recovers("serves with two after").await?;
    run.brokers.start(controller)?;
    run.recovers("with it after").await?;
    run.finish().await
}

/// Of two voters both are needed, so without the API server nobody can do without the dead one. A container that starts
/// again in its pod is enough; else it waits until the API server is back.
pub(crate) async fn one_of_two_brokers_is_killed_while_the_api_server_is_away(
    site: &mut Site,
    name: &str,
) -> Result<Outcome> {
    let mut run = Run::begin(site, name, 2, Coordination::Leases).await?;
    let (controller, _) = run.controller().await?;
    let other = 1 - controller;
    site.plane.stop_api_server();
    run.goes_on(A_WHILE).await;
    run.brokers.kill(other)?;
    run.goes_on(A_WHILE).await;
    run.brokers.start(other)?;
    run.recovers("serves with it again, without the API server, after").await?;
    run.whole(2).await?;

    run.brokers.kill(other)?;
    // What both had already may still be answered.
    run.goes_on(A_WHILE).await;
    let (before, _) = run.writer.progress();
    run.goes_on(Duration::from_secs(15)).await;
    let (after, _) = run.writer.progress();
    ensure!(after == before, "{} records were acknowledged by one of two in sync", after - before);
    site.plane.start_api_server().await?;
    run.recovers("serves alone once the API server is back after").await?;
    ensure!(run.controller().await?.0 == controller, "another controller than the survivor");
    run.brokers.start(other)?;
    run.recovers("both serve after").await?;
    run.finish().await
}

pub(crate) async fn the_lease_is_deleted(site: &mut Site, name: &str) -> Result<Outcome> {
    let mut run = Run::begin(site, name, 3, Coordination::Leases).await?;
    let before = run.controller().await?;
    let first = run.leases.newest().context("a Lease")?;
    let fault = Instant::now();
    leases(&run).delete(LEASE, &DeleteParams::default()).await?;
    let again = run
        .leases
        .wait_for("the Lease is made again", REPAIR_PATIENCE, |version| {
            version.uid != first.uid && version.holder.is_some()
        })
        .await?;
    run.measure("Lease there again after", again.seen.saturating_duration_since(fault));
    ensure!(again.epoch > first.epoch, "it came back with epoch {}, not above {}", again.epoch, first.epoch);
    ensure!(again.voters == first.voters, "its voters were {:?}, now they are {:?}", first.voters, again.voters);
    run.recovers("serves after").await?;
    ensure!(run.controller().await?.0 == before.0, "another broker leads, though the controller lived");
    run.goes_on(A_WHILE).await;
    run.finish().await
}

/// Whatever a stranger writes, it is no registered broker: the brokers take the Lease back at once.
pub(crate) async fn a_stranger_takes_the_lease(site: &mut Site, name: &str) -> Result<Outcome> {
    let mut run = Run::begin(site, name, 3, Coordination::Leases).await?;
    let (_, epoch) = run.controller().await?;
    let fault = Instant::now();
    a_stranger_writes(&run, |lease| {
        let sequence: i64 = lease.annotations()[SEQUENCE].parse().unwrap_or(0);
        lease.annotations_mut().insert(SEQUENCE.to_owned(), (sequence + 1).to_string());
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = Some("99/00000000-0000-4000-8000-000000000000".to_owned());
        spec.lease_transitions = spec.lease_transitions.map(|transitions| transitions + 1);
    })
    .await?;
    let back = run
        .leases
        .wait_for("a broker takes the Lease back", LEADS_PATIENCE, |version| {
            i64::from(version.epoch) > epoch + 1 && version.holding_broker().is_some_and(|broker| broker < 3)
        })
        .await?;
    run.measure("Lease taken back after", back.seen.saturating_duration_since(fault));
    run.next_controller(epoch + 1, fault).await?;
    run.recovers("serves after").await?;
    run.goes_on(A_WHILE).await;
    run.finish().await
}

/// The annotation or the text that a stranger spoils, and the field by which brokers name it.
const SPOILT: [(&str, &str, &str); 4] = [
    ("odradek.dev/cluster-id", "another", "metadata.annotations[odradek.dev/cluster-id]"),
    ("odradek.dev/voters", "everybody", "metadata.annotations[odradek.dev/voters]"),
    (SEQUENCE, "-1", "metadata.annotations[odradek.dev/sequence]"),
    ("holder", "somebody", "spec.holderIdentity"),
];

/// Whoever leads goes on, and says what is wrong; nobody writes over what is not understood, nor leads by it. Once it is put right
/// everything goes on.
pub(crate) async fn the_lease_is_made_unreadable(site: &mut Site, name: &str) -> Result<Outcome> {
    let mut run = Run::begin(site, name, 3, Coordination::Leases).await?;
    let before = run.controller().await?;
    for (what, text, field) in SPOILT {
        let (good, spoilt) = a_stranger_writes(&run, |lease| spoil(lease, what, text)).await?;
        until(&format!("the controller names {field}"), REPAIR_PATIENCE, async || {
            ensure!(run.brokers.log(before.0)?.contains(field), "it does not");
            Ok(())
        })
        .await?;
        run.goes_on(PAST_THE_LEASE).await;
        run.serves(SERVES_PATIENCE).await.with_context(|| format!("with {text:?} as {what}"))?;
        ensure!(run.controller().await? == before, "another controller, with {text:?} as {what}");
        still_as(&run, &spoilt).await?;
        put_right(&run, &good).await?;
        until("the Lease is renewed again", REPAIR_PATIENCE, async || {
            let newest = run.leases.newest().context("no Lease")?;
            ensure!(newest.sequence > sequence_of(&good)?, "{newest:?}");
            Ok(())
        })
        .await?;
    }
    ensure!(run.controller().await? == before, "another controller, though the Lease was put right");

    // And now the controller dies meanwhile.
    let (controller, epoch) = before;
    let (what, text, _) = SPOILT[1];
    let (good, spoilt) = a_stranger_writes(&run, |lease| spoil(lease, what, text)).await?;
    run.brokers.kill(controller)?;
    run.goes_on(PAST_THE_LEASE).await;
    ensure!(run.leadership.leaders().is_empty(), "somebody leads by {text:?}: {:?}", run.leadership.leaders());
    still_as(&run, &spoilt).await?;
    let right = Instant::now();
    put_right(&run, &good).await?;
    run.next_controller(epoch, right).await?;
    run.recovers("serves with two after").await?;
    run.brokers.start(controller)?;
    run.recovers("with it after").await?;
    run.finish().await
}

fn sequence_of(lease: &Lease) -> Result<i64> {
    Ok(lease.annotations().get(SEQUENCE).context("no sequence")?.parse()?)
}

fn spoil(lease: &mut Lease, what: &str, text: &str) {
    if what == "holder" {
        lease.spec.get_or_insert_default().holder_identity = Some(text.to_owned());
    } else {
        lease.annotations_mut().insert(what.to_owned(), text.to_owned());
    }
}

/// Nobody has written it since.
async fn still_as(run: &Run, spoilt: &Lease) -> Result<()> {
    let now = leases(run).get(LEASE).await?;
    ensure!(
        now.resource_version() == spoilt.resource_version(),
        "a Lease that cannot be read was overwritten: {now:?}"
    );
    Ok(())
}

/// What an administrator does: the content is again what it was.
async fn put_right(run: &Run, good: &Lease) -> Result<()> {
    a_stranger_writes(run, |lease| {
        lease.metadata.annotations.clone_from(&good.metadata.annotations);
        lease.spec.clone_from(&good.spec);
    })
    .await?;
    Ok(())
}

/// Writes the Lease as anybody can who may: on top of its newest version. Gives back what was there and what is now.
async fn a_stranger_writes(run: &Run, change: impl Fn(&mut Lease)) -> Result<(Lease, Lease)> {
    loop {
        let before = leases(run).get(LEASE).await?;
        let mut lease = before.clone();
        change(&mut lease);
        match leases(run).replace(LEASE, &PostParams::default(), &lease).await {
            Ok(lease) => {
                run.leases.a_stranger_wrote(&lease.resource_version().unwrap_or_default());
                return Ok((before, lease));
            }
            // The holder renewed it at the same moment.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// A backup of etcd that is older than the last change of the controller is put back.
pub(crate) async fn etcd_is_restored_to_an_older_state(site: &mut Site, name: &str) -> Result<Outcome> {
    let mut run = Run::begin(site, name, 3, Coordination::Leases).await?;
    let (controller, epoch) = run.controller().await?;
    let backup = site.plane.snapshot_etcd()?;
    run.brokers.kill(controller)?;
    let next = run.leadership.after(epoch, LEADS_PATIENCE).await?.broker;
    run.brokers.start(controller)?;
    run.recovers("serves before the restore after").await?;
    run.whole(3).await?;
    let (_, newer) = run.controller().await?;
    ensure!(newer > epoch, "epoch {newer} is not above {epoch}: the restored Lease would not be older");

    let fault = Instant::now();
    run.leases.etcd_goes_back();
    site.plane.restore_etcd(&backup).await?;
    run.measure("etcd and the API server were back after", fault.elapsed());
    // In the backup the Lease is held by an incarnation that is dead. The one who leads now repairs it.
    let repaired = run
        .leases
        .wait_for("the Lease is repaired", REPAIR_PATIENCE, |version| {
            version.seen > fault && i64::from(version.epoch) > newer && version.holding_broker().is_some()
        })
        .await?;
    run.measure("Lease repaired after", repaired.seen.saturating_duration_since(fault));
    run.recovers("serves after").await?;
    let (leader, _) = run.controller().await?;
    ensure!(leader == next, "broker {leader} leads, though {next} lived");
    run.goes_on(A_WHILE).await;
    run.finish().await
}

fn leases(run: &Run) -> Api<Lease> {
    Api::namespaced(run.client.clone(), &run.namespace)
}
