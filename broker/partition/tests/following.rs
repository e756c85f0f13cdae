// SPDX-License-Identifier: Apache-2.0
//! The follower's rules of replication, one by one: copying, cutting by epoch, starting over, and everything that a
//! leader, the network or the own disk may do wrong.

mod harness;

use bytes::Bytes;
use harness::{NOW, Replicas, plain};
use odradek_disk::{DiskOperation, Fault};
use odradek_partition::{
    Acks, AppendError, Effect, FetchAnswer, FollowError, FollowerStep, Isolation, IsrAnswer, LeadershipError,
    PartitionSettings, ProduceOutcome, WaitToken, Waiting,
};
use odradek_records::{BatchBuilder, BatchOptions};

const READ: Isolation = Isolation::ReadUncommitted;

/// A batch as a leader has stored it.
fn stored(base_offset: i64, records: usize, leader_epoch: i32) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for _ in 0..records {
        builder.append(NOW, None, Some(b"stored"), &[]);
    }
    let mut batch = builder.build_validated();
    batch.assign(base_offset, leader_epoch, None);
    batch.to_vec()
}

fn answer(records: Vec<u8>, high_watermark: i64) -> FetchAnswer {
    FetchAnswer::Records { records: Bytes::from(records), high_watermark, log_start_offset: 0 }
}

#[test]
fn a_follower_copies_and_takes_the_watermarks_over() {
    let mut replicas = Replicas::new(2, plain(1));
    replicas.elect(0, 3, 1, &[0]);
    for records in [1, 4, 2] {
        replicas.append(0, records);
    }
    let plan = replicas.plan(1);
    assert_eq!((plan.fetch_offset, plan.last_fetched_epoch, plan.log_start_offset), (0, None, 0));
    replicas.catch_up(1);
    assert_eq!((replicas.end(1), replicas.high_watermark(1)), (7, 7));
    let plan = replicas.plan(1);
    assert_eq!((plan.fetch_offset, plan.last_fetched_epoch), (7, Some(3)));
    // Its high watermark is the leader's, but never above its own end.
    replicas.on(1).fetch_answered(&plan, answer(stored(7, 1, 3), 100), NOW).1.expect("good");
    assert_eq!((replicas.end(1), replicas.high_watermark(1)), (8, 8));
    // A leader that is yet to learn it does not take it back.
    let plan = replicas.plan(1);
    replicas.on(1).fetch_answered(&plan, answer(Vec::new(), 2), NOW).1.expect("good");
    assert_eq!(replicas.high_watermark(1), 8);
    let late = FetchAnswer::Records { records: Bytes::new(), high_watermark: 8, log_start_offset: 5 };
    let plan = replicas.plan(1);
    replicas.on(1).fetch_answered(&plan, late, NOW).1.expect("good");
    assert_eq!(replicas.on(1).log_start_offset(), 5, "and the log start");
}

#[test]
fn consumers_read_from_a_follower_up_to_its_own_high_watermark() {
    let mut replicas = Replicas::new(2, plain(2));
    replicas.elect(0, 1, 1, &[0, 1]);
    replicas.append(0, 2);
    replicas.round(1);
    assert!(matches!(replicas.on(1).view(Some(1)), Err(LeadershipError::NotLeader)));
    let view = replicas.on(1).replica_view(Some(1)).expect("a replica");
    assert_eq!((view.log_end_offset(), view.visible_end(READ)), (2, 0));
    assert!(view.read(1, 1_000, READ, true).expect("nothing visible yet").records.is_empty());
    assert!(matches!(replicas.on(1).replica_view(Some(2)), Err(LeadershipError::Unknown { .. })));
    assert_eq!(replicas.on(1).wait_fetch(WaitToken(1), 0, 0, 150, READ), Ok(Waiting::Registered));
    assert_eq!(replicas.round(1).follower_effects, [Effect::WakeFetch(WaitToken(1))]);
    let view = replicas.on(1).replica_view(Some(1)).expect("a replica");
    assert!(!view.read(1, 1_000, READ, true).expect("visible").records.is_empty());
    // It becomes leader: who waited looks again.
    assert_eq!(replicas.on(1).wait_fetch(WaitToken(2), 2, 2, 1, READ), Ok(Waiting::Registered));
    assert_eq!(replicas.lead(1, 2, 2, &[1, 0]), [Effect::WakeFetch(WaitToken(2))]);
}

#[test]
fn logs_that_differ_are_cut_by_epoch_until_they_are_equal() {
    // 0 and 1 lead by turns and alone, so that their logs differ in several epochs after what both have.
    let mut replicas = Replicas::new(2, plain(1));
    replicas.elect(0, 1, 1, &[0]);
    for _ in 0..3 {
        replicas.append(0, 2);
    }
    replicas.catch_up(1);
    replicas.lead(0, 2, 2, &[0]);
    replicas.append(0, 3);
    replicas.lead(1, 3, 3, &[1]);
    replicas.append(1, 1);
    replicas.lead(0, 4, 4, &[0]);
    replicas.append(0, 1);
    replicas.append(0, 1);
    replicas.lead(1, 5, 5, &[1]);
    replicas.append(1, 5);
    assert_eq!((replicas.end(0), replicas.end(1), replicas.high_watermark(0)), (11, 12, 11));
    // An unclean election: what 0 alone had is lost, but not told apart from the rest by its high watermark.
    replicas.follow(0, 1, 5, 5);
    let rounds = replicas.catch_up(0);
    assert!(rounds > 3, "one epoch after another");
    assert_eq!(replicas.batches(0), [(2, 1), (4, 1), (6, 1), (7, 3), (12, 5)]);
    assert_eq!(replicas.high_watermark(0), 12);
}

#[test]
fn an_epoch_in_which_nothing_was_written_is_forgotten_when_the_leader_does_not_know_it() {
    let mut replicas = Replicas::new(2, plain(2));
    replicas.elect(0, 1, 1, &[0, 1]);
    replicas.append(0, 1);
    replicas.catch_up(1);
    replicas.append(0, 1);
    // 1 leads for a moment and writes nothing; 0 has a record more than it and leads again.
    replicas.lead(1, 2, 2, &[0, 1]);
    replicas.lead(0, 3, 3, &[0, 1]);
    replicas.follow(1, 0, 3, 3);
    assert_eq!(replicas.plan(1).last_fetched_epoch, Some(2));
    let round = replicas.round(1);
    round.result.expect("something is forgotten");
    assert_eq!((round.follower_effects.len(), replicas.end(1)), (0, 1), "nothing is cut");
    assert_eq!(replicas.plan(1).last_fetched_epoch, Some(1));
    replicas.catch_up(1);
    assert_eq!(replicas.end(1), 2);
}

#[test]
fn a_restarted_follower_keeps_what_is_above_its_high_watermark() {
    let mut replicas = Replicas::new(2, plain(1));
    replicas.elect(0, 1, 1, &[0, 1]);
    replicas.append(0, 3);
    replicas.catch_up(1);
    replicas.restart(1, 0);
    replicas.follow(1, 0, 1, 1);
    assert_eq!((replicas.end(1), replicas.high_watermark(1)), (3, 0));
    // Elected before it could ask anyone: it has what was acknowledged.
    replicas.elect(1, 2, 2, &[1]);
    assert_eq!(replicas.high_watermark(1), 3);
}

#[test]
fn a_follower_out_of_the_leaders_range_is_cut_or_begins_anew() {
    let mut replicas = Replicas::new(2, plain(1));
    replicas.elect(0, 1, 1, &[0]);
    replicas.append(0, 1);
    replicas.catch_up(1);
    // It was away for long.
    replicas.registered.change(1, |status| status.fenced = true);
    for _ in 0..20 {
        replicas.append(0, 3);
    }
    let change = replicas.on(0).pending_isr_change().cloned().expect("it was about to join");
    replicas.on(0).isr_answered(&change, IsrAnswer::Refused);
    replicas.on(0).delete_records(Some(40), None).expect("deleted");
    replicas.round(1).result.expect("out of range");
    let round = replicas.round(1);
    assert!(matches!(round.step, FollowerStep::AskOffsets(_)));
    assert_eq!(round.follower_effects, [Effect::Checkpoint]);
    assert_eq!((replicas.on(1).log_start_offset(), replicas.end(1), replicas.high_watermark(1)), (40, 40, 40));
    replicas.catch_up(1);
    assert_eq!((replicas.on(1).log_start_offset(), replicas.end(1)), (40, 61));
    // The leader has less, and no epoch to tell it by (its log was begun anew): cut to its end.
    let mut replicas = Replicas::new(2, plain(1));
    replicas.lead(1, 1, 1, &[1]);
    replicas.append(1, 4);
    replicas.lead(0, 2, 2, &[0]);
    replicas.follow(1, 0, 2, 2);
    let plan = replicas.plan(1);
    replicas.on(1).fetch_answered(&plan, FetchAnswer::OutOfRange, NOW).1.expect("noted");
    assert_eq!(replicas.round(1).follower_effects, [Effect::Checkpoint]);
    assert_eq!(replicas.end(1), 0);
}

#[test]
fn a_leaders_log_that_starts_within_a_batch_is_copied_from_that_batch_on() {
    let mut replicas = Replicas::new(2, plain(1));
    replicas.elect(0, 1, 1, &[0]);
    replicas.append(0, 10);
    replicas.append(0, 1);
    replicas.on(0).delete_records(Some(4), None).expect("deleted");
    replicas.round(1).result.expect("out of range");
    replicas.round(1).result.expect("begins at 4");
    assert_eq!(replicas.end(1), 4);
    replicas.catch_up(1);
    assert_eq!((replicas.on(1).log_start_offset(), replicas.end(1), replicas.high_watermark(1)), (4, 11, 11));
}

#[test]
fn a_tail_below_the_leaders_start_does_not_come_back_with_a_restart() {
    let mut replicas = Replicas::new(2, plain(1));
    // Four records that both have, then ten that only the follower has.
    replicas.elect(1, 1, 1, &[1]);
    replicas.append(1, 4);
    replicas.catch_up(0);
    for _ in 0..10 {
        replicas.append(1, 1);
    }
    replicas.lead(0, 2, 2, &[0]);
    replicas.append(0, 5);
    replicas.append(0, 5);
    replicas.on(0).delete_records(Some(9), None).expect("deleted");
    replicas.follow(1, 0, 2, 2);
    // The leader knows nothing of epoch 1 any more but that it has ended at its start.
    assert_eq!(replicas.round(1).follower_effects, [Effect::Checkpoint]);
    assert_eq!((replicas.on(1).log_start_offset(), replicas.end(1)), (0, 9));
    replicas.on(1).checkpointed();
    let round = replicas.round(1);
    assert_eq!((replicas.on(1).log_start_offset(), replicas.end(1)), (9, 14));
    assert_eq!(round.follower_effects, [Effect::Checkpoint], "{round:?}");
    assert_eq!(replicas.on(1).next_step(), FollowerStep::AwaitCheckpoint);
    replicas.catch_up(1);
    // From now on the history is one, and its start can wait.
    replicas.append(0, 3);
    replicas.catch_up(1);
    replicas.on(0).delete_records(Some(16), None).expect("deleted");
    replicas.append(0, 1);
    let round = replicas.round(1);
    assert!(!round.follower_effects.contains(&Effect::Checkpoint), "{round:?}");
    assert_eq!(replicas.on(1).log_start_offset(), 16);
}

#[test]
fn nothing_is_appended_after_a_cut_before_its_checkpoint() {
    let mut replicas = Replicas::new(2, plain(1));
    replicas.lead(1, 1, 1, &[1]);
    replicas.append(1, 4);
    replicas.elect(0, 2, 2, &[0]);
    assert_eq!(replicas.round(1).follower_effects, [Effect::Checkpoint]);
    assert_eq!(replicas.on(1).next_step(), FollowerStep::AwaitCheckpoint);
    // Elected meanwhile: it takes nothing yet either, and asks again.
    assert_eq!(replicas.lead(1, 3, 3, &[1])[0], Effect::Checkpoint);
    let refused = replicas.on(1).append(harness::batch(1), Acks::Leader, None, NOW).expect_err("not yet");
    assert!(matches!(refused, AppendError::Leadership(LeadershipError::NotLeader)));
    replicas.on(1).checkpointed();
    replicas.append(1, 1);
}

#[test]
fn late_answers_mean_nothing() {
    let mut replicas = Replicas::new(2, plain(1));
    replicas.elect(0, 1, 1, &[0, 1]);
    let first = replicas.plan(1);
    let second = replicas.plan(1);
    assert_eq!(replicas.on(1).fetch_answered(&first, answer(stored(0, 1, 1), 1), NOW).0, []);
    assert_eq!(replicas.end(1), 0);
    replicas.on(1).fetch_answered(&second, answer(stored(0, 1, 1), 1), NOW).1.expect("good");
    assert_eq!(replicas.end(1), 1);
    // Not even the same answer twice, nor one from the epoch before.
    let third = replicas.plan(1);
    replicas.on(1).fetch_answered(&second, FetchAnswer::Diverging { epoch: 0, end_offset: 0 }, NOW).1.expect("void");
    replicas.follow(1, 0, 2, 2);
    replicas.on(1).fetch_answered(&third, answer(stored(1, 1, 1), 2), NOW).1.expect("void");
    assert_eq!((replicas.end(1), replicas.high_watermark(1)), (1, 1));
    // The leader's epoch is over: nothing is asked until the metadata tells of the next.
    let plan = replicas.plan(1);
    replicas.on(1).fetch_answered(&plan, FetchAnswer::Fenced, NOW).1.expect("noted");
    assert_eq!(replicas.on(1).next_step(), FollowerStep::Nothing);
    replicas.follow(1, 0, 2, 3);
    assert_eq!(replicas.on(1).next_step(), FollowerStep::Nothing, "the epoch is the same");
    replicas.follow(1, 0, 3, 4);
    replicas.plan(1);
}

#[test]
fn what_a_later_leader_wrote_is_left_for_when_it_leads() {
    let mut replicas = Replicas::new(2, plain(1));
    replicas.elect(0, 1, 1, &[0, 1]);
    let plan = replicas.plan(1);
    // KAFKA-18723: the leader lost its leadership while it answered, and read what the next leader wrote.
    let sent = [stored(0, 2, 1), stored(2, 1, 2)].concat();
    replicas.on(1).fetch_answered(&plan, answer(sent, 3), NOW).1.expect("the good part");
    assert_eq!((replicas.end(1), replicas.high_watermark(1)), (2, 2));
}

#[test]
fn damage_from_the_leader_is_refused_and_asked_for_again() {
    let flipped = |mut bytes: Vec<u8>| {
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        bytes
    };
    for (what, sent, kept) in [
        ("a flipped bit", [stored(0, 2, 1), flipped(stored(2, 1, 1))].concat(), 2),
        ("an epoch that falls", [stored(0, 2, 1), stored(2, 1, 0)].concat(), 2),
        ("no epoch", stored(0, 2, -1), 0),
        ("offsets that go back", [stored(0, 2, 1), stored(1, 1, 1)].concat(), 2),
        ("no batch at all", vec![0xff; 100], 0),
    ] {
        let mut replicas = Replicas::new(2, plain(1));
        replicas.elect(0, 1, 1, &[0, 1]);
        let plan = replicas.plan(1);
        let (_, result) = replicas.on(1).fetch_answered(&plan, answer(sent, 3), NOW);
        assert!(matches!(result, Err(FollowError::Corrupt { .. })), "{what}: {result:?}");
        assert_eq!((replicas.end(1), replicas.high_watermark(1)), (kept, kept), "{what}");
        assert_eq!(replicas.plan(1).fetch_offset, kept, "{what}");
    }
    // A batch that the answer's size has cut off is no damage.
    let mut replicas = Replicas::new(2, plain(1));
    replicas.elect(0, 1, 1, &[0, 1]);
    let plan = replicas.plan(1);
    let sent = [stored(0, 2, 1), stored(2, 9, 1)[..70].to_vec()].concat();
    replicas.on(1).fetch_answered(&plan, answer(sent, 3), NOW).1.expect("the whole batch");
    assert_eq!(replicas.end(1), 2);
}

#[test]
fn nonsense_from_the_leader_cuts_nothing() {
    let mut replicas = Replicas::new(2, plain(1));
    replicas.elect(0, 1, 1, &[0, 1]);
    replicas.append(0, 3);
    replicas.catch_up(1);
    for (epoch, end_offset) in [(-1, 0), (0, -1), (2, 0), (1, 3), (1, 99)] {
        let plan = replicas.plan(1);
        let (effects, result) = replicas.on(1).fetch_answered(&plan, FetchAnswer::Diverging { epoch, end_offset }, NOW);
        assert!(matches!(result, Err(FollowError::Unusable { .. })) && effects.is_empty(), "{epoch} {end_offset}");
    }
    for (log_start, log_end) in [(-1, 3), (5, 4), (0, 9)] {
        let plan = replicas.plan(1);
        replicas.on(1).fetch_answered(&plan, FetchAnswer::OutOfRange, NOW).1.expect("noted");
        let FollowerStep::AskOffsets(plan) = replicas.on(1).next_step() else { panic!("the range is asked for") };
        let offsets = odradek_partition::LeaderOffsets { log_start, log_end };
        let (_, result) = replicas.on(1).offsets_answered(&plan, offsets, NOW);
        assert!(matches!(result, Err(FollowError::Unusable { .. })), "{log_start} {log_end}");
        // Asked again, and this time it is in range.
        if let FollowerStep::AskOffsets(plan) = replicas.on(1).next_step() {
            let offsets = odradek_partition::LeaderOffsets { log_start: 0, log_end: 3 };
            let (_, result) = replicas.on(1).offsets_answered(&plan, offsets, NOW);
            assert!(matches!(result, Err(FollowError::Unusable { .. })), "not at once again");
        }
    }
    assert_eq!((replicas.end(1), replicas.high_watermark(1)), (3, 3));
}

#[test]
fn a_full_disk_is_waited_for_and_a_failing_one_ends_the_replica() {
    let mut replicas = Replicas::new(2, plain(1));
    replicas.elect(0, 1, 1, &[0, 1]);
    replicas.append(0, 1);
    replicas.catch_up(1);
    replicas.append(0, 5);
    replicas.each[1].disk.set_capacity(Some(0));
    let round = replicas.round(1);
    assert!(matches!(round.result, Err(FollowError::Storage(error)) if error.no_space));
    replicas.each[1].disk.set_capacity(None);
    replicas.catch_up(1);
    replicas.append(0, 1);
    assert_eq!(replicas.on(1).wait_fetch(WaitToken(1), 6, 6, 1, READ), Ok(Waiting::Registered));
    let fault = Fault { operation: DiskOperation::Write, path_suffix: ".log".into(), after: 0, times: 1 };
    replicas.each[1].disk.inject(fault);
    let round = replicas.round(1);
    assert!(matches!(round.result, Err(FollowError::Storage(error)) if !error.no_space));
    assert_eq!(round.follower_effects, [Effect::WakeFetch(WaitToken(1))]);
    assert_eq!(replicas.on(1).next_step(), FollowerStep::Nothing);
    assert!(matches!(replicas.on(1).replica_view(None), Err(LeadershipError::Closed)));
    assert!(replicas.lead(1, 2, 2, &[1]).is_empty(), "it leads nothing any more");
    assert!(replicas.on(1).view(None).is_err());
    // A restart finds out what is there, and the rest is fetched.
    replicas.restart(1, 0);
    replicas.follow(1, 0, 1, 1);
    replicas.catch_up(1);
}

#[test]
fn a_cut_that_fails_ends_the_replica_even_if_the_disk_is_only_full() {
    let mut replicas = Replicas::new(2, plain(1));
    replicas.lead(1, 1, 1, &[1]);
    replicas.append(1, 4);
    replicas.elect(0, 2, 2, &[0]);
    replicas.each[1].disk.set_capacity(Some(0));
    let round = replicas.round(1);
    assert!(matches!(round.result, Err(FollowError::Storage(_))));
    assert_eq!(replicas.on(1).next_step(), FollowerStep::Nothing, "memory and disk may differ");
    replicas.each[1].disk.set_capacity(None);
    replicas.restart(1, 0);
    replicas.follow(1, 0, 2, 2);
    replicas.catch_up(1);
}

#[test]
fn with_flush_messages_1_a_follower_claims_what_it_has_forced() {
    let mut replicas = Replicas::new(2, PartitionSettings { min_insync_replicas: 2, flush_messages: Some(1) });
    replicas.elect(0, 1, 1, &[0, 1]);
    replicas.append(0, 2);
    let round = replicas.round(1);
    assert_eq!((round.follower_effects, replicas.end(1)), (vec![Effect::Flush], 2));
    assert_eq!(replicas.on(1).next_step(), FollowerStep::AwaitFlush);
    let job = replicas.on(1).flush_job().expect("something to force");
    let forced = (job.run)();
    replicas.on(1).flushed(forced);
    assert_eq!(replicas.plan(1).fetch_offset, 2);
    // The leader, too, counts for itself what it has forced.
    replicas.round(1);
    assert_eq!(replicas.high_watermark(0), 0);
    let job = replicas.on(0).flush_job().expect("something to force");
    let forced = (job.run)();
    replicas.on(0).flushed(forced);
    assert_eq!(replicas.high_watermark(0), 2);
}

#[test]
fn a_leader_that_becomes_follower_tells_who_waits() {
    let mut replicas = Replicas::new(2, plain(2));
    replicas.elect(0, 1, 1, &[0, 1]);
    replicas.append(0, 1);
    replicas.on(0).wait_produce(WaitToken(1), 1).expect("room");
    replicas.on(0).wait_fetch(WaitToken(2), 0, 0, 1, READ).expect("room");
    let outcome = ProduceOutcome::NotLeader;
    let expected = [Effect::WakeFetch(WaitToken(2)), Effect::WakeProduce { token: WaitToken(1), outcome }];
    assert_eq!(replicas.follow(0, 1, 2, 2), expected);
    assert_eq!(replicas.follow(0, 1, 2, 3), [], "no other leader");
}
