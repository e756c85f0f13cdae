// SPDX-License-Identifier: Apache-2.0
//! A voter whose data folder was emptied: its broker is another voter from then on (rule 9), and the old one is not
//! waited for.

use super::*;

/// The folder in place of broker 3's.
const EMPTIED: Voter = Voter { broker_id: BrokerId(3), directory_id: DirectoryId(Uuid::from_u128(99)) };

/// Broker 1 leads with the voters 1 to 3; broker 3 was heard in this epoch, or not.
fn leading(third_is_heard: bool) -> Bench {
    let mut bench = Bench::take(3, &[1, 2, 3], TestStorage::with(promise(3, 2), &[1, 2, 2]));
    bench.grant(2, at(2, 2)).acknowledge(2, at(4, 4));
    if third_is_heard {
        bench.acknowledge(3, at(4, 4));
    }
    assert_eq!(bench.role(), LEADS);
    bench.drain();
    bench
}

fn registered(third: Voter) -> Input {
    let known = |voter: Voter| KnownBroker {
        broker_id: voter.broker_id,
        rack: None,
        registered_folder: Some(voter.directory_id),
    };
    Input::Brokers([voter(1), voter(2), third].map(known).into())
}

fn emptied_fetches(bench: &mut Bench) {
    let accepted = promise(4, 1);
    let fetch = FetchRequest { purpose: FetchPurpose::Follow, accepted, position: at(4, 4), commit_end: 0 };
    let (sender, directory_id) = (holder(3), EMPTIED.directory_id);
    bench.give(Input::Received(Message { sender, directory_id, request: 1, body: MessageBody::Fetch(fetch) }));
}

#[test]
fn it_is_replaced_at_once_when_its_broker_has_registered_with_another_folder() {
    for third_is_heard in [true, false] {
        let mut bench = leading(third_is_heard);
        bench.give(registered(voter(3))).pass(300);
        emptied_fetches(&mut bench);
        bench.pass(300);
        assert_eq!(bench.last_write(), None, "a folder that is not registered replaces none yet");
        bench.give(registered(EMPTIED)).pass(300);
        assert_eq!(bench.last_write().expect("a change").2.voters, [voter(1), voter(2)], "one voter at a time");
        bench.land(7);
        bench.pass(300);
        assert_eq!(bench.last_write().expect("a change").2.voters, [voter(1), voter(2), EMPTIED]);
    }
}

#[test]
fn rule_6_it_stays_until_the_others_hold_everything() {
    let mut bench = leading(true);
    let now = bench.now;
    let (_, effects) = bench.member.append(now, &[7][..]).expect("appends");
    bench.effects.extend(effects);
    bench.acknowledge(3, at(4, 5));
    assert_eq!(bench.member.status().commit_end, 5, "by 1 and 3");
    bench.pass(300);
    emptied_fetches(&mut bench);
    bench.give(registered(EMPTIED)).pass(300);
    assert_eq!(bench.last_write(), None, "2 does not hold what is committed");
    bench.acknowledge(2, at(4, 5)).pass(300);
    assert_eq!(bench.last_write().expect("a change").2.voters, [voter(1), voter(2)]);
}

#[test]
fn a_registration_from_before_its_new_folder_replaces_nobody() {
    let mut bench = leading(false);
    emptied_fetches(&mut bench);
    bench.pass(300).give(registered(EMPTIED)).acknowledge(3, at(4, 4)).pass(300);
    assert_eq!(bench.last_write(), None, "the voter's folder is the one that is heard now");
}
