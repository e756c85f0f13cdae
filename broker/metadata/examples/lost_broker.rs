// SPDX-License-Identifier: Apache-2.0
//! What the controller's decisions cost in a large cluster: 100,000 partitions of three replicas over 30 brokers, one of
//! which is lost and comes back. Run with `cargo run --release -p odradek-metadata --example lost_broker`.
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a measurement: it reads the clock and prints")]

use std::time::Instant;

use odradek_metadata::{
    ActiveController, AlterPartition, BrokerState, ChangeBrokerState, Command, ControllerSettings, CreateTopics,
    Decision, Endpoint, Event, Heartbeat, Image, NewTopic, PartitionKey, ProposedPartition, ProposedReplica, Record,
    RegisterBroker, SESSION_TIMEOUT_MS, UpdateFeatureLevel, bootstrap, decide, may_stop,
};
use odradek_model::{BrokerId, ClusterId, DirectoryId, TopicId};
use uuid::Uuid;

const BROKERS: i32 = 30;
const PARTITIONS: i32 = 100_000;
const TOPICS: [i32; 2] = [1000, 10];

fn main() {
    for topics in TOPICS {
        measure(topics, PARTITIONS / topics);
    }
}

fn measure(topics: i32, partitions: i32) {
    println!("\n{topics} topics of {partitions} partitions, 3 replicas, {BROKERS} brokers");
    let settings = ControllerSettings::default();
    let mut image = Image::empty();
    let cluster_id = ClusterId::new("measured").expect("an id");
    for record in bootstrap(&image, &cluster_id) {
        image.apply_mut(1, &record).expect("fits");
    }
    let mut run = |command: Command| -> (Decision<_>, f64, f64) {
        let began = Instant::now();
        let decision = decide(&image, &settings, &command, 0);
        let decided = began.elapsed().as_secs_f64();
        let before = image.clone();
        let began = Instant::now();
        for record in &decision.records {
            image.apply_mut(1, record).expect("fits");
        }
        let applied = began.elapsed().as_secs_f64();
        drop(before);
        (decision, decided, applied)
    };
    run(Command::UpdateFeatureLevel(UpdateFeatureLevel { level: 2, validate_only: false }));
    for id in 0..BROKERS {
        run(Command::RegisterBroker(registration(id, &cluster_id)));
        // The epoch is the offset of the registration: after the two first records, and one more for each broker.
        run(Command::ChangeBrokerState(state(id, i64::from(3 + 2 * id), BrokerState::Unfenced)));
    }
    let (mut decided, mut applied) = (0.0, 0.0);
    for number in 0..topics {
        let (_, decide_time, apply_time) = run(Command::CreateTopics(create(number, partitions)));
        decided += decide_time;
        applied += apply_time;
    }
    println!("create all: decide {decided:.3} s, apply {applied:.3} s");

    let (decision, decided, applied) = run(Command::ChangeBrokerState(state(7, 3 + 2 * 7, BrokerState::Fenced)));
    let moved = decision.records.len() - 1;
    println!(
        "one broker lost: {moved} partitions changed; decide {decided:.4} s, apply {applied:.4} s, {} kB of records",
        bytes_of(&decision.records) / 1000
    );
    let (_, decided, applied) = run(Command::ChangeBrokerState(state(7, 3 + 2 * 7, BrokerState::Unfenced)));
    println!("it comes back: decide {decided:.6} s, apply {applied:.6} s");
    let (decision, decided, applied) = run(Command::BalanceLeaders);
    println!("balance: {} elections, decide {decided:.6} s, apply {applied:.6} s", decision.records.len());

    let began = Instant::now();
    let verdict = may_stop(&image, &settings.topic_defaults, BrokerId(8), 10);
    println!("may broker 8 stop: {} against it, {:.6} s", verdict.blocking(), began.elapsed().as_secs_f64());

    let began = Instant::now();
    let records = image.to_records();
    println!(
        "snapshot: {} records, {} kB, {:.3} s",
        records.len(),
        bytes_of(&records) / 1000,
        began.elapsed().as_secs_f64()
    );
    let began = Instant::now();
    let loaded = Image::from_records(&records, image.end_offset(), 1, 0).expect("loads");
    println!("load it: {:.3} s", began.elapsed().as_secs_f64());
    drive(loaded, settings);
}

/// The active controller: a heartbeat, and an ISR change of a leader with all its partitions.
fn drive(image: Image, settings: ControllerSettings) {
    let committed = image.end_offset();
    let epoch = image.broker(BrokerId(9)).expect("there").epoch;
    let partitions: Vec<ProposedPartition> = image
        .partitions_on(BrokerId(9))
        .filter(|(_, _, partition)| partition.leader == Some(BrokerId(9)))
        .map(|(key, _, partition)| proposal(key, partition.leader_epoch, partition.partition_epoch))
        .collect();
    let count = partitions.len();
    let mut controller = ActiveController::new(1, image, committed, settings, SESSION_TIMEOUT_MS, 0);
    let heartbeat = Heartbeat {
        broker_id: BrokerId(9),
        broker_epoch: epoch,
        metadata_end: committed,
        wants_fence: false,
        wants_shutdown: false,
    };
    let began = Instant::now();
    for ticket in 0..1000 {
        controller.handle(Event::Heartbeat(ticket, heartbeat.clone()), 1, 0);
    }
    println!("heartbeat: {:.2} us each", began.elapsed().as_secs_f64() * 1000.0);
    let command =
        AlterPartition { broker_id: BrokerId(9), broker_epoch: epoch, controller_epoch: 1, sequence: 1, partitions };
    let began = Instant::now();
    controller.handle(Event::Command(0, Command::AlterPartition(command)), 1, 0);
    println!("ISR changes of one leader: {count} in {:.4} s", began.elapsed().as_secs_f64());
}

fn proposal(key: PartitionKey, leader_epoch: i32, partition_epoch: i32) -> ProposedPartition {
    let isr = vec![ProposedReplica { broker_id: BrokerId(9), broker_epoch: None }];
    ProposedPartition { key, leader_epoch, partition_epoch, isr, recovering: false }
}

fn bytes_of(records: &[Record]) -> usize {
    records.iter().map(Record::encoded_len).sum()
}

fn state(id: i32, broker_epoch: i64, state: BrokerState) -> ChangeBrokerState {
    ChangeBrokerState { broker_id: BrokerId(id), broker_epoch, state }
}

fn create(number: i32, partitions: i32) -> CreateTopics {
    let topic = NewTopic {
        name: format!("topic-{number}"),
        id: TopicId(Uuid::from_u128(number as u128 + 1)),
        partitions,
        replication_factor: 3,
        assignments: vec![],
        settings: vec![],
    };
    CreateTopics { topics: vec![topic], validate_only: false, placement_seed: number as u64 }
}

fn registration(id: i32, cluster_id: &ClusterId) -> RegisterBroker {
    RegisterBroker {
        broker_id: BrokerId(id),
        cluster_id: cluster_id.clone(),
        incarnation: Uuid::from_u128(id as u128),
        directory_id: DirectoryId(Uuid::from_u128(id as u128)),
        endpoints: vec![Endpoint { listener: "PLAIN".into(), host: "h".into(), port: 9092, security_protocol: 0 }],
        rack: Some(format!("rack-{}", id % 3)),
        boot_id: "boot".into(),
        clean_shutdown_of: None,
        damaged_logs: vec![],
        supported_feature_level: 2,
    }
}
