// SPDX-License-Identifier: Apache-2.0
//! A broker's life, step by step.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]
use super::*;

const ID: BrokerId = BrokerId(1);

fn own(end: Offset, epoch: Option<BrokerEpoch>, active: bool) -> OwnRegistration {
    OwnRegistration { end, epoch, active, alone: false }
}

fn heartbeat(metadata_end: Offset, wants_fence: bool, wants_shutdown: bool) -> Effect {
    Effect::Heartbeat(Heartbeat { broker_id: ID, broker_epoch: 7, metadata_end, wants_fence, wants_shutdown })
}

fn answer(fenced: bool, may_stop: bool) -> Input {
    Input::HeartbeatAnswered(Ok(HeartbeatReply { caught_up: !fenced, fenced, may_stop }))
}

/// One that has registered with epoch 7, recovered, and serves.
fn serving() -> BrokerLifecycle {
    let mut life = BrokerLifecycle::new(ID);
    assert_eq!(life.handle(0, Input::Tick), [Effect::Register]);
    assert_eq!(life.handle(1, Input::Registered(Some(Ok(7)))), []);
    assert_eq!(life.handle(2, Input::ImageSeen(own(9, None, false))), [], "an image without it");
    let recovers = life.handle(3, Input::ImageSeen(own(10, Some(7), false)));
    assert_eq!(recovers, [Effect::Recover, heartbeat(0, true, false)], "it stays fenced while it recovers");
    assert_eq!(life.handle(4, answer(true, false)), []);
    assert_eq!(life.handle(5, Input::Applied(own(10, Some(7), false))), []);
    assert_eq!(life.handle(6, Input::Recovered), [heartbeat(10, false, false)], "at once");
    assert_eq!(life.handle(7, answer(false, false)), [], "it does not serve on what it has not applied");
    let serves = life.handle(8, Input::Applied(own(12, Some(7), true)));
    assert_eq!(serves, [Effect::Serve]);
    life
}

#[test]
fn the_id_of_a_process_that_has_ended_is_waited_for_and_that_of_one_that_goes_on_is_not() {
    let refused = || Input::Registered(Some(Err(RegisterBrokerError::LiveSession(ID))));
    for (over_after, wanted) in
        [(6_000, Effect::Register), (40_000, Effect::Fail(RegisterBrokerError::LiveSession(ID)))]
    {
        let mut life = BrokerLifecycle::new(ID);
        assert_eq!(life.handle(0, Input::Tick), [Effect::Register]);
        let mut last = Vec::new();
        for now in (0..over_after).step_by(RETRY_MS as usize) {
            last = life.handle(now, refused());
            last.extend(life.handle(now + RETRY_MS, Input::Tick));
            if last != [Effect::Register] {
                assert!((OTHER_PROCESS_MS..OTHER_PROCESS_MS + 2 * RETRY_MS).contains(&now), "{now}");
                break;
            }
        }
        assert_eq!(last, [wanted]);
    }
}

#[test]
fn what_recovery_finds_damaged_is_told_before_anything_else() {
    let mut life = BrokerLifecycle::new(ID);
    life.handle(0, Input::Tick);
    life.handle(1, Input::Registered(Some(Ok(7))));
    life.handle(3, Input::ImageSeen(own(10, Some(7), false)));
    life.handle(4, answer(true, false));
    assert_eq!(life.handle(5, Input::Applied(own(10, Some(7), false))), []);
    assert_eq!(life.handle(6, Input::RecoveredWithDamage), [Effect::Register], "and no heartbeat");
    assert_eq!(life.handle(5_000, Input::Tick), [], "however long that takes");
    assert_eq!(life.handle(5_001, Input::Registered(None)), []);
    assert_eq!(life.handle(5_001 + RETRY_MS, Input::Tick), [Effect::Register]);
    let told = life.handle(5_400, Input::Registered(Some(Ok(7))));
    assert_eq!(told, [heartbeat(10, false, false)], "it is known already that it is registered");
    life.handle(5_401, answer(false, false));
    assert_eq!(life.handle(5_402, Input::Applied(own(12, Some(7), true))), [Effect::Serve]);
}

#[test]
fn a_registration_that_was_on_its_way_does_not_tell_of_damage() {
    let mut life = BrokerLifecycle::new(ID);
    life.handle(0, Input::Tick);
    life.handle(1, Input::Registered(Some(Ok(7))));
    life.handle(3, Input::ImageSeen(own(10, Some(7), false)));
    assert_eq!(life.handle(4, Input::HeartbeatAnswered(Err(NoHeartbeat::Stale))), [Effect::Register]);
    assert_eq!(life.handle(5, Input::RecoveredWithDamage), [], "one at a time");
    assert_eq!(life.handle(6, Input::Registered(Some(Ok(8)))), [Effect::Register], "which tells it");
    life.handle(7, Input::ImageSeen(own(11, Some(8), false)));
    let effects = life.handle(8, Input::Registered(Some(Ok(8))));
    assert!(matches!(effects.as_slice(), [Effect::Heartbeat(Heartbeat { broker_epoch: 8, wants_fence: false, .. })]));
}

#[test]
fn a_start_waits_for_nothing_but_what_it_needs_and_then_heartbeats_go_on() {
    let mut life = serving();
    let wake = life.wake_at();
    assert_eq!(wake, 7 + HEARTBEAT_INTERVAL_MS);
    assert_eq!(life.handle(wake, Input::Tick), [heartbeat(12, false, false)]);
    assert_eq!(life.wake_at(), u64::MAX, "one at a time");
    assert_eq!(life.handle(wake + 5, Input::HeartbeatAnswered(Err(NoHeartbeat::Unanswered))), []);
    assert_eq!(life.handle(wake + 5 + RETRY_MS, Input::Tick), [heartbeat(12, false, false)]);
}

#[test]
fn who_is_not_known_any_more_registers_anew_and_goes_on_serving() {
    let mut life = serving();
    let wake = life.wake_at();
    assert_eq!(life.handle(wake, Input::Tick).len(), 1);
    assert_eq!(life.handle(wake, Input::HeartbeatAnswered(Err(NoHeartbeat::Stale))), [Effect::Register]);
    assert_eq!(life.handle(wake, Input::Registered(Some(Ok(20)))), []);
    let effects = life.handle(wake, Input::ImageSeen(own(30, Some(20), false)));
    assert!(matches!(effects.as_slice(), [Effect::Heartbeat(Heartbeat { broker_epoch: 20, wants_fence: false, .. })]));
    assert_eq!(life.handle(wake, answer(false, false)), []);
    let effects = life.handle(wake, Input::Applied(own(31, Some(20), true)));
    assert!(!effects.contains(&Effect::Serve), "it does already");
}

#[test]
fn a_live_session_is_waited_for_at_the_start_and_is_the_end_later() {
    let live = || Input::Registered(Some(Err(RegisterBrokerError::LiveSession(ID))));
    let mut life = BrokerLifecycle::new(ID);
    life.handle(0, Input::Tick);
    assert_eq!(life.handle(1, live()), []);
    assert_eq!(life.handle(1 + RETRY_MS, Input::Tick), [Effect::Register]);
    let mut life = serving();
    let wake = life.wake_at();
    life.handle(wake, Input::Tick);
    life.handle(wake, Input::HeartbeatAnswered(Err(NoHeartbeat::Stale)));
    assert_eq!(life.handle(wake, live()), [Effect::Fail(RegisterBrokerError::LiveSession(ID))]);
    let other = RegisterBrokerError::InvalidBrokerId(ID);
    let mut life = BrokerLifecycle::new(ID);
    life.handle(0, Input::Tick);
    assert_eq!(life.handle(1, Input::Registered(Some(Err(other.clone())))), [Effect::Fail(other)]);
}

#[test]
fn a_stop_is_asked_for_until_it_is_granted_or_time_is_up() {
    let mut life = serving();
    assert_eq!(life.handle(100, Input::Stop), [heartbeat(12, false, true)]);
    assert_eq!(life.handle(101, answer(false, false)), []);
    assert_eq!(life.handle(101 + STOPPING_INTERVAL_MS, Input::Tick), [heartbeat(12, false, true)]);
    assert_eq!(life.handle(300, answer(true, true)), [Effect::MayStop]);
    assert_eq!((life.wake_at(), life.handle(1_000_000, Input::Tick)), (u64::MAX, vec![]));

    let mut life = serving();
    life.handle(100, Input::Stop);
    assert_eq!(life.wake_at(), 100 + UNHEARD_MS, "there is no controller");
    assert_eq!(life.handle(100 + UNHEARD_MS, Input::Tick), [Effect::MayStop]);

    let mut life = serving();
    life.handle(100, Input::Stop);
    for at in (101..100 + STOP_DEADLINE_MS).step_by(1_000) {
        assert!(!life.handle(at, answer(false, false)).contains(&Effect::MayStop), "it is heard, and has to wait");
        life.handle(at + STOPPING_INTERVAL_MS, Input::Tick);
    }
    assert_eq!(life.handle(100 + STOP_DEADLINE_MS, Input::Tick), [Effect::MayStop]);
}

#[test]
fn who_is_alone_or_never_served_stops_at_once() {
    let mut life = serving();
    life.handle(50, Input::Applied(OwnRegistration { alone: true, ..own(12, Some(7), true) }));
    assert_eq!(life.handle(100, Input::Stop), [Effect::MayStop]);
    let mut life = BrokerLifecycle::new(ID);
    life.handle(0, Input::Tick);
    assert_eq!(life.handle(1, Input::Stop), [Effect::MayStop]);
}
