// SPDX-License-Identifier: Apache-2.0
//! The controller as it is driven: what is appended, what is answered, and when.

use uuid::Uuid;

use super::super::scenarios::{Cluster, check, start_of};
use super::super::{
    AlterPartition, AlterReassignments, AlterSettings, ProposedPartition, ProposedReplica, Reassignment,
    RegisterBroker, ResourceChanges, SESSION_TIMEOUT_MS, SettingOperation, SettingsResource,
};
use super::*;
use crate::PartitionKey;

/// A controller whose appends are committed when the test says so.
struct Driven {
    controller: ActiveController,
    /// The image of what was appended: what the log's replay gives.
    replayed: Image,
    now: MonotonicMs,
    answered: Vec<Effect>,
    probes: Vec<Probe>,
}

impl Driven {
    fn new(cluster: &Cluster) -> Self {
        let (image, settings) = (cluster.image.clone(), cluster.settings.clone());
        let committed = image.end_offset();
        let controller = ActiveController::new(5, image.clone(), committed, settings, SESSION_TIMEOUT_MS, 0);
        Self { controller, replayed: image, now: 0, answered: vec![], probes: vec![] }
    }

    fn handle(&mut self, event: Event) {
        for effect in self.controller.handle(event, self.now, 0) {
            match effect {
                Effect::Append(records) => {
                    assert!(!records.is_empty());
                    for record in &records {
                        self.replayed.apply_mut(5, record).expect("fits");
                    }
                }
                Effect::Probe(probe) => self.probes.push(probe),
                answer => self.answered.push(answer),
            }
        }
        check(&self.replayed).expect("sound");
        assert_eq!(self.replayed.to_records(), self.controller.image().to_records());
    }

    fn commit(&mut self) {
        self.handle(Event::Committed(self.replayed.end_offset()));
    }

    fn tick(&mut self, now: MonotonicMs) {
        self.now = now;
        self.handle(Event::Tick { placement_seed: 1 });
    }

    fn heartbeat(&self, id: i32) -> Heartbeat {
        Heartbeat {
            broker_id: BrokerId(id),
            broker_epoch: self.replayed.broker(BrokerId(id)).expect("registered").epoch,
            metadata_end: self.replayed.end_offset(),
            wants_fence: false,
            wants_shutdown: false,
        }
    }

    /// Each active broker says that it is alive.
    fn heartbeat_all(&mut self) {
        for id in
            self.replayed.brokers().filter(|broker| broker.is_active()).map(|broker| broker.id.0).collect::<Vec<_>>()
        {
            self.handle(Event::Heartbeat(99, self.heartbeat(id)));
        }
    }

    fn active(&self, id: i32) -> bool {
        self.replayed.broker(BrokerId(id)).is_some_and(|broker| broker.is_active())
    }
}

#[test]
fn answers_wait_for_the_commit_of_all_that_was_read() {
    let mut driven = Driven::new(&Cluster::of(2));
    driven.handle(Event::Command(1, Command::RegisterBroker(start_of(3))));
    assert_eq!(driven.answered, []);
    // An error that was decided on the uncommitted registration waits for it.
    let thief = RegisterBroker { directory_id: start_of(3).directory_id, ..start_of(4) };
    driven.handle(Event::Command(2, Command::RegisterBroker(thief)));
    assert_eq!(driven.answered, []);
    driven.commit();
    assert!(matches!(&driven.answered[0], Effect::Reply(1, Reply::RegisterBroker(Ok(_)))));
    assert!(matches!(&driven.answered[1], Effect::Reply(2, Reply::RegisterBroker(Err(_)))));
    // With nothing uncommitted the answer comes at once.
    driven.handle(Event::Command(3, Command::BalanceLeaders));
    assert!(matches!(driven.answered[2], Effect::Reply(3, Reply::Progress(Progress::Complete))));
}

#[test]
fn a_broker_joins_leads_is_lost_and_comes_back() {
    let mut cluster = Cluster::of(2);
    cluster.topic("t", &[&[1, 2]], &[]);
    let mut driven = Driven::new(&cluster);
    driven.handle(Event::ConnectionLost(BrokerId(1)));
    let probe = driven.probes.pop().expect("a probe");
    driven.now = 30;
    driven.handle(Event::ProbeFinished { probe, answered: false });
    assert!(!driven.active(1));
    assert_eq!(driven.replayed.leadership_count(BrokerId(2)), 1);
    // Its next process registers at once and is unfenced by its first heartbeat.
    let next = RegisterBroker { incarnation: Uuid::from_u128(9), ..start_of(1) };
    driven.handle(Event::Command(1, Command::RegisterBroker(next)));
    driven.handle(Event::Heartbeat(2, driven.heartbeat(1)));
    assert!(driven.active(1));
    driven.commit();
    let fenced = HeartbeatReply { caught_up: true, fenced: false, may_stop: false };
    assert_eq!(driven.answered[1], Effect::HeartbeatReply(2, Ok(fenced)));
}

#[test]
fn another_process_of_a_live_broker_is_refused_until_it_is_replaced() {
    let mut driven = Driven::new(&Cluster::of(2));
    let another = Command::RegisterBroker(RegisterBroker { incarnation: Uuid::from_u128(9), ..start_of(1) });
    driven.handle(Event::Command(1, another.clone()));
    let refused = Err(RegisterBrokerError::LiveSession(BrokerId(1)));
    assert_eq!(driven.answered, [Effect::Reply(1, Reply::RegisterBroker(refused))]);
    driven.handle(Event::BrokerReplaced(BrokerId(1)));
    assert!(!driven.active(1), "fenced at once");
    driven.handle(Event::Command(2, another));
    driven.commit();
    assert!(matches!(driven.answered[1], Effect::Reply(2, Reply::RegisterBroker(Ok(_)))));
}

#[test]
fn sessions_expire_at_the_next_tick() {
    let mut cluster = Cluster::of(3);
    cluster.topic("t", &[&[1, 2, 3]], &[]);
    let mut driven = Driven::new(&cluster);
    assert_eq!(driven.controller.next_tick(), AFTER_JOIN_MS);
    driven.tick(AFTER_JOIN_MS);
    driven.handle(Event::Heartbeat(1, driven.heartbeat(3)));
    assert_eq!(driven.controller.next_tick(), SESSION_TIMEOUT_MS + 1);
    driven.tick(SESSION_TIMEOUT_MS + 1);
    assert_eq!((driven.active(1), driven.active(2), driven.active(3)), (false, false, true));
    assert_eq!(driven.replayed.leadership_count(BrokerId(3)), 1);
}

#[test]
fn a_paused_controller_fences_nobody_when_it_wakes() {
    let mut driven = Driven::new(&Cluster::of(3));
    driven.tick(60_000);
    assert!(driven.active(1) && driven.active(2) && driven.active(3));
    driven.handle(Event::Heartbeat(1, driven.heartbeat(3)));
    let next = driven.controller.next_tick();
    assert!(next <= 60_000 + SESSION_TIMEOUT_MS, "the sessions go on: {next}");
    driven.tick(next);
    assert!(!driven.active(1) && !driven.active(2) && driven.active(3));
}

#[test]
fn preferred_leaders_and_internal_topics_are_looked_after() {
    let mut cluster = Cluster::of(3);
    cluster.topic("t", &[&[1, 2]], &[]);
    cluster.topic(odradek_model::OFFSETS_TOPIC, &[&[2]], &[]);
    cluster.set(1, BrokerState::Fenced);
    cluster.set(1, BrokerState::Unfenced);
    cluster.propose("t", &[2, 1]).expect("taken");
    let mut driven = Driven::new(&cluster);
    driven.tick(AFTER_JOIN_MS);
    assert_eq!(driven.replayed.leadership_count(BrokerId(1)), 1);
    assert_eq!(driven.replayed.reassigning_partitions().count(), 1);
    assert!(driven.controller.look_after_at >= LOOK_AFTER_INTERVAL_MS);
}

#[test]
fn settings_let_leaderless_partitions_elect_and_move_no_leader() {
    let mut cluster = Cluster::of(3);
    cluster.topic("placed", &[&[2, 3]], &[]);
    cluster.topic("behind", &[&[1, 2]], &[]);
    cluster.propose("behind", &[1]).expect("taken");
    cluster.set(1, BrokerState::Fenced);
    let (placed, behind) = (cluster.key("placed", 0), cluster.key("behind", 0));
    let mut driven = Driven::new(&cluster);
    driven.tick(AFTER_JOIN_MS);
    // An administrator prefers 3 to lead, and has 2 lead until that is asked for.
    let reassignment = Reassignment { topic: "placed".into(), partition: 0, replicas: Some(vec![3, 2]) };
    let command = AlterReassignments { reassignments: vec![reassignment], allow_replication_factor_change: false };
    driven.handle(Event::Command(1, Command::AlterReassignments(command)));
    let leader = |driven: &Driven, key| driven.replayed.partition(key).expect("there").leader;
    let look_after_at = driven.controller.look_after_at;
    let change = |name: &str, value: &str| {
        let changes = vec![(name.to_owned(), SettingOperation::Set(Some(value.to_owned())))];
        let resources = vec![ResourceChanges { resource: SettingsResource::Topic("behind".into()), changes }];
        Event::Command(2, Command::AlterSettings(AlterSettings { resources, validate_only: false }))
    };

    driven.heartbeat_all();
    driven.handle(change("retention.ms", "1000"));
    assert_eq!(driven.controller.next_tick(), driven.now + AFTER_SETTINGS_MS);
    driven.tick(driven.now + AFTER_SETTINGS_MS);
    assert_eq!((leader(&driven, placed), leader(&driven, behind)), (Some(BrokerId(2)), None));

    driven.heartbeat_all();
    driven.handle(change("unclean.leader.election.enable", "true"));
    driven.tick(driven.now + AFTER_SETTINGS_MS);
    assert_eq!((leader(&driven, placed), leader(&driven, behind)), (Some(BrokerId(2)), Some(BrokerId(2))));
    assert_eq!(driven.controller.elect_leaderless_at, None);
    assert_eq!(driven.controller.look_after_at, look_after_at, "the other duties keep their time");
}

#[test]
fn proposals_for_another_controller_and_late_copies_are_refused() {
    let mut cluster = Cluster::of(2);
    let topic = cluster.topic("t", &[&[1, 2]], &[]);
    let mut driven = Driven::new(&cluster);
    let proposal = |controller_epoch, sequence| {
        let proposed = ProposedPartition {
            key: PartitionKey { topic, partition: 0 },
            leader_epoch: 0,
            partition_epoch: 0,
            isr: vec![ProposedReplica { broker_id: BrokerId(1), broker_epoch: None }],
            recovering: false,
        };
        Command::AlterPartition(AlterPartition {
            broker_id: BrokerId(1),
            broker_epoch: cluster.epoch(1),
            controller_epoch,
            sequence,
            partitions: vec![proposed],
        })
    };
    driven.handle(Event::Command(1, proposal(4, 7)));
    driven.handle(Event::Command(2, proposal(5, 7)));
    driven.handle(Event::Command(3, proposal(5, 6)));
    driven.commit();
    let late = |sequence| Reply::AlterPartition(Err(AlterPartitionRefusal::Late(sequence)));
    assert_eq!(driven.answered[0], Effect::Reply(1, late(7)));
    assert!(matches!(&driven.answered[1], Effect::Reply(2, Reply::AlterPartition(Ok(reply))) if reply[0].1.is_ok()));
    assert_eq!(driven.answered[2], Effect::Reply(3, late(7)));
}

#[test]
fn too_many_waiting_answers_refuse_more_but_keep_brokers_alive() {
    let mut driven = Driven::new(&Cluster::of(2));
    driven.handle(Event::Command(0, Command::RegisterBroker(start_of(3))));
    for ticket in 1..MAX_WAITING as u64 {
        driven.handle(Event::Command(ticket, Command::BalanceLeaders));
    }
    assert_eq!(driven.answered, []);
    driven.now = 5000;
    driven.handle(Event::Command(7, Command::BalanceLeaders));
    driven.handle(Event::Heartbeat(8, driven.heartbeat(1)));
    assert_eq!(driven.answered, [Effect::Busy(7), Effect::Busy(8)]);
    driven.tick(5500);
    driven.tick(SESSION_TIMEOUT_MS + 1);
    assert!(driven.active(1) && !driven.active(2));
    driven.commit();
    assert_eq!(driven.answered.len(), 2 + MAX_WAITING);
}

#[test]
#[should_panic(expected = "nothing is committed that was not appended")]
fn a_commit_point_above_the_log_is_a_mistake_of_the_caller() {
    let mut driven = Driven::new(&Cluster::of(1));
    let beyond = driven.replayed.end_offset() + 1;
    driven.handle(Event::Committed(beyond));
}
