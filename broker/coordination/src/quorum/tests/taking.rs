// SPDX-License-Identifier: Apache-2.0
//! Taking the Lease and giving it back (rule 1), and promises (rule 2).

use super::*;

const VOTERS: &[i32] = &[1, 2, 3];

#[test]
fn rule_1d_a_candidate_without_an_answer_gives_the_lease_back_and_waits() {
    let mut bench = Bench::take(3, VOTERS, TestStorage::default());
    let settings = QuorumSettings::default();
    bench.pass(settings.candidate_patience_ms - 1);
    assert_eq!((bench.role(), bench.last_write()), (CANDIDATE, None));
    bench.pass(1);
    assert_eq!(bench.role(), FOLLOWER);
    bench.land(7); // a renewal was due in the same moment
    let (_, base, change) = bench.last_write().expect("it gives the Lease back");
    let voters = VOTERS.iter().map(|id| voter(*id)).collect();
    assert_eq!(base.map(|base| base.sequence), Some(7));
    assert_eq!(change, LeaseChange { epoch: 4, holder: None, voters });
    bench.land(8);
    bench.pass(settings.back_off_ms - 1);
    assert_eq!(bench.last_write(), None, "others go first");
    bench.pass(settings.back_off_ms + 1);
    let (_, _, change) = bench.last_write().expect("then it tries again");
    assert_eq!((change.epoch, change.holder), (5, Some(holder(1))));
}

#[test]
fn rule_1d_a_promise_or_a_part_of_a_tail_is_progress() {
    let mut bench = Bench::take(3, VOTERS, TestStorage::with(promise(3, 2), &[1]));
    let tail = |bench: &mut Bench, base_offset| {
        let Some((request, MessageBody::Fetch(_))) = bench.sent(2).pop() else { panic!("no fetch") };
        let outcome = FetchOutcome::Batches(vec![TestStorage::batch(2, base_offset, 1)]);
        let answer = FetchAnswer { controller: promise(4, 1), commit_end: 0, outcome };
        bench.hear(2, request, MessageBody::Fetched(answer));
    };
    bench.pass(1_400).grant(2, at(2, 4)).pass(1_400);
    tail(&mut bench, 1);
    bench.pass(1_400);
    tail(&mut bench, 2);
    bench.pass(1_400);
    assert_eq!(bench.role(), CANDIDATE, "5.6 s, but it goes forward");
    tail(&mut bench, 3);
    assert_eq!(bench.role(), CONTROLLER);
}

#[test]
fn rule_1f_a_holder_that_saw_no_answer_takes_again() {
    for outcome in [Ok(WriteOutcome::Unknown("late".into())), Ok(WriteOutcome::Refused), Err("lost".into())] {
        let mut bench = Bench::new(3, TestStorage::default());
        bench.lease_is(Some(&view(3, 5, None, VOTERS)));
        let (call, _, change) = bench.last_write().expect("it takes");
        assert_eq!(change.epoch, 4);
        bench.drain();
        bench.give(Input::LeaseWritten(call, outcome)).pass(QuorumSettings::default().retry_ms);
        assert_eq!((bench.role(), bench.last_write()), (FOLLOWER, None), "first it reads");
        bench.lease_is(Some(&view(4, 6, Some(1), VOTERS)));
        let (_, base, change) = bench.last_write().expect("it takes again");
        assert_eq!(base, Some(view(4, 6, Some(1), VOTERS)));
        assert_eq!((change.epoch, change.holder), (5, Some(holder(1))));
        assert_eq!(bench.role(), FOLLOWER, "an answer that was not seen makes no candidate");
        bench.land(7);
        assert_eq!(bench.role(), CANDIDATE);
    }
}

#[test]
fn rule_1f_a_late_answer_to_the_first_take_counts_for_nothing() {
    let mut bench = Bench::new(3, TestStorage::default());
    bench.lease_is(Some(&view(3, 5, None, VOTERS)));
    let (first, ..) = bench.last_write().expect("it takes");
    bench.give(Input::LeaseWritten(first, Ok(WriteOutcome::Unknown("late".into()))));
    bench.pass(QuorumSettings::default().retry_ms).lease_is(Some(&view(4, 6, Some(1), VOTERS)));
    bench.give(Input::LeaseWritten(first, Ok(WriteOutcome::Written(view(4, 6, Some(1), VOTERS)))));
    assert_eq!(bench.role(), FOLLOWER);
}

#[test]
fn rule_2_an_epoch_is_promised_once_and_to_the_same_again() {
    let mut bench = Bench::new(3, TestStorage::with(promise(3, 2), &[1, 2, 3]));
    let mut asked = |from: i32, incarnation: &str, epoch| {
        let sender = Holder { incarnation: incarnation.into(), ..holder(from) };
        let (directory_id, body) = (voter(from).directory_id, MessageBody::AskPromise(epoch));
        bench.drain();
        bench.give(Input::Received(Message { sender, directory_id, request: 77, body }));
        let promised = bench.sent(from).into_iter().find_map(|(request, body)| match body {
            MessageBody::Promised(answer) => Some((request, answer)),
            _ => None,
        });
        let (request, answer) = promised.expect("an answer");
        assert_eq!((request, answer.epoch, answer.position), (77, epoch, at(3, 3)));
        assert_eq!(answer.promised, *bench.member.storage().promised(), "what it says is on its disk");
        (answer.granted, answer.promised)
    };
    assert_eq!(asked(2, "now", 3), (true, promise(3, 2)), "the same again");
    assert_eq!(asked(3, "now", 3), (false, promise(3, 2)), "another, the same epoch");
    assert_eq!(asked(2, "later", 3), (false, promise(3, 2)), "another process is another holder");
    assert_eq!(asked(3, "now", 2), (false, promise(3, 2)), "a lower epoch");
    assert_eq!(asked(3, "now", 0), (false, promise(3, 2)));
    assert_eq!(asked(3, "now", 5), (true, promise(5, 3)));
    assert_eq!(asked(3, "now", 5), (true, promise(5, 3)), "the same again");
    assert_eq!(asked(2, "now", 4), (false, promise(5, 3)), "the higher epoch refuses");
}

#[test]
fn rule_2_whoever_promised_follows_nobody_lower_any_more() {
    let mut bench = Bench::new(3, TestStorage::with(promise(3, 2), &[3]));
    let fetch = bench.sent(2).into_iter().find(|(_, body)| matches!(body, MessageBody::Fetch(_)));
    let request = fetch.expect("it follows 2").0;
    bench.hear(3, 1, MessageBody::AskPromise(4));
    let outcome = FetchOutcome::Batches(vec![TestStorage::batch(3, 1, 1)]);
    let answer = FetchAnswer { controller: promise(3, 2), commit_end: 2, outcome };
    bench.hear(2, request, MessageBody::Fetched(answer));
    assert_eq!((bench.member.storage().position(), bench.member.status().commit_end), (at(3, 1), 0));
    bench.drain();
    bench.hear(2, 1, MessageBody::Announce(3)).pass(QuorumSettings::default().request_timeout_ms);
    let fetches = |bench: &Bench, from| {
        let accepted = |(_, body)| if let MessageBody::Fetch(fetch) = body { Some(fetch.accepted) } else { None };
        bench.sent(from).into_iter().find_map(accepted)
    };
    assert_eq!((fetches(&bench, 2), fetches(&bench, 3)), (None, Some(promise(4, 3))));
}

#[test]
fn rule_2_a_higher_promise_elsewhere_ends_a_candidacy() {
    let mut bench = Bench::take(3, VOTERS, TestStorage::default());
    let refusal = PromiseAnswer { epoch: 4, granted: false, promised: promise(6, 3), position: at(0, 0) };
    bench.hear(2, 0, MessageBody::Promised(refusal));
    assert_eq!(bench.role(), FOLLOWER);
    assert_eq!(bench.member.status().controller, promise(6, 3));
}

#[test]
fn rule_2_a_promise_counts_more_than_what_a_stranger_wrote_into_the_lease_under_the_same_epoch() {
    let mut bench = Bench::new(3, TestStorage::with(promise(3, 2), &[1, 2]));
    bench.lease_is(Some(&view(4, 5, Some(2), &[1, 2, 3])));
    assert_eq!(bench.member.status().controller, promise(4, 2));
    // The Lease was rolled back, and broker 3 took it with the epoch that was never promised to anybody.
    bench.hear(3, 7, MessageBody::AskPromise(4));
    assert_eq!(bench.member.status().controller, promise(4, 3));
    assert!(bench.sent(3).iter().any(|(_, body)| matches!(body, MessageBody::Fetch(_))), "and follows it");
}
