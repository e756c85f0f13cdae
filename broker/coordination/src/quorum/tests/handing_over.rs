// SPDX-License-Identifier: Apache-2.0
//! How long a cluster is without a controller, in milliseconds of a network on which a message takes one and a call of
//! the Lease ten.

use super::cluster::{Cluster, LEASE_MS, MESSAGE_MS};
use super::storage::TestStorage;
use crate::quorum::{Input, MemberRole, QuorumSettings};

/// From the death of a process to the end of the probe of it: the reset, and a refused connection.
const PROBE_MS: u64 = 3 * MESSAGE_MS;
/// A question and its answer.
const ASK_MS: u64 = 2 * MESSAGE_MS;
/// The new controller announces itself, a voter fetches the epoch record and fetches on, which acknowledges it.
const COMMIT_MS: u64 = 4 * MESSAGE_MS;
/// A take based on a view that is older than the Lease is refused, and repeated on the newer one. That is read
/// meanwhile, or, if the dead controller's last write came between, thereafter.
const STALE_VIEW_MS: u64 = 2 * LEASE_MS;

/// Moments of a controller's life to die in: in and between its renewals, and the voters' reads of the Lease.
fn moments() -> impl Iterator<Item = u64> {
    (0..QuorumSettings::default().lease_poll_ms).step_by(233)
}

#[test]
fn of_three_and_five_voters_a_killed_controller_is_replaced_at_once_after_a_failed_probe() {
    for (n, watch) in [(3, true), (3, false), (5, true), (5, false)] {
        for (i, moment) in moments().enumerate() {
            let mut cluster = Cluster::new(n, watch);
            cluster.pass(moment);
            let dead = cluster.leader().expect("a controller");
            // Those that are left do not learn of it in the same moment.
            let later = [0, 1, 2, 7, 40][i % 5];
            let last = (1..=n).rev().find(|id| *id != dead).expect("others are left");
            cluster.kill(dead, |id| if id == last { MESSAGE_MS + later } else { MESSAGE_MS });
            let ms = cluster.until_another_leads(dead);
            let expected = PROBE_MS + later + ASK_MS + LEASE_MS + ASK_MS + COMMIT_MS + STALE_VIEW_MS;
            assert!(ms <= expected, "{ms} ms, {n} voters, {moment} ms, watch: {watch}\n{}", cluster.story());
        }
    }
}

#[test]
fn the_survivor_of_two_voters_leads_at_once_after_a_failed_probe() {
    for watch in [true, false] {
        for moment in moments() {
            let mut cluster = Cluster::new(2, watch);
            cluster.pass(moment);
            let dead = cluster.leader().expect("a controller");
            cluster.kill(dead, |_| MESSAGE_MS);
            let ms = cluster.until_another_leads(dead);
            // There is nobody to ask. It takes the Lease, then drops the dead one from it.
            let expected = PROBE_MS + 2 * LEASE_MS + STALE_VIEW_MS;
            assert!(ms <= expected, "{ms} ms, {moment} ms, watch: {watch}\n{}", cluster.story());
            let voters = cluster.lease.as_ref().map(|view| view.voters.len());
            assert_eq!(voters, Some(1), "{}", cluster.story());
        }
    }
}

#[test]
fn of_two_voters_a_dead_follower_is_dropped_at_once() {
    for moment in moments() {
        let mut cluster = Cluster::new(2, true);
        cluster.pass(moment);
        let leader = cluster.leader().expect("a controller");
        cluster.kill(3 - leader, |_| MESSAGE_MS);
        let dropped = |cluster: &Cluster| cluster.lease.as_ref().is_some_and(|view| view.voters.len() == 1);
        let ms = cluster.until(60_000, dropped).expect("it is dropped");
        // A renewal may be under way.
        assert!(ms <= PROBE_MS + 2 * LEASE_MS, "{ms} ms, {moment} ms\n{}", cluster.story());
        assert_eq!(cluster.leader(), Some(leader));
    }
}

#[test]
fn a_clean_stop_hands_over_at_once() {
    for (n, watch) in [(2, false), (2, true), (3, false), (3, true)] {
        for moment in moments() {
            let mut cluster = Cluster::new(n, watch);
            cluster.pass(moment);
            let stopping = cluster.leader().expect("a controller");
            cluster.give(stopping, Input::Resign);
            let begun = cluster.now;
            cluster.until(60_000, |cluster| cluster.resigned.contains(&stopping)).expect("it hands over");
            let resigned_ms = cluster.now - begun;
            assert!(resigned_ms <= 2 * LEASE_MS, "a renewal, then the release: {resigned_ms}\n{}", cluster.story());
            // The process goes on until its connections are drained, or ends now.
            if moment % 2 == 0 {
                cluster.kill(stopping, |_| MESSAGE_MS);
            }
            cluster.until_another_leads(stopping);
            let ms = cluster.now - begun;
            // Told of the release, one asks for promises (of two, for higher epochs first) and takes the Lease. Of two,
            // if the other is gone, it must then be dropped.
            let taken = MESSAGE_MS + ASK_MS + LEASE_MS + COMMIT_MS;
            let dropped = if n == 2 && moment % 2 == 0 { PROBE_MS + LEASE_MS } else { 0 };
            let expected = 2 * LEASE_MS + taken + dropped;
            assert!(ms <= expected, "{ms} ms, {n} voters, {moment} ms, watch: {watch}\n{}", cluster.story());
        }
    }
}

#[test]
fn a_controller_that_is_started_again_and_loads_long_is_not_waited_for() {
    let mut cluster = Cluster::new(3, true);
    let dead = cluster.leader().expect("a controller");
    let storage: TestStorage = cluster.kill(dead, |_| MESSAGE_MS);
    cluster.start(dead, 3, storage, 30_000);
    cluster.pass(MESSAGE_MS + ASK_MS);
    let ms = cluster.until_another_leads(dead);
    assert!(ms <= 1_000, "{ms} ms\n{}", cluster.story());
    assert_eq!(cluster.member(dead).status().role, MemberRole::Follower);
}

#[test]
fn whoever_hands_over_keeps_following_and_nothing_is_lost() {
    let mut cluster = Cluster::new(3, true);
    for _ in 0..4 {
        let leader = cluster.leader().expect("a controller");
        let storage = cluster.kill(leader, |_| MESSAGE_MS);
        cluster.until_another_leads(leader);
        cluster.start(leader, 3, storage, 10);
        cluster.pass(3_000);
        assert!(cluster.agrees(), "{}", cluster.story());
    }
}
