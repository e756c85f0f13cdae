// SPDX-License-Identifier: Apache-2.0
//! Who counts as alive, and what a heartbeat leads to.

use uuid::Uuid;

use super::super::Command;
use super::super::scenarios::{Cluster, start_of};
use super::*;

fn sessions(cluster: &Cluster) -> Sessions {
    Sessions::new(&cluster.image, SESSION_TIMEOUT_MS, 0)
}

/// A heartbeat of a broker that has applied everything.
fn heartbeat(cluster: &Cluster, id: i32) -> Heartbeat {
    Heartbeat {
        broker_id: BrokerId(id),
        broker_epoch: cluster.epoch(id),
        metadata_end: cluster.image.end_offset(),
        wants_fence: false,
        wants_shutdown: false,
    }
}

#[expect(clippy::unnecessary_wraps, reason = "compared with an optional change")]
fn becomes(cluster: &Cluster, id: i32, state: BrokerState, reason: StateReason) -> Option<StateChange> {
    let change = ChangeBrokerState { broker_id: BrokerId(id), broker_epoch: cluster.epoch(id), state };
    Some(StateChange { change, reason })
}

/// Sends a heartbeat and decides what follows.
fn beat(cluster: &mut Cluster, sessions: &mut Sessions, heartbeat: &Heartbeat, now: MonotonicMs) -> HeartbeatOutcome {
    let outcome = sessions.heartbeat(&cluster.image, heartbeat, now).expect("registered");
    if let Some(StateChange { change, .. }) = &outcome.change {
        cluster.decide(&Command::ChangeBrokerState(change.clone()));
    }
    outcome
}

#[test]
fn a_broker_is_unfenced_when_it_has_applied_its_own_registration() {
    let mut cluster = Cluster::of(1);
    let epoch = cluster.register(&start_of(2)).expect("registers");
    let mut sessions = sessions(&cluster);
    let registered_at = cluster.image.broker(BrokerId(2)).expect("there").registered_at;
    let before = Heartbeat { metadata_end: registered_at, ..heartbeat(&cluster, 2) };
    let outcome = beat(&mut cluster, &mut sessions, &before, 1);
    let reply = HeartbeatReply { caught_up: false, fenced: true, may_stop: false };
    assert_eq!((outcome.change, outcome.reply), (None, reply));
    let not_yet = Heartbeat { wants_fence: true, ..heartbeat(&cluster, 2) };
    assert_eq!(beat(&mut cluster, &mut sessions, &not_yet, 2).change, None);
    let ready = Heartbeat { metadata_end: registered_at + 1, ..heartbeat(&cluster, 2) };
    let outcome = beat(&mut cluster, &mut sessions, &ready, 3);
    assert_eq!(outcome.change, becomes(&cluster, 2, BrokerState::Unfenced, StateReason::CaughtUp));
    assert_eq!(outcome.reply, HeartbeatReply { caught_up: true, fenced: false, may_stop: false });
    assert!(cluster.image.broker(BrokerId(2)).is_some_and(|broker| broker.is_active() && broker.epoch == epoch));
    let stale = Heartbeat { broker_epoch: epoch - 1, ..ready };
    assert_eq!(sessions.heartbeat(&cluster.image, &stale, 4), Err(StaleHeartbeat(BrokerId(2), epoch - 1)));
}

#[test]
fn a_broker_that_is_not_heard_for_a_session_is_fenced_one_after_another() {
    let mut cluster = Cluster::of(3);
    let mut sessions = sessions(&cluster);
    let alive = heartbeat(&cluster, 1);
    beat(&mut cluster, &mut sessions, &alive, 4000);
    assert_eq!(sessions.next_expiry(&cluster.image), Some(6001));
    assert_eq!(sessions.expired(&cluster.image, 6000), None);
    for id in [2, 3] {
        let change = sessions.expired(&cluster.image, 6001);
        assert_eq!(change, becomes(&cluster, id, BrokerState::Fenced, StateReason::NotHeard { for_ms: 6001 }));
        cluster.set(id, BrokerState::Fenced);
    }
    assert_eq!(sessions.expired(&cluster.image, 6001), None);
    assert_eq!(sessions.next_expiry(&cluster.image), Some(10_001));
    // Heard again, it is unfenced.
    let alive = heartbeat(&cluster, 2);
    assert_eq!(
        beat(&mut cluster, &mut sessions, &alive, 7000).change,
        becomes(&cluster, 2, BrokerState::Unfenced, StateReason::CaughtUp)
    );
}

#[test]
fn a_reset_connection_and_a_failed_probe_fence_at_once() {
    let mut cluster = Cluster::of(2);
    let mut sessions = sessions(&cluster);
    let probe = sessions.suspect(&cluster.image, BrokerId(1), 10).expect("to be probed");
    assert_eq!(sessions.suspect(&cluster.image, BrokerId(1), 11), None, "one probe at a time");
    let change = sessions.probe_finished(&cluster.image, probe, false, 12);
    assert_eq!(change, becomes(&cluster, 1, BrokerState::Fenced, StateReason::ProbeFailed));
    cluster.set(1, BrokerState::Fenced);
    assert_eq!(sessions.suspect(&cluster.image, BrokerId(1), 13), None, "it is fenced already");
    assert_eq!(sessions.suspect(&cluster.image, BrokerId(9), 13), None);
}

#[test]
fn a_probe_that_was_answered_or_overtaken_says_nothing() {
    let mut cluster = Cluster::of(2);
    let mut sessions = sessions(&cluster);
    let answered = sessions.suspect(&cluster.image, BrokerId(1), 10).expect("to be probed");
    assert_eq!(sessions.probe_finished(&cluster.image, answered, true, 11), None);
    let overtaken = sessions.suspect(&cluster.image, BrokerId(1), 12).expect("to be probed");
    let alive = heartbeat(&cluster, 1);
    beat(&mut cluster, &mut sessions, &alive, 13);
    assert_eq!(sessions.probe_finished(&cluster.image, overtaken, false, 14), None, "a heartbeat came in between");
    let of_the_process_before = sessions.suspect(&cluster.image, BrokerId(1), 15).expect("to be probed");
    cluster.restart(1, |_| {});
    cluster.set(1, BrokerState::Unfenced);
    assert_eq!(sessions.probe_finished(&cluster.image, of_the_process_before, false, 16), None);
}

#[test]
fn another_process_is_admitted_only_when_the_session_is_over() {
    let mut cluster = Cluster::of(1);
    let another = RegisterBroker { incarnation: Uuid::from_u128(99), ..start_of(1) };
    let live = Err(RegisterBrokerError::LiveSession(BrokerId(1)));
    let mut expiring = sessions(&cluster);
    assert_eq!(expiring.admit(&cluster.image, &another, 6000), live);
    assert_eq!(expiring.admit(&cluster.image, &start_of(1), 6000), Ok(()), "the same process amends");
    assert_eq!(expiring.admit(&cluster.image, &another, 6001), Ok(()));
    assert_eq!(
        expiring.admit(&cluster.image, &RegisterBroker { broker_id: BrokerId(7), ..another.clone() }, 0),
        Ok(())
    );
    let probe = expiring.suspect(&cluster.image, BrokerId(1), 1).expect("to be probed");
    expiring.probe_finished(&cluster.image, probe, false, 2);
    assert_eq!(expiring.admit(&cluster.image, &another, 3), Ok(()));
    // The new process holds the lock: what the old one still says counts for nothing.
    let mut replaced = sessions(&cluster);
    replaced.replace(BrokerId(1));
    let fenced = becomes(&cluster, 1, BrokerState::Fenced, StateReason::Replaced);
    assert_eq!(replaced.expired(&cluster.image, 1), fenced);
    assert_eq!(replaced.admit(&cluster.image, &another, 1), Ok(()));
    let old = heartbeat(&cluster, 1);
    assert!(replaced.heartbeat(&cluster.image, &old, 2).is_err());
    replaced.touch(&old, 2);
    assert_eq!(replaced.admit(&cluster.image, &another, 3), Ok(()));
    // Registered, it has a session of its own.
    cluster.register(&another).expect("registers");
    replaced.follow(&cluster.image, 4);
    assert_eq!(replaced.admit(&cluster.image, &start_of(1), 4), live);
}

#[test]
fn a_broker_may_stop_when_it_leads_nothing_and_the_others_know() {
    let mut cluster = Cluster::of(3);
    cluster.topic("t", &[&[1, 2]], &[]);
    let mut sessions = sessions(&cluster);
    for id in [2, 3] {
        let alive = heartbeat(&cluster, id);
        beat(&mut cluster, &mut sessions, &alive, 1);
    }
    let stopping = Heartbeat { wants_shutdown: true, ..heartbeat(&cluster, 1) };
    let outcome = beat(&mut cluster, &mut sessions, &stopping, 2);
    assert_eq!(outcome.change, becomes(&cluster, 1, BrokerState::ShuttingDown, StateReason::Stops));
    assert_eq!((outcome.reply.may_stop, outcome.reply.fenced), (false, false));
    assert_eq!(cluster.image.leadership_count(BrokerId(1)), 0);
    let outcome = beat(&mut cluster, &mut sessions, &stopping, 3);
    assert_eq!((outcome.change, outcome.reply.may_stop), (None, false), "nobody has seen the new leader");
    let began_at = cluster.image.broker(BrokerId(1)).expect("there").shutting_down_at.expect("going to stop");
    let seen = Heartbeat { metadata_end: began_at + 1, ..heartbeat(&cluster, 2) };
    beat(&mut cluster, &mut sessions, &seen, 4);
    assert!(!beat(&mut cluster, &mut sessions, &stopping, 5).reply.may_stop, "3 has not");
    cluster.set(3, BrokerState::Fenced);
    let outcome = beat(&mut cluster, &mut sessions, &stopping, 6);
    assert!(outcome.reply.may_stop && outcome.reply.fenced, "3 serves nobody any more");
    assert_eq!(outcome.change, becomes(&cluster, 1, BrokerState::Fenced, StateReason::Stops));
    let outcome = beat(&mut cluster, &mut sessions, &stopping, 7);
    assert_eq!((outcome.change, outcome.reply.may_stop), (None, true));
}

#[test]
fn a_broker_that_leads_nothing_stops_at_once_and_one_that_wants_it_is_fenced() {
    let mut cluster = Cluster::of(3);
    cluster.topic("t", &[&[1, 2, 3]], &[]);
    let mut sessions = sessions(&cluster);
    let stopping = Heartbeat { wants_shutdown: true, ..heartbeat(&cluster, 2) };
    let outcome = beat(&mut cluster, &mut sessions, &stopping, 1);
    assert_eq!(outcome.change, becomes(&cluster, 2, BrokerState::Fenced, StateReason::Stops));
    assert!(outcome.reply.may_stop && outcome.reply.fenced);
    let failing = Heartbeat { wants_fence: true, ..heartbeat(&cluster, 1) };
    let outcome = beat(&mut cluster, &mut sessions, &failing, 2);
    assert_eq!(outcome.change, becomes(&cluster, 1, BrokerState::Fenced, StateReason::CannotServe));
    assert!(!outcome.reply.may_stop && outcome.reply.fenced);
    assert_eq!(cluster.show("t"), "1,2,3 | 3 @ 1.2 | 3 | 1");
}

#[test]
fn proposals_are_taken_in_the_order_of_their_numbers() {
    let cluster = Cluster::of(1);
    let mut sessions = sessions(&cluster);
    let proposal = |sequence, broker_epoch| AlterPartition {
        broker_id: BrokerId(1),
        broker_epoch,
        controller_epoch: 1,
        sequence,
        partitions: vec![],
    };
    let mut admit = |sequence| sessions.admit_proposal(&cluster.image, &proposal(sequence, cluster.epoch(1)), 0);
    assert_eq!(admit(3), Ok(()));
    assert_eq!(admit(3), Err(AlterPartitionRefusal::Late(3)));
    assert_eq!(admit(2), Err(AlterPartitionRefusal::Late(3)));
    assert_eq!(admit(4), Ok(()));
    assert_eq!(sessions.admit_proposal(&cluster.image, &proposal(1, 0), 0), Ok(()), "refused by its epoch");
}

#[test]
fn nobody_is_blamed_for_a_pause_of_the_controller() {
    let cluster = Cluster::of(2);
    let mut sessions = sessions(&cluster);
    sessions.postpone(20_000);
    assert_eq!(sessions.expired(&cluster.image, 26_000), None);
    let reason = StateReason::NotHeard { for_ms: 6001 };
    assert_eq!(sessions.expired(&cluster.image, 26_001), becomes(&cluster, 1, BrokerState::Fenced, reason));
}
