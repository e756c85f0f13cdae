// SPDX-License-Identifier: Apache-2.0
//! Who leads when brokers go and come back.

use super::*;

#[test]
fn a_fenced_leader_hands_over_and_comes_back_as_a_follower() {
    let mut cluster = Cluster::of(3);
    cluster.topic("t", &[&[1, 2, 3]], &[]);
    assert_eq!(cluster.show("t"), "1,2,3 | 1 @ 0.0 | 1,2,3 | ");
    cluster.set(1, BrokerState::Fenced);
    // min ISR is max(1, 3 - 1): two in sync are enough, so nobody is kept as eligible.
    assert_eq!(cluster.show("t"), "1,2,3 | 2 @ 1.1 | 2,3 | ");
    cluster.set(1, BrokerState::Unfenced);
    assert_eq!(cluster.show("t"), "1,2,3 | 2 @ 1.1 | 2,3 | ", "it must catch up first");
    assert_eq!(
        cluster.elect(ElectionKind::Preferred, "t"),
        Err(ElectLeadersError::PreferredLeaderNotAvailable(BrokerId(1)))
    );
    cluster.propose("t", &[2, 3, 1]).expect("taken");
    assert_eq!(cluster.show("t"), "1,2,3 | 2 @ 1.2 | 2,3,1 | ", "an ISR change keeps the leader epoch");
    assert_eq!(cluster.decide(&Command::BalanceLeaders), Reply::Progress(Progress::Complete));
    assert_eq!(cluster.show("t"), "1,2,3 | 1 @ 2.3 | 2,3,1 | ");
    assert_eq!(cluster.elect(ElectionKind::Preferred, "t"), Err(ElectLeadersError::NotNeeded));
}

#[test]
fn replicas_that_leave_under_min_isr_stay_eligible_until_it_is_reached_again() {
    let mut cluster = Cluster::of(3);
    cluster.topic("t", &[&[1, 2, 3]], &[]);
    cluster.set(2, BrokerState::Fenced);
    cluster.set(3, BrokerState::Fenced);
    assert_eq!(cluster.show("t"), "1,2,3 | 1 @ 0.2 | 1 | 3", "2 left while two were in sync, 3 left one alone");
    cluster.set(1, BrokerState::Fenced);
    assert_eq!(cluster.show("t"), "1,2,3 | none @ 1.3 |  | 1,3");
    cluster.set(2, BrokerState::Unfenced);
    assert_eq!(cluster.show("t"), "1,2,3 | none @ 1.3 |  | 1,3", "2 may lack what 1 and 3 committed");
    cluster.set(3, BrokerState::Unfenced);
    assert_eq!(cluster.show("t"), "1,2,3 | 3 @ 2.4 | 3 | 1");
    cluster.propose("t", &[3, 2]).expect("taken");
    assert_eq!(cluster.show("t"), "1,2,3 | 3 @ 2.5 | 3,2 | ", "two are in sync: 1 is not kept any more");
}

#[test]
fn with_min_isr_one_only_the_last_in_sync_is_eligible() {
    let mut cluster = Cluster::of(2);
    cluster.topic("t", &[&[1, 2]], &[]);
    cluster.set(1, BrokerState::Fenced);
    cluster.set(2, BrokerState::Fenced);
    assert_eq!(cluster.show("t"), "1,2 | none @ 2.2 |  | 2");
    cluster.set(1, BrokerState::Unfenced);
    assert_eq!(cluster.partition("t", 0).leader, None);
    cluster.set(2, BrokerState::Unfenced);
    assert_eq!(cluster.show("t"), "1,2 | 2 @ 3.3 | 2 | ");
}

#[test]
fn the_elr_is_emptied_when_one_of_it_leads_and_one_is_enough() {
    let mut cluster = Cluster::of(3);
    cluster.topic("t", &[&[1, 2, 3]], &[]);
    for id in [3, 2, 1] {
        cluster.set(id, BrokerState::Fenced);
    }
    assert_eq!(cluster.show("t"), "1,2,3 | none @ 1.3 |  | 1,2");
    cluster.alter("t", "min.insync.replicas", Some("1")).expect("altered");
    assert_eq!(cluster.show("t"), "1,2,3 | none @ 1.3 |  | 1,2", "without a leader nothing is committed by any number");
    cluster.set(2, BrokerState::Unfenced);
    // From now on 2 commits alone: 1 would lack it.
    assert_eq!(cluster.show("t"), "1,2,3 | 2 @ 2.4 | 2 | ");
}

#[test]
fn there_is_no_election_of_the_last_known_leader() {
    let mut cluster = Cluster::of(2);
    cluster.topic("t", &[&[1, 2]], &[]);
    cluster.set(2, BrokerState::Fenced);
    cluster.set(1, BrokerState::Fenced);
    // The machine of 1 lost its power.
    cluster.restart(1, |start| start.boot_id = "another".into());
    assert_eq!(cluster.show("t"), "1,2 | none @ 1.3 |  | ");
    cluster.set(1, BrokerState::Unfenced);
    cluster.set(2, BrokerState::Unfenced);
    assert_eq!(cluster.decide(&Command::ElectLeaderless), Reply::Progress(Progress::Complete));
    assert_eq!(cluster.partition("t", 0).leader, None, "both may lack what was acknowledged");
    assert_eq!(cluster.elect(ElectionKind::Unclean, "t"), Ok(()));
    assert_eq!(cluster.show("t"), "1,2 | 1 @ 2.4 | 1 |  | recovering");
    let early = ProposedPartition { recovering: true, ..cluster.proposal("t", &[1, 2]) };
    assert_eq!(cluster.propose_this(1, early), Err(AlterPartitionError::RecoveringNotAlone));
    cluster.propose("t", &[1]).expect("recovered");
    assert_eq!(cluster.show("t"), "1,2 | 1 @ 2.5 | 1 | ");
}

#[test]
fn unclean_elections_need_the_setting_or_a_request() {
    let mut cluster = Cluster::of(2);
    cluster.topic("allowed", &[&[1, 2]], &[("unclean.leader.election.enable", "true")]);
    cluster.topic("later", &[&[1, 2]], &[]);
    cluster.topic("asked", &[&[1, 2]], &[]);
    for name in ["allowed", "later", "asked"] {
        cluster.propose(name, &[1]).expect("taken");
    }
    cluster.set(1, BrokerState::Fenced);
    assert_eq!(cluster.show("allowed"), "1,2 | 2 @ 1.2 | 2 |  | recovering");
    assert_eq!(cluster.show("later"), "1,2 | none @ 1.2 |  | 1");
    cluster.alter("later", "unclean.leader.election.enable", Some("true")).expect("altered");
    assert_eq!(cluster.decide(&Command::ElectLeaderless), Reply::Progress(Progress::Complete));
    assert_eq!(cluster.show("later"), "1,2 | 2 @ 2.3 | 2 |  | recovering");
    assert_eq!(cluster.elect(ElectionKind::Unclean, "allowed"), Err(ElectLeadersError::NotNeeded));
    assert_eq!(
        cluster.elect(ElectionKind::Preferred, "asked"),
        Err(ElectLeadersError::PreferredLeaderNotAvailable(BrokerId(1)))
    );
    assert_eq!(cluster.elect(ElectionKind::Unclean, "asked"), Ok(()));
    assert_eq!(cluster.show("asked"), "1,2 | 2 @ 2.3 | 2 |  | recovering");
    cluster.set(2, BrokerState::Fenced);
    assert_eq!(cluster.show("asked"), "1,2 | none @ 3.4 |  | 2 | recovering");
    assert_eq!(cluster.elect(ElectionKind::Unclean, "asked"), Err(ElectLeadersError::EligibleLeadersNotAvailable));
    assert_eq!(cluster.elect(ElectionKind::Unclean, "none"), Err(ElectLeadersError::UnknownPartition));
}

#[test]
fn a_request_for_all_names_only_partitions_that_needed_it() {
    let mut cluster = Cluster::of(2);
    cluster.topic("t", &[&[1, 2], &[2, 1], &[1, 2]], &[]);
    cluster.set(1, BrokerState::Fenced);
    cluster.set(1, BrokerState::Unfenced);
    let command = ElectLeaders { kind: ElectionKind::Preferred, partitions: None };
    let unavailable = Err(ElectLeadersError::PreferredLeaderNotAvailable(BrokerId(1)));
    let expected = vec![(("t".to_owned(), 0), unavailable.clone()), (("t".to_owned(), 2), unavailable)];
    assert_eq!(cluster.decide(&Command::ElectLeaders(command)), Reply::ElectLeaders(expected));
}

#[test]
fn a_controlled_shutdown_leaves_leadership_and_isr_and_lasts_until_the_next_registration() {
    let mut cluster = Cluster::of(3);
    cluster.topic("t", &[&[1, 2, 3]], &[]);
    cluster.topic("alone", &[&[1]], &[]);
    cluster.set(1, BrokerState::ShuttingDown);
    assert_eq!(cluster.show("t"), "1,2,3 | 2 @ 1.1 | 2,3 | ");
    assert_eq!(cluster.show("alone"), "1 | none @ 1.1 |  | 1");
    assert_eq!(cluster.image.leadership_count(BrokerId(1)), 0);
    assert_eq!(cluster.propose("t", &[2, 3, 1]), Err(AlterPartitionError::IneligibleReplica(BrokerId(1))));
    cluster.set(1, BrokerState::Fenced);
    cluster.set(1, BrokerState::Unfenced);
    assert_eq!(cluster.show("alone"), "1 | none @ 1.1 |  | 1", "the same process is going to stop");
    let stopped = cluster.epoch(1);
    cluster.restart(1, |start| start.clean_shutdown_of = Some(stopped));
    cluster.set(1, BrokerState::Unfenced);
    assert_eq!(cluster.show("alone"), "1 | 1 @ 2.2 | 1 | ");
}

#[test]
fn commands_for_an_earlier_registration_do_nothing() {
    let mut cluster = Cluster::of(2);
    let (given, present) = (cluster.epoch(1) - 1, cluster.epoch(1));
    let command = |broker_epoch, broker_id| {
        Command::ChangeBrokerState(ChangeBrokerState {
            broker_id: BrokerId(broker_id),
            broker_epoch,
            state: BrokerState::Fenced,
        })
    };
    let end = cluster.image.end_offset();
    let stale = BrokerStateError::StaleBrokerEpoch { given, present };
    assert_eq!(cluster.decide(&command(given, 1)), Reply::BrokerState(Err(stale)));
    let unknown = BrokerStateError::UnknownBroker(BrokerId(9));
    assert_eq!(cluster.decide(&command(1, 9)), Reply::BrokerState(Err(unknown)));
    assert_eq!(cluster.image.end_offset(), end);
}
