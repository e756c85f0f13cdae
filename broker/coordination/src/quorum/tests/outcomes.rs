// SPDX-License-Identifier: Apache-2.0
//! Changes of voters and what becomes of them (rules 6 and 7).

use super::*;

/// A controller of epoch 4 with the voters 1 and 2; 2 has acknowledged all, and 3 too, though no voter yet.
fn leading() -> Bench {
    let mut bench = Bench::take(3, &[1, 2], TestStorage::default());
    bench.acknowledge(2, at(4, 1)).acknowledge(3, at(4, 1));
    assert_eq!(bench.role(), LEADS);
    bench
}

fn append(bench: &mut Bench) -> i64 {
    let now = bench.now;
    let (end, effects) = bench.member.append(now, &[7][..]).expect("it leads");
    bench.effects.extend(effects);
    end
}

fn commit_end(bench: &Bench) -> i64 {
    bench.member.status().commit_end
}

fn pending(bench: &Bench) -> usize {
    bench.member.storage().voter_sets().pending.len()
}

/// The change of voters that is under way.
fn change_under_way(bench: &mut Bench) -> LeaseCall {
    bench.pass(QuorumSettings::default().retry_ms);
    let (call, base, change) = bench.last_write().expect("a change");
    assert_eq!(base.map(|base| base.sequence), Some(6));
    assert_eq!((change.epoch, change.holder), (4, Some(holder(1))));
    assert_eq!(change.voters, [1, 2, 3].map(voter));
    let stored = &bench.member.storage().voter_sets().pending;
    assert_eq!(stored.len(), 1, "it is stored before it is sent");
    assert_eq!(stored[0].stamp, LeaseStamp { uid: "life".into(), epoch: 4, sequence: 6 });
    call
}

#[test]
fn rule_6_a_voter_is_added_only_once_it_is_caught_up() {
    let mut bench = Bench::take(2, &[1], TestStorage::with(promise(3, 2), &[1, 2]));
    assert_eq!(bench.role(), LEADS);
    bench.acknowledge(2, at(2, 2)).pass(1_000);
    assert_eq!(bench.last_write(), None, "the epoch record is missing there");
    bench.acknowledge(2, at(4, 3)).pass(300);
    assert_eq!(bench.last_write().expect("a change").2.voters, [1, 2].map(voter));
}

#[test]
fn rule_6_until_the_outcome_is_known_both_sets_have_to_agree() {
    let mut bench = leading();
    let call = change_under_way(&mut bench);
    let end = append(&mut bench);
    bench.acknowledge(3, at(4, end));
    assert_eq!(commit_end(&bench), end - 1, "two of the new three, but of the old two only one");
    bench.acknowledge(2, at(4, end));
    assert_eq!(commit_end(&bench), end);
    // The outcome is there: the new set alone decides.
    bench.drain();
    bench.give(Input::LeaseWritten(call, Ok(WriteOutcome::Written(view(4, 7, Some(1), &[1, 2, 3])))));
    assert_eq!(pending(&bench), 0);
    let end = append(&mut bench);
    bench.acknowledge(3, at(4, end));
    assert_eq!(commit_end(&bench), end);
}

#[test]
fn rule_7_a_view_of_the_same_sequence_decides_nothing_and_a_renewal_settles_it() {
    for outcome in [Ok(WriteOutcome::Unknown("late".into())), Ok(WriteOutcome::Refused), Err("lost".into())] {
        let mut bench = leading();
        let call = change_under_way(&mut bench);
        bench.drain();
        bench.give(Input::LeaseWritten(call, outcome));
        let same = view(4, 6, Some(1), &[1, 2]);
        bench.give(Input::LeaseSeen(same.clone()));
        assert_eq!((pending(&bench), bench.last_write()), (1, None));
        bench.pass(QuorumSettings::default().retry_ms).lease_is(Some(&same));
        assert_eq!(pending(&bench), 1, "it may still land");
        let (_, base, change) = bench.last_write().expect("a renewal at once");
        assert_eq!((base, &change.voters), (Some(same), &[1, 2].map(voter).to_vec()));
        let end = append(&mut bench);
        bench.acknowledge(3, at(4, end));
        assert_eq!(commit_end(&bench), end - 1, "still both sets");
        bench.land(7);
        let bases: Vec<_> = bench.member.storage().voter_sets().pending.iter().map(|set| set.stamp.sequence).collect();
        assert_eq!(bases, [7], "nothing based on sequence 6 can land any more, and the change is tried again");
        assert_eq!((commit_end(&bench), bench.member.status().voters.len()), (end - 1, 2));
        bench.acknowledge(2, at(4, end));
        assert_eq!(commit_end(&bench), end);
    }
}

#[test]
fn rule_7_a_change_that_landed_unseen_shows_in_the_next_view() {
    for by_watch in [true, false] {
        let mut bench = leading();
        let call = change_under_way(&mut bench);
        let end = append(&mut bench);
        bench.acknowledge(3, at(4, end));
        bench.drain();
        bench.give(Input::LeaseWritten(call, Ok(WriteOutcome::Unknown("late".into()))));
        let landed = view(4, 7, Some(1), &[1, 2, 3]);
        if by_watch {
            bench.give(Input::LeaseSeen(landed));
        } else {
            bench.pass(QuorumSettings::default().retry_ms).lease_is(Some(&landed));
        }
        assert_eq!((pending(&bench), bench.member.status().voters.len()), (0, 3));
        assert_eq!(commit_end(&bench), end, "what waited for the old set is committed by the new one");
    }
}

#[test]
fn rule_7_the_renewal_too_may_have_no_outcome() {
    let mut bench = leading();
    let call = change_under_way(&mut bench);
    bench.drain();
    bench.give(Input::LeaseWritten(call, Ok(WriteOutcome::Unknown("late".into()))));
    for _ in 0..5 {
        bench.pass(2 * QuorumSettings::default().retry_ms).lease_is(Some(&view(4, 6, Some(1), &[1, 2])));
        let (call, ..) = bench.last_write().expect("a renewal");
        bench.drain();
        bench.give(Input::LeaseWritten(call, Ok(WriteOutcome::Unknown("late".into()))));
        assert_eq!(pending(&bench), 1);
    }
    assert_eq!(bench.role(), LEADS);
}

#[test]
fn reads_that_fail_come_less_often_while_a_controller_is_heard() {
    let mut bench = leading();
    let mut asked_at = Vec::new();
    let begun = bench.now;
    // Reads begin with the poll, or with a renewal whose outcome is unknown.
    while bench.now < begun + 30_000 {
        bench.pass(50);
        bench.acknowledge(2, at(4, 1)).acknowledge(3, at(4, 1));
        for effect in bench.drain() {
            match effect {
                Effect::ReadLease(call) => {
                    asked_at.push(bench.now);
                    bench.give(Input::LeaseRead(call, Err("away".into())));
                }
                Effect::WriteLease { call, .. } => {
                    bench.give(Input::LeaseWritten(call, Ok(WriteOutcome::Unknown("away".into()))));
                }
                _ => {}
            }
        }
    }
    assert_eq!(bench.role(), LEADS);
    let pauses: Vec<u64> = asked_at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.is_sorted() && pauses[0] <= 300, "{pauses:?}");
    assert!(pauses.last().is_some_and(|last| (1_900..=2_100).contains(last)), "{pauses:?}");
    assert!(pauses.len() < 20, "{pauses:?}");
}
