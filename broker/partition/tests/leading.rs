// SPDX-License-Identifier: Apache-2.0
//! The leader's rules of replication, one by one: ISR, high watermark, fetches, waits, deletions.

mod harness;

use harness::{LAG, Replicas, batch, id, members, plain, proposed};
use odradek_model::{LeaderEpoch, TopicSettings};
use odradek_partition::{
    Acks, AppendError, Decided, DeleteOutcome, DeleteRecordsError, Effect, FollowerFetchError, FollowerFetched,
    Isolation, IsrAnswer, Leadership, LeadershipError, ListOffsetsError, OffsetSpec, ProduceOutcome, ProduceWait,
    WaitToken, Waiting,
};

const READ: Isolation = Isolation::ReadUncommitted;

fn committed(token: u64) -> Effect {
    Effect::WakeProduce { token: WaitToken(token), outcome: ProduceOutcome::Committed }
}

#[test]
fn a_produce_is_acknowledged_when_all_in_sync_have_it() {
    let mut replicas = Replicas::new(3, plain(2));
    replicas.elect(0, 1, 1, &[0, 1, 2]);
    let (appended, effects) = replicas.on(0).append(batch(3), Acks::All, None, harness::NOW).expect("appended");
    assert_eq!(effects, []);
    assert_eq!(replicas.on(0).wait_produce(WaitToken(1), appended.required_offset), Ok(ProduceWait::Registered));
    replicas.round(1);
    replicas.round(2);
    assert_eq!(replicas.high_watermark(0), 0, "they have it, but the leader does not know yet");
    assert_eq!(replicas.round(1).leader_effects, []);
    assert_eq!(replicas.round(2).leader_effects, [committed(1)]);
    assert_eq!(replicas.high_watermark(0), 3);
    assert_eq!((replicas.high_watermark(1), replicas.high_watermark(2)), (0, 3), "who asks next hears of it");
}

#[test]
fn too_few_in_sync_refuse_before_and_tell_after() {
    let mut replicas = Replicas::new(3, plain(2));
    replicas.elect(0, 1, 1, &[0, 1]);
    replicas.append(0, 1);
    replicas.catch_up(1);
    assert_eq!(replicas.high_watermark(0), 1);
    // The ISR falls below the minimum: what was committed is known to be, but may be acknowledged no more (20).
    replicas.lead(0, 1, 2, &[0]);
    let outcome = ProduceOutcome::NotEnoughReplicasAfterAppend;
    assert_eq!(replicas.on(0).wait_produce(WaitToken(1), 1), Ok(ProduceWait::Done(outcome)));
    // Nothing is taken with acks=all (19); with acks=1 it is, and stays invisible (rule 13).
    let refused = replicas.on(0).append(batch(1), Acks::All, None, harness::NOW).expect_err("refused");
    assert!(matches!(refused, AppendError::NotEnoughReplicas { in_sync: 1, required: 2 }));
    replicas.append(0, 1);
    assert_eq!((replicas.end(0), replicas.high_watermark(0)), (2, 1));
    // Who is about to join counts for the minimum of an acknowledgement, not for moving the high watermark.
    replicas.pass(LAG + 1);
    let change = proposed(&[replicas.round(1).leader_effects, replicas.round(1).leader_effects].concat());
    assert_eq!((members(&change), replicas.high_watermark(0)), (vec![0, 1], 1));
    assert_eq!(replicas.on(0).wait_produce(WaitToken(1), 1), Ok(ProduceWait::Done(ProduceOutcome::Committed)));
    replicas.lead(0, 1, 3, &[0, 1]);
    assert_eq!(replicas.high_watermark(0), 2);
}

#[test]
fn of_a_decision_and_settings_of_one_moment_the_larger_minimum_counts_meanwhile() {
    let mut replicas = Replicas::new(2, plain(1));
    replicas.elect(0, 1, 1, &[0, 1]);
    replicas.append(0, 1);
    replicas.pass(LAG + 1);
    let mut alone = |partition_epoch, min_insync_replicas| {
        let (replicas_of, in_sync) = (vec![id(0), id(1)], vec![id(0)]);
        let leadership = Leadership { leader_epoch: 1, partition_epoch, replicas: replicas_of, in_sync };
        let settings = TopicSettings { min_insync_replicas, ..TopicSettings::default() };
        let now = replicas.now;
        let (_, outcome) = replicas.on(0).decide(Decided::Leads(leadership), Some(&settings), now);
        outcome.expect("its epoch is stored");
        replicas.high_watermark(0)
    };
    assert_eq!(alone(2, 2), 0, "the ISR shrinks to one, and one was enough until now");
    assert_eq!(alone(3, 1), 1);
}

#[test]
fn fetches_are_judged_by_epoch_replica_and_incarnation() {
    let mut replicas = Replicas::new(3, plain(1));
    replicas.elect(0, 5, 1, &[0]);
    let plan = replicas.plan(1);
    let good = replicas.request(1, &plan);
    let mut refused = |change: &dyn Fn(&mut odradek_partition::FollowerFetch)| {
        let mut request = good;
        change(&mut request);
        replicas.serve(0, &request).expect_err("refused")
    };
    let epoch = |epoch: LeaderEpoch| move |request: &mut odradek_partition::FollowerFetch| request.leader_epoch = epoch;
    let fenced = refused(&epoch(4));
    assert!(matches!(fenced, FollowerFetchError::Leadership(LeadershipError::Fenced { requested: 4, current: 5 })));
    let unknown = refused(&epoch(6));
    assert!(matches!(unknown, FollowerFetchError::Leadership(LeadershipError::Unknown { requested: 6, current: 5 })));
    assert!(matches!(refused(&|r| r.replica = id(7)), FollowerFetchError::NotAReplica { .. }));
    let stale = refused(&|r| r.broker_epoch = 10);
    assert!(matches!(stale, FollowerFetchError::StaleBrokerEpoch { found: 10, current: 11, .. }));
    for offset in [-1, 1] {
        assert!(matches!(refused(&|r| r.fetch_offset = offset), FollowerFetchError::OffsetOutOfRange { .. }));
    }
    assert!(matches!(refused(&|r| r.last_fetched_epoch = Some(6)), FollowerFetchError::OffsetOutOfRange { .. }));
    // A follower is asked for the same epoch: it does not lead, and says what it knows of the epoch first (rule 27).
    let misled = replicas.serve(2, &good).expect_err("no leader");
    assert!(matches!(misled, FollowerFetchError::Leadership(LeadershipError::NotLeader)));
    assert!(matches!(replicas.on(2).view(Some(6)), Err(LeadershipError::Unknown { requested: 6, current: 5 })));
    assert!(replicas.serve(0, &good).is_ok());
}

#[test]
fn a_follower_joins_at_the_high_watermark_and_the_epochs_start_and_one_at_a_time() {
    let mut replicas = Replicas::new(3, plain(1));
    replicas.elect(0, 1, 1, &[0]);
    replicas.append(0, 2);
    assert_eq!(replicas.high_watermark(0), 2);
    assert_eq!(replicas.round(1).leader_effects, [], "at 0");
    let change = proposed(&replicas.round(1).leader_effects);
    assert_eq!((members(&change), change.leader_epoch, change.partition_epoch), (vec![0, 1], 1, 1));
    assert_eq!(change.in_sync[1].broker_epoch, Some(11));
    // It counts at once.
    replicas.append(0, 1);
    assert_eq!(replicas.high_watermark(0), 2);
    // One change at a time, and the same metadata once more does not settle it.
    replicas.catch_up(2);
    assert_eq!(replicas.on(0).pending_isr_change(), Some(&change));
    replicas.lead(0, 1, 1, &[0]);
    assert_eq!(replicas.on(0).pending_isr_change(), Some(&change));
    replicas.lead(0, 1, 2, &[0, 1]);
    assert_eq!(members(&proposed(&replicas.round(2).leader_effects)), [0, 1, 2]);
}

#[test]
fn under_a_new_leader_it_is_where_the_epoch_began_that_counts() {
    let mut replicas = Replicas::new(3, plain(2));
    replicas.elect(0, 1, 1, &[0, 1]);
    replicas.append(0, 1);
    replicas.catch_up(1);
    replicas.restart(1, 0);
    replicas.elect(1, 2, 2, &[1]);
    assert_eq!(replicas.high_watermark(1), 0);
    assert_eq!(replicas.round(2).leader_effects, [], "at the high watermark, below the epoch's start");
    assert_eq!(members(&proposed(&replicas.round(2).leader_effects)), [1, 2]);
}

#[test]
fn only_an_unfenced_running_and_present_incarnation_joins() {
    for spoil in [
        (|status| status.fenced = true) as fn(&mut odradek_partition::BrokerStatus),
        |status| status.shutting_down = true,
        // Our metadata has not heard of the incarnation that fetches, or knows a later one.
        |status| status.epoch = 5,
    ] {
        let mut replicas = Replicas::new(2, plain(1));
        replicas.elect(0, 1, 1, &[0]);
        replicas.registered.change(1, spoil);
        let plan = replicas.plan(1);
        let mut request = replicas.request(1, &plan);
        request.broker_epoch = 11;
        let (_, effects) = replicas.serve(0, &request).expect("served");
        assert_eq!(effects, []);
        replicas.registered.change(1, |status| {
            *status = odradek_partition::BrokerStatus { epoch: 11, fenced: false, shutting_down: false };
        });
        let (_, effects) = replicas.serve(0, &request).expect("served");
        assert_eq!(members(&proposed(&effects)), [0, 1]);
    }
}

#[test]
fn a_member_that_lags_is_proposed_to_leave_and_counts_until_that_is_committed() {
    let mut replicas = Replicas::new(3, plain(1));
    replicas.elect(0, 1, 1, &[0, 1, 2]);
    replicas.append(0, 1);
    replicas.catch_up(1);
    replicas.pass(LAG);
    let now = replicas.now;
    assert_eq!(replicas.on(0).tick(now), [], "not longer than the lag time");
    replicas.pass(1);
    // 1 is at the leader's end, however long ago it said so; 2 never showed itself.
    let now = replicas.now;
    let change = proposed(&replicas.on(0).tick(now));
    assert_eq!(members(&change), [0, 1]);
    assert_eq!(replicas.high_watermark(0), 0);
    replicas.lead(0, 1, 2, &[0, 1]);
    assert_eq!(replicas.high_watermark(0), 1);
    // Behind the end that was there before its last fetch, for too long.
    replicas.append(0, 1);
    replicas.pass(LAG + 1);
    let now = replicas.now;
    assert_eq!(members(&proposed(&replicas.on(0).tick(now))), [0]);
}

#[test]
fn the_outcome_of_a_change_decides_what_becomes_of_it() {
    let mut replicas = Replicas::new(2, plain(1));
    replicas.elect(0, 1, 1, &[0]);
    let first = proposed(&replicas.round(1).leader_effects);
    replicas.append(0, 1);
    assert_eq!(replicas.high_watermark(0), 0, "who joins counts");
    // Unknown: the same again, with a number of its own; answers to the first mean nothing any more.
    let second = proposed(&replicas.on(0).isr_answered(&first, IsrAnswer::Retry));
    assert_eq!((first.attempt, second.attempt, &second.in_sync), (1, 2, &first.in_sync));
    assert_eq!(replicas.on(0).isr_answered(&first, IsrAnswer::Refused), []);
    assert_eq!(replicas.on(0).pending_isr_change(), Some(&second));
    // Done, or known to be overtaken: the metadata tells.
    for answer in [IsrAnswer::Accepted, IsrAnswer::AwaitMetadata] {
        assert_eq!(replicas.on(0).isr_answered(&second, answer), []);
        assert_eq!(replicas.on(0).pending_isr_change(), Some(&second));
        assert_eq!(replicas.high_watermark(0), 0);
    }
    // Surely not done: back to what was. It is caught up still, so the high watermark waits for it until it lags.
    assert_eq!(replicas.on(0).isr_answered(&second, IsrAnswer::Refused), []);
    assert_eq!(replicas.on(0).pending_isr_change(), None);
    assert_eq!(replicas.high_watermark(0), 0);
    replicas.pass(LAG + 1);
    let now = replicas.now;
    replicas.on(0).tick(now);
    assert_eq!(replicas.high_watermark(0), 1);
    // What is sent next at the same partition epoch is told apart from all before.
    replicas.round(1);
    assert_eq!(proposed(&replicas.round(1).leader_effects).attempt, 3);
}

#[test]
fn the_high_watermark_waits_for_who_may_join_as_long_as_it_is_caught_up() {
    let mut replicas = Replicas::new(3, plain(1));
    replicas.elect(0, 1, 1, &[0, 1]);
    replicas.catch_up(1);
    let change = proposed(&replicas.round(2).leader_effects);
    replicas.on(0).isr_answered(&change, IsrAnswer::Refused);
    replicas.append(0, 1);
    replicas.catch_up(1);
    assert_eq!(replicas.high_watermark(0), 0);
    // Fenced, it may not join: nobody waits for it.
    replicas.registered.change(2, |status| status.fenced = true);
    let now = replicas.now;
    replicas.on(0).tick(now);
    assert_eq!(replicas.high_watermark(0), 1);
    // Nor does a follower far behind take the high watermark back.
    replicas.lead(0, 1, 2, &[0, 1, 2]);
    assert_eq!(replicas.high_watermark(0), 1);
}

#[test]
fn a_new_leader_knows_nothing_of_followers_and_shows_no_end_below_its_start() {
    let mut replicas = Replicas::new(3, plain(2));
    replicas.elect(0, 1, 1, &[0, 1, 2]);
    replicas.append(0, 2);
    replicas.catch_up(1);
    replicas.catch_up(2);
    replicas.restart(1, 0);
    replicas.elect(1, 2, 2, &[1, 2]);
    assert_eq!(replicas.high_watermark(1), 0, "until 2 has fetched in this reign");
    let view = replicas.on(1).view(Some(2)).expect("leads");
    assert!(matches!(view.list_offset(OffsetSpec::Latest, READ), Err(ListOffsetsError::NotAvailable)));
    replicas.round(2);
    assert_eq!(replicas.high_watermark(1), 2);
    let view = replicas.on(1).view(Some(2)).expect("leads");
    assert_eq!(view.list_offset(OffsetSpec::Latest, READ).expect("listed").offset, 2);
    // Also the same leader forgets: it may have missed an epoch.
    replicas.lead(1, 4, 4, &[1, 2]);
    replicas.append(1, 1);
    assert_eq!(replicas.high_watermark(1), 2);
    replicas.follow(2, 1, 4, 4);
    replicas.catch_up(2);
    assert_eq!(replicas.high_watermark(1), 3);
}

#[test]
fn a_leader_stores_its_epoch_before_it_serves() {
    let mut replicas = Replicas::new(2, plain(1));
    replicas.lead(0, 5, 1, &[0]);
    replicas.append(0, 2);
    replicas.lead(0, 7, 2, &[0]);
    replicas.restart(0, 0);
    replicas.follow(0, 1, 8, 3);
    assert_eq!(replicas.plan(0).last_fetched_epoch, Some(7), "it began, nothing was written, and it is known");
}

#[test]
fn whoever_read_what_is_not_in_the_log_is_told_where_the_logs_part() {
    let mut replicas = Replicas::new(2, plain(1));
    for (epoch, records) in [(1, 2), (3, 4), (6, 1)] {
        replicas.lead(0, epoch, epoch, &[0]);
        replicas.append(0, records);
    }
    for (offset, last_epoch, expected) in [
        (2, 1, None),
        (3, 1, Some((1, 2))),
        (6, 3, None),
        (7, 3, Some((3, 6))),
        (5, 5, Some((3, 6))),
        (7, 6, None),
        (8, 6, Some((6, 7))),
        (0, 0, None),
        (1, 0, Some((0, 0))),
    ] {
        assert_eq!(replicas.on(0).diverging(offset, last_epoch).expect("known"), expected, "{offset} in {last_epoch}");
    }
    replicas.on(0).delete_records(Some(3), None).expect("deleted");
    for (offset, last_epoch) in [(7, 7), (7, -1), (2, 1)] {
        assert!(replicas.on(0).diverging(offset, last_epoch).is_err(), "{offset} in {last_epoch}");
    }
}

#[test]
fn a_followers_fetch_waits_for_the_logs_end() {
    let mut replicas = Replicas::new(2, plain(2));
    replicas.elect(0, 1, 1, &[0, 1]);
    let plan = replicas.plan(1);
    let request = replicas.request(1, &plan);
    assert_eq!(replicas.on(0).wait_follower_fetch(WaitToken(1), 0, 0), Ok(Waiting::Registered));
    assert_eq!(replicas.on(0).wait_fetch(WaitToken(2), 0, 0, 1, READ), Ok(Waiting::Registered));
    assert_eq!(replicas.append(0, 1), [Effect::WakeFetch(WaitToken(1))], "a consumer waits for the high watermark");
    assert_eq!(replicas.on(0).wait_follower_fetch(WaitToken(3), 0, 0), Ok(Waiting::Ready));
    // To look again tells nothing new of the follower.
    assert!(matches!(replicas.on(0).follower_view(&request), Ok(FollowerFetched::Read(_))));
    assert_eq!(replicas.on(0).wait_follower_fetch(WaitToken(4), 1, 1), Ok(Waiting::Registered));
    assert_eq!(replicas.on(0).resign(), [Effect::WakeFetch(WaitToken(2)), Effect::WakeFetch(WaitToken(4))]);
}

#[test]
fn records_are_deleted_when_all_live_replicas_have_deleted_them() {
    let mut replicas = Replicas::new(3, plain(1));
    replicas.elect(0, 1, 1, &[0, 1, 2]);
    for _ in 0..4 {
        replicas.append(0, 1);
    }
    for follower in [1, 2, 1, 2] {
        replicas.round(follower);
    }
    assert_eq!(replicas.high_watermark(0), 4);
    for offset in [Some(5), Some(-1)] {
        let refused = replicas.on(0).delete_records(offset, None).expect_err("refused");
        assert!(matches!(refused, DeleteRecordsError::OffsetOutOfRange { high_watermark: 4, .. }));
    }
    let (asked, effects) = replicas.on(0).delete_records(Some(3), Some(1)).expect("asked");
    assert_eq!((asked.offset, asked.low_watermark, effects), (3, 0, vec![]));
    assert_eq!(replicas.on(0).wait_deletion(WaitToken(1), 3), Ok(Waiting::Registered));
    // A follower takes the start over with one fetch and tells of it with the next.
    replicas.catch_up(1);
    assert_eq!(replicas.on(1).log_start_offset(), 3);
    replicas.round(1);
    // 2 dies: only live replicas count.
    replicas.registered.change(2, |status| status.fenced = true);
    let outcome = DeleteOutcome::Deleted { low_watermark: 3 };
    let now = replicas.now;
    assert_eq!(replicas.on(0).tick(now), [Effect::WakeDeletion { token: WaitToken(1), outcome }]);
    let (asked, _) = replicas.on(0).delete_records(None, None).expect("up to the high watermark");
    assert_eq!(asked.offset, 4);
    assert_eq!(replicas.on(0).wait_deletion(WaitToken(2), 4), Ok(Waiting::Registered));
    let outcome = DeleteOutcome::NotLeader;
    assert_eq!(replicas.on(0).close(), [Effect::WakeDeletion { token: WaitToken(2), outcome }]);
}

#[test]
fn consumers_are_sent_to_a_follower_in_their_rack() {
    let mut replicas = Replicas::new(3, plain(1));
    replicas.elect(0, 1, 1, &[0, 1]);
    replicas.append(0, 2);
    replicas.catch_up(1);
    replicas.catch_up(2);
    let rack_of = |broker: odradek_model::BrokerId| Some(["a", "b", "c"][broker.0 as usize]);
    let prefer = |replicas: &mut Replicas, rack: &str, offset| {
        replicas.on(0).preferred_read_replica(rack, offset, Some(1), rack_of).expect("leads")
    };
    assert_eq!(prefer(&mut replicas, "b", 1), Some(id(1)));
    assert_eq!(prefer(&mut replicas, "b", 3), None, "it does not hold that offset");
    assert_eq!(prefer(&mut replicas, "c", 1), None, "not in the ISR");
    assert_eq!(prefer(&mut replicas, "a", 1), None);
    assert!(replicas.on(0).preferred_read_replica("b", 1, Some(2), rack_of).is_err());
}

#[test]
fn a_decision_that_is_not_newer_changes_nothing() {
    let mut replicas = Replicas::new(2, plain(1));
    replicas.lead(0, 5, 8, &[0, 1]);
    replicas.follow(0, 1, 4, 9);
    replicas.follow(0, 1, 5, 8);
    replicas.lead(0, 5, 7, &[0]);
    assert_eq!(replicas.on(0).leadership().map(|leadership| leadership.in_sync.len()), Some(2));
    replicas.on(0).resign();
    replicas.lead(0, 5, 8, &[0]);
    assert_eq!(replicas.on(0).leadership(), None, "a reign that ended does not begin again");
    replicas.follow(0, 1, 6, 9);
    assert_eq!(replicas.on(0).following().map(|following| following.leader), Some(id(1)));
}

#[test]
fn who_was_fenced_is_proposed_once_the_metadata_says_that_it_is_not() {
    let mut replicas = Replicas::new(3, plain(2));
    replicas.elect(0, 1, 1, &[0, 1]);
    replicas.registered.change(2, |status| status.fenced = true);
    assert_eq!(replicas.round(2).leader_effects, [], "it has everything, and is fenced");
    let now = replicas.now;
    assert_eq!(replicas.on(0).brokers_changed(now), []);
    replicas.registered.change(2, |status| status.fenced = false);
    assert_eq!(replicas.on(0).tick(now), [], "who only lets time pass proposes nobody");
    assert_eq!(members(&proposed(&replicas.on(0).brokers_changed(now))), [0, 1, 2]);
    assert_eq!(replicas.on(0).brokers_changed(now), [], "that is on its way");
}

#[test]
fn who_is_behind_is_not_proposed_for_being_alive() {
    let mut replicas = Replicas::new(3, plain(2));
    replicas.elect(0, 1, 1, &[0, 1]);
    replicas.registered.change(2, |status| status.fenced = true);
    replicas.round(2);
    replicas.append(0, 1);
    replicas.pass(LAG + 1);
    replicas.registered.change(2, |status| status.fenced = false);
    replicas.catch_up(1);
    let now = replicas.now;
    assert_eq!(replicas.on(0).brokers_changed(now), []);
}

/// Whether a leader of so many replicas, with that minimum and ISR, may read when those confirm.
fn suffice(replicas: i32, min: i32, in_sync: &[i32], confirming: &[i32]) -> bool {
    let mut cluster = Replicas::new(replicas, plain(min));
    cluster.elect(0, 1, 1, in_sync);
    let witnesses = cluster.on(0).witnesses(Some(1)).expect("it leads");
    assert_eq!(witnesses.others, (1..replicas).map(id).collect::<Vec<_>>());
    witnesses.suffice(|broker| confirming.contains(&broker.0))
}

#[test]
fn a_read_needs_the_word_of_all_who_may_lead_or_of_enough_that_nobody_commits() {
    let all = &[0, 1, 2][..];
    // Two commit: any other one keeps the third from it.
    assert!(!suffice(3, 2, all, &[]));
    assert!(suffice(3, 2, all, &[1]) && suffice(3, 2, all, &[2]));
    assert!(suffice(3, 2, &[0, 1], &[2]), "whether it is in sync or not");
    // Below the minimum others may be eligible.
    assert!(!suffice(3, 2, &[0], &[]));
    assert!(suffice(3, 2, &[0], &[1]));
    // One commits alone: all who may lead are needed, and no others.
    assert!(!suffice(3, 1, all, &[1]) && suffice(3, 1, all, &[1, 2]));
    assert!(!suffice(3, 1, &[0, 1], &[2]) && suffice(3, 1, &[0, 1], &[1]));
    assert!(suffice(3, 1, &[0], &[]));
    assert!(!suffice(2, 1, &[0, 1], &[]) && suffice(2, 1, &[0, 1], &[1]));
    // Nothing is committed without this one.
    assert!(suffice(2, 2, &[0, 1], &[]) && suffice(3, 3, all, &[]) && suffice(1, 1, &[0], &[]));
    assert!(!suffice(5, 2, &[0, 1, 2, 3, 4], &[1, 2]) && suffice(5, 2, &[0, 1, 2, 3, 4], &[1, 2, 3]));
}

#[test]
fn who_is_about_to_join_may_lead() {
    let mut replicas = Replicas::new(3, plain(1));
    replicas.elect(0, 1, 1, &[0]);
    assert!(replicas.on(0).witnesses(Some(1)).expect("it leads").suffice(|_| false));
    proposed(&replicas.round(1).leader_effects);
    let witnesses = replicas.on(0).witnesses(Some(1)).expect("it leads");
    assert!(!witnesses.suffice(|_| false) && witnesses.suffice(|broker| broker == id(1)));
    assert!(matches!(replicas.on(0).witnesses(Some(2)), Err(LeadershipError::Unknown { .. })));
    assert!(matches!(replicas.on(1).witnesses(None), Err(LeadershipError::NotLeader)));
}
