// SPDX-License-Identifier: Apache-2.0
//! The Lease is missing, replaced or older than the logs (rule 10).

use super::*;

const VOTERS: &[i32] = &[1, 2, 3];

fn voter_sets(epoch: i64, sequence: i64, voters: &[i32]) -> VoterSets {
    let stamp = LeaseStamp { uid: "life".into(), epoch, sequence };
    let voters = voters.iter().map(|id| voter(*id)).collect();
    VoterSets { newest: Some(StoredVoterSet { stamp, voters }), pending: Vec::new() }
}

/// A controller of epoch 4 that leads with voter 2.
fn leading() -> Bench {
    let mut bench = Bench::take(3, VOTERS, TestStorage::default());
    bench.grant(2, at(0, 0)).acknowledge(2, at(4, 1));
    assert_eq!(bench.role(), LEADS);
    bench.drain();
    bench
}

/// A follower that knows the voters of epoch 3, hears nobody, and finds this instead of the Lease.
fn abandoned(found: Option<&LeaseView>) -> Bench {
    let storage = TestStorage::with(promise(3, 2), &[1, 2, 3]).knowing(voter_sets(3, 5, VOTERS));
    let mut bench = Bench::new(4, storage);
    bench.lease_is(found);
    bench
}

/// Answers every question that the broker was asked since the last look.
fn answer(bench: &mut Bench, from: i32, position: LogPosition, sets: &VoterSets, hears: Option<&Promise>) {
    let asked = bench.sent(from).into_iter().filter(|(_, body)| *body == MessageBody::AskStatus);
    let requests: Vec<_> = asked.map(|(request, _)| request).collect();
    assert!(!requests.is_empty(), "{from} was asked");
    for request in requests {
        let answer =
            StatusAnswer { hears: hears.cloned(), promised: promise(3, 2), position, voter_sets: sets.clone() };
        bench.hear(from, request, MessageBody::Status(Box::new(answer)));
    }
}

/// The epoch that the broker was asked to promise.
fn asked_to_promise(bench: &Bench, broker: i32) -> Option<i64> {
    bench.sent(broker).into_iter().find_map(|(_, body)| match body {
        MessageBody::AskPromise(epoch) => Some(epoch),
        _ => None,
    })
}

#[test]
fn rule_10_a_live_controller_puts_a_deleted_lease_back_and_leads_with_a_higher_epoch() {
    let mut bench = leading();
    bench.pass(QuorumSettings::default().lease_poll_ms);
    // The renewals under way find nothing to renew.
    let (call, ..) = bench.last_write().expect("a renewal");
    bench.lease_is(None).give(Input::LeaseWritten(call, Ok(WriteOutcome::Refused)));
    bench.lease_is(None);
    assert_eq!(bench.role(), LEADS, "that the Lease is gone ends nothing");
    assert!(bench.member.status().lease_is_fallen);
    bench.pass(QuorumSettings::default().renew_interval_ms);
    let (call, base, change) = bench.last_write().expect("it creates the Lease");
    let voters: Vec<_> = VOTERS.iter().map(|id| voter(*id)).collect();
    assert_eq!(base, None);
    assert_eq!(change, LeaseChange { epoch: 5, holder: Some(holder(1)), voters });
    let again = LeaseView { uid: "second life".into(), ..view(5, 0, Some(1), VOTERS) };
    bench.drain();
    bench.give(Input::LeaseWritten(call, Ok(WriteOutcome::Written(again))));
    assert_eq!(bench.role(), CANDIDATE, "the new epoch needs promises like any other");
    assert!(bench.effects.contains(&Effect::SteppedDown(4)));
    assert_eq!((asked_to_promise(&bench, 2), asked_to_promise(&bench, 3)), (Some(5), Some(5)));
    let granted = PromiseAnswer { epoch: 5, granted: true, promised: promise(5, 1), position: at(4, 1) };
    bench.hear(2, 0, MessageBody::Promised(granted)).fetch(2, promise(5, 1), at(5, 2));
    assert_eq!(bench.role(), LEADS);
    assert!(!bench.member.status().lease_is_fallen);
}

#[test]
fn rule_10_a_live_controller_writes_over_a_lease_that_was_rolled_back() {
    let mut bench = leading();
    let old = LeaseView { version: "restored".into(), ..view(2, 3, Some(3), VOTERS) };
    bench.pass(QuorumSettings::default().lease_poll_ms);
    let (call, ..) = bench.last_write().expect("a renewal");
    bench.lease_is(Some(&old)).give(Input::LeaseWritten(call, Ok(WriteOutcome::Refused)));
    bench.lease_is(Some(&old)).pass(QuorumSettings::default().renew_interval_ms);
    let (_, base, change) = bench.last_write().expect("it repairs the Lease");
    assert_eq!(base, Some(old));
    assert_eq!((change.epoch, change.holder), (5, Some(holder(1))));
    assert_eq!(bench.role(), LEADS, "until that is written it goes on");
}

#[test]
fn rule_10_without_a_controller_all_members_are_asked_and_the_highest_takes() {
    let old = LeaseView { version: "restored".into(), ..view(2, 3, None, VOTERS) };
    for found in [None, Some(&old)] {
        let mut bench = abandoned(found);
        answer(&mut bench, 2, at(2, 2), &voter_sets(3, 5, VOTERS), None);
        bench.pass(4_000);
        assert_eq!((asked_to_promise(&bench, 2), bench.last_write()), (None, None), "3 has not answered");
        // 3 knows of a newer set, with a member more.
        answer(&mut bench, 3, at(3, 2), &voter_sets(3, 8, &[1, 2, 3, 4]), None);
        bench.pass(300);
        assert_eq!((asked_to_promise(&bench, 2), bench.last_write()), (None, None), "4 has not answered");
        answer(&mut bench, 4, at(1, 1), &VoterSets::default(), None);
        for broker in 2..=4 {
            assert_eq!(asked_to_promise(&bench, broker), Some(4));
        }
        assert_eq!(bench.role(), CANDIDATE);
        bench.grant(2, at(2, 2)).grant(3, at(3, 2)).pass(300);
        assert_eq!(bench.last_write(), None, "all of them have to promise");
        bench.grant(4, at(1, 1));
        let (_, base, change) = bench.last_write().expect("it takes the Lease last");
        assert_eq!(base.as_ref(), found);
        let voters = [1, 2, 3, 4].map(voter).to_vec();
        assert_eq!(change, LeaseChange { epoch: 4, holder: Some(holder(1)), voters });
        bench.land(9);
        assert_eq!(bench.role(), CONTROLLER);
        assert_eq!(bench.member.storage().position(), at(4, 4));
    }
}

#[test]
fn rule_10_a_lesser_log_waits_for_the_highest_and_then_catches_up_from_it() {
    let mut bench = abandoned(None);
    let sets = voter_sets(3, 5, VOTERS);
    answer(&mut bench, 2, at(3, 4), &sets, None);
    answer(&mut bench, 3, at(1, 1), &sets, None);
    let settings = QuorumSettings::default();
    bench.pass(settings.candidate_patience_ms - 1);
    assert_eq!((bench.role(), asked_to_promise(&bench, 2)), (FOLLOWER, None), "2 goes first");
    bench.pass(settings.back_off_ms + 1);
    assert_eq!((bench.role(), asked_to_promise(&bench, 2)), (CANDIDATE, Some(4)));
    bench.grant(3, at(1, 1)).grant(2, at(3, 4)).pass(10);
    assert_eq!(bench.last_write(), None, "not with less than 2 has");
    let Some((request, MessageBody::Fetch(fetch))) = bench.sent(2).pop() else { panic!("no fetch") };
    assert_eq!((fetch.purpose, fetch.position), (FetchPurpose::CatchUp, at(3, 3)));
    let outcome = FetchOutcome::Batches(vec![TestStorage::batch(3, 3, 1)]);
    let answer = FetchAnswer { controller: promise(4, 1), commit_end: 0, outcome };
    bench.hear(2, request, MessageBody::Fetched(answer));
    assert_eq!(bench.last_write().expect("now").2.epoch, 4);
}

#[test]
fn rule_10_a_voter_with_an_older_set_has_no_say_and_of_equals_the_lowest_id_takes() {
    let mut bench = abandoned(None);
    // 2 is behind in its sets: that it names nobody else means nothing.
    answer(&mut bench, 2, at(3, 3), &voter_sets(1, 1, &[2]), None);
    assert_eq!(asked_to_promise(&bench, 2), None);
    answer(&mut bench, 3, at(3, 3), &voter_sets(3, 5, VOTERS), None);
    assert_eq!((asked_to_promise(&bench, 2), asked_to_promise(&bench, 3)), (Some(4), Some(4)));
}

#[test]
fn rule_10_voters_that_came_and_went_unseen_are_older_than_the_present_ones() {
    let storage = TestStorage::with(promise(3, 2), &[1]).knowing(voter_sets(3, 5, &[1]));
    let mut bench = Bench::new(2, storage);
    let stored = |bench: &Bench| bench.member.storage().voter_sets().newest.clone().expect("a set").stamp.sequence;
    bench.lease_is(Some(&view(3, 6, Some(2), &[1])));
    assert_eq!(stored(&bench), 5, "the next write: a renewal");
    bench.give(Input::LeaseSeen(view(3, 7, Some(2), &[1])));
    assert_eq!(stored(&bench), 5, "and another");
    bench.give(Input::LeaseSeen(view(3, 9, Some(2), &[1])));
    assert_eq!(stored(&bench), 9, "the eighth may have had other voters");
    // So a process that starts after a roll-back to it sees that.
    let mut bench = Bench::new(2, bench.member.storage().clone());
    bench.lease_is(Some(&view(3, 8, Some(2), &[1, 2])));
    assert!(bench.member.status().lease_is_fallen);
}

#[test]
fn rule_10_the_answer_of_one_that_hears_a_controller_ends_the_questions() {
    let mut bench = abandoned(None);
    let sets = voter_sets(3, 5, VOTERS);
    answer(&mut bench, 2, at(1, 1), &sets, None);
    answer(&mut bench, 3, at(1, 1), &sets, Some(&promise(3, 2)));
    bench.pass(QuorumSettings::default().retry_ms);
    assert_eq!((bench.role(), asked_to_promise(&bench, 2), bench.last_write()), (FOLLOWER, None, None));
}

#[test]
fn rule_10_the_override_takes_without_those_that_are_gone_and_says_so() {
    let mut bench = abandoned(None);
    answer(&mut bench, 2, at(2, 2), &voter_sets(3, 5, VOTERS), None);
    bench.pass(300);
    assert_eq!(asked_to_promise(&bench, 2), None);
    bench.give(Input::RecoverWithout([voter(3)].into()));
    assert_eq!((asked_to_promise(&bench, 2), asked_to_promise(&bench, 3)), (Some(4), None));
    bench.grant(2, at(2, 2));
    assert_eq!(bench.last_write().expect("it takes").2.voters, [voter(1), voter(2)]);
    bench.land(9);
    bench.acknowledge(2, at(4, 4));
    let recovered_without = [voter(3)].into();
    assert_eq!(bench.member.storage().recovered_without, recovered_without, "the epoch record says so");
    assert!(bench.effects.contains(&Effect::Leading { epoch: 4, recovered_without }));
}

#[test]
fn rule_10_who_takes_over_after_an_override_that_was_cut_short_says_so_too() {
    // Another took the Lease without voter 3, and ended before anybody had its epoch record.
    let taken = |voters: &[i32], gone: &[i32]| {
        let mut bench = Bench::new(3, TestStorage::default());
        bench.give(Input::RecoverWithout(gone.iter().map(|id| voter(*id)).collect()));
        bench.lease_is(Some(&view(3, 5, None, voters)));
        bench.pass(600);
        bench.lease_is(Some(&view(3, 5, None, voters)));
        bench.land(6);
        bench.grant(2, at(0, 0));
        assert_eq!(bench.role(), CONTROLLER);
        bench.member.storage().recovered_without.clone()
    };
    assert_eq!(taken(&[1, 2], &[3]), [voter(3)].into());
    assert_eq!(taken(&[1, 2], &[]), VoterSet::new());
    assert_eq!(taken(&[1, 2, 3], &[3]), VoterSet::new(), "nobody has recovered without it");
}

#[test]
fn rule_8_a_controller_below_the_epoch_that_a_follower_heard_of_is_told_and_raises_its_own() {
    // The follower saw a Lease that a stranger took and that was rolled back afterwards.
    let mut follower = Bench::new(1, TestStorage::with(promise(3, 2), &[1]));
    follower.lease_is(Some(&view(5, 1, Some(99), VOTERS)));
    follower.drain();
    follower.hear(2, 7, MessageBody::Announce(4));
    let told = follower.sent(2).into_iter().find_map(|(request, body)| match body {
        MessageBody::Fetched(answer) => Some((request, answer)),
        _ => None,
    });
    let (request, answer) = told.expect("the controller is told");
    assert_eq!((request, answer.controller.epoch), (7, 5));
    // The controller has started since, and never saw that Lease.
    let mut bench = leading();
    bench.hear(3, 7, MessageBody::Fetched(answer));
    assert_eq!(bench.role(), FOLLOWER);
    assert!(bench.effects.contains(&Effect::SteppedDown(4)));
    bench.pass(QuorumSettings::default().lease_poll_ms);
    bench.lease_is(Some(&view(4, 0, Some(1), VOTERS)));
    assert!(bench.member.status().lease_is_fallen, "it is older than the epoch that was heard of");
}
