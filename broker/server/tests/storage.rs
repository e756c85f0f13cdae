// SPDX-License-Identifier: Apache-2.0
//! A broker's replicas over a disk that dies, fails or takes its time: what counts after a kill, which failed sync ends
//! the broker, what a clean stop waits for, and what the checkpoints keep.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use odradek_disk::{BeginningCall, Disk, DiskError, DiskOperation, Fault, Outage, SimulatedDisk};
use odradek_groups::{OffsetCommit, OffsetFetch, PartitionCommit, Request, Response, TopicCommit, TopicFetch};
use odradek_log::{
    HIGH_WATERMARK_CHECKPOINT, LOG_START_CHECKPOINT, RECOVERY_POINT_CHECKPOINT, read_offset_checkpoint,
    write_offset_checkpoint,
};
use odradek_metadata::records::{PartitionRecord, RemoveTopicRecord, TopicRecord, TopicSettingRecord};
use odradek_metadata::{Image, PartitionKey, Record, apply};
use odradek_model::{BrokerId, ClusterId, Offset, TopicId, TopicName, TopicPartition};
use odradek_partition::{Acks, AppendError, Appended, ProduceOutcome};
use odradek_records::{BatchBuilder, BatchOptions};
use odradek_server::broker::{Broker, BrokerParts};
use odradek_server::clock::{Clock, Random};
use odradek_server::failure::Failure;
use odradek_server::folder::ReplicaFolder;
use odradek_server::metrics::Metrics;
use odradek_server::net::budget::Budget;
use odradek_server::peers::Peers;
use odradek_server::replica::Replica;
use odradek_server::settings::BrokerSettings;
use tokio::runtime::Runtime;

const DATA: &str = "/data";
const CLEAN_MARKER: &str = "/data/.kafka_cleanshutdown";
/// How long a wait may take that must end.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a test looks whether something happens that must not.
const GLANCE: Duration = Duration::from_millis(100);

// === the disk ===

/// Holds the next sync of a log.
#[derive(Debug, Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
enum GateState {
    #[default]
    Open,
    /// The next sync waits.
    Shut,
    /// It waits; those after it do not.
    Held,
}

impl Gate {
    fn set(&self, state: GateState) {
        *self.state.lock().unwrap() = state;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        if *state == GateState::Shut {
            *state = GateState::Held;
            self.changed.notify_all();
            drop(self.changed.wait_while(state, |state| *state == GateState::Held).unwrap());
        }
    }

    fn wait_until_held(&self) {
        let state = self.state.lock().unwrap();
        let held = self.changed.wait_timeout_while(state, PATIENCE, |state| *state != GateState::Held).unwrap();
        assert!(!held.1.timed_out(), "a sync begins");
    }
}

// === the broker ===

#[derive(Debug)]
struct Noon;

impl Clock for Noon {
    fn now_ms(&self) -> i64 {
        1_700_000_000_000
    }
}

#[derive(Debug, Default)]
struct Counting(AtomicU64);

impl Random for Counting {
    fn bytes(&self) -> [u8; 16] {
        u128::from(self.0.fetch_add(1, Ordering::Relaxed)).to_be_bytes()
    }
}

struct Rig {
    disk: SimulatedDisk,
    gate: Arc<Gate>,
    runtime: Runtime,
}

struct Started {
    broker: Arc<Broker>,
    failure: Arc<Failure>,
}

impl Rig {
    fn new() -> Self {
        Self::on(Runtime::new().unwrap())
    }

    fn on(runtime: Runtime) -> Self {
        let (disk, gate) = (SimulatedDisk::new(1), Arc::<Gate>::default());
        let passed = Arc::clone(&gate);
        disk.before_calls(move |call| match call {
            BeginningCall::Sync(path) if path.extension().is_some_and(|extension| extension == "log") => passed.pass(),
            _ => {}
        });
        disk.create_dir_all(Path::new(DATA)).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        Self { disk, gate, runtime }
    }

    /// A broker on what the disk holds.
    fn start(&self, image: &Image) -> Started {
        self.try_start(image).unwrap().0
    }

    /// With the replicas whose logs are damaged.
    fn try_start(&self, image: &Image) -> Result<(Started, Vec<PartitionKey>), DiskError> {
        self.try_start_on("kernel", image)
    }

    fn try_start_on(&self, kernel: &str, image: &Image) -> Result<(Started, Vec<PartitionKey>), DiskError> {
        let mut folder = ReplicaFolder::open(Arc::new(self.disk.clone()), PathBuf::from(DATA))?;
        folder.set_kernel(kernel)?;
        let failure = Arc::new(Failure::default());
        let broker = Broker::new(BrokerParts {
            id: BrokerId(1),
            cluster_id: ClusterId::new("test").unwrap(),
            settings: BrokerSettings::parse(BTreeMap::new()).unwrap(),
            clock: Arc::new(Noon),
            random: Arc::new(Counting::default()),
            metrics: Arc::new(Metrics::new(std::iter::empty())),
            controller: odradek_server::controller::channel().0,
            peers: Peers::alone(
                ClusterId::new("test").unwrap(),
                BrokerId(1),
                Arc::new(Counting::default()),
                self.runtime.handle().clone(),
            ),
            reads: Budget::new(1 << 20),
            folder: Arc::new(folder),
            runtime: self.runtime.handle().clone(),
            health: Arc::default(),
            failure: Arc::clone(&failure),
        });
        let damaged = broker.recover(Arc::new(image.clone()))?;
        Ok((Started { broker, failure }, damaged))
    }

    fn kill(&self) {
        self.disk.restart(Outage::ProcessDeath);
    }

    fn fail(&self, operation: DiskOperation, path_suffix: &str) {
        self.disk.inject(Fault { operation, path_suffix: path_suffix.to_owned(), after: 0, times: 1 });
    }

    fn checkpoint(&self, name: &str) -> BTreeMap<TopicPartition, Offset> {
        let (offsets, damaged) = read_offset_checkpoint(&self.disk, &Path::new(DATA).join(name)).unwrap();
        assert!(!damaged);
        offsets
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // A test that failed must not leave a thread behind that the runtime waits for.
        self.gate.set(GateState::Open);
    }
}

impl Started {
    fn replica(&self, topic: &str) -> Arc<Replica> {
        Arc::clone(self.broker.replicas.topic(topic).unwrap().partition(0).unwrap())
    }
}

fn changed(image: &Image, records: impl IntoIterator<Item = Record>) -> Image {
    records.into_iter().fold(image.clone(), |image, record| apply(&image, 1, &record).unwrap())
}

/// The image with one more topic of one partition.
fn with_topic(image: &Image, id: u8, name: &str, flush_messages: Option<&str>) -> Image {
    let topic_id = bytes::Bytes::from(vec![id; 16]);
    let mut records: Vec<Record> =
        vec![TopicRecord { id: topic_id.clone(), name: name.to_owned(), ..TopicRecord::default() }.into()];
    if let Some(count) = flush_messages {
        let (name, value) = ("flush.messages".to_owned(), Some(count.to_owned()));
        records.push(TopicSettingRecord { topic_id: topic_id.clone(), name, value }.into());
    }
    let partition = PartitionRecord {
        topic_id,
        partition: 0,
        replicas: vec![1],
        isr: vec![1],
        leader: 1,
        leader_epoch: 0,
        partition_epoch: 0,
        ..PartitionRecord::default()
    };
    records.push(partition.into());
    changed(image, records)
}

fn without_topic(image: &Image, id: u8) -> Image {
    changed(image, [RemoveTopicRecord { id: bytes::Bytes::from(vec![id; 16]) }.into()])
}

/// A batch of an idempotent producer.
fn append(replica: &Arc<Replica>, sequence: i32) -> Appended {
    try_append(replica, sequence).unwrap()
}

fn try_append(replica: &Arc<Replica>, sequence: i32) -> Result<Appended, AppendError> {
    let options =
        BatchOptions { producer_id: 7, producer_epoch: 0, base_sequence: sequence, ..BatchOptions::default() };
    let mut batch = BatchBuilder::new(options);
    batch.append(Noon.now_ms(), None, Some(b"value"), &[]);
    replica.append(batch.build_validated(), Acks::All, Noon.now_ms())
}

fn at(topic: &str) -> TopicPartition {
    TopicPartition { topic: TopicName::new(topic).unwrap(), partition: 0 }
}

fn eventually(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        std::thread::yield_now();
    }
}

/// Waits a little and says whether the thread has ended meanwhile.
fn ends_soon<T>(thread: &std::thread::JoinHandle<T>) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < GLANCE && !thread.is_finished() {
        std::thread::yield_now();
    }
    thread.is_finished()
}

// === after a kill ===

#[test]
fn with_flush_messages_1_everything_that_survived_a_kill_counts_from_the_start() {
    let rig = Rig::new();
    let image = with_topic(&Image::empty(), 1, "orders", Some("1"));
    let first = rig.start(&Image::empty());
    first.broker.publish(Arc::new(image.clone()));
    for sequence in 0..3 {
        append(&first.replica("orders"), sequence);
    }
    rig.kill();
    let second = rig.start(&image);
    let replica = second.replica("orders");
    assert_eq!(replica.view(None).unwrap().high_watermark(), 3);
    // A producer that was not answered sends again: the batch is there, and committed.
    let again = append(&replica, 2);
    assert!(again.duplicate);
    assert!(matches!(replica.when_committed(again.required_offset), Some(Ok(ProduceOutcome::Committed))));
    assert_eq!(replica.checkpoints(), (3, 3, 0), "it is on the disk now");
}

#[test]
fn with_flush_messages_1_commits_that_survived_a_kill_are_loaded() {
    let rig = Rig::new();
    let image = with_topic(&Image::empty(), 1, "__consumer_offsets", Some("1"));
    let ask = |started: &Started, request| {
        rig.runtime.block_on(started.broker.coordinators.start("group", request).wait()).unwrap()
    };
    let first = rig.start(&Image::empty());
    first.broker.publish(Arc::new(image.clone()));
    let partitions = vec![PartitionCommit { partition: 0, offset: 42, leader_epoch: 0, metadata: None }];
    let commit = OffsetCommit {
        group_id: "group".into(),
        generation_id: -1,
        member_id: "".into(),
        group_instance_id: None,
        retention_time_ms: -1,
        knows_group_id_not_found: true,
        topics: vec![TopicCommit { topic: "orders".into(), topic_id: TopicId::ZERO, partitions }],
    };
    assert!(matches!(ask(&first, Request::Commit(commit)), Response::Commit(_)));
    rig.kill();
    let second = rig.start(&image);
    let topics = vec![TopicFetch { topic: "orders".into(), topic_id: TopicId::ZERO, partitions: vec![0] }];
    let fetch = OffsetFetch { group_id: "group".into(), topics: Some(topics), require_stable: false };
    let Response::Fetch(fetched) = ask(&second, Request::Fetch(fetch)) else { panic!("a fetch is answered as one") };
    assert_eq!(fetched.topics[0].partitions[0].offset, 42);
}

#[test]
fn a_sync_that_fails_at_the_start_ends_the_broker() {
    let rig = Rig::new();
    let image = with_topic(&Image::empty(), 1, "orders", Some("1"));
    let first = rig.start(&Image::empty());
    first.broker.publish(Arc::new(image.clone()));
    append(&first.replica("orders"), 0);
    rig.kill();
    rig.fail(DiskOperation::Sync, "orders-0/00000000000000000000.log");
    let second = rig.start(&image);
    assert!(second.failure.reason().is_some());
    assert!(second.replica("orders").view(None).is_err(), "nothing is served that may be lost");
}

// === damage ===

/// A damaged log that no checkpoint knows, and the metadata of it.
fn damaged() -> (Rig, Image, PartitionKey) {
    let rig = Rig::new();
    let image = with_topic(&Image::empty(), 1, "orders", None);
    let first = rig.start(&Image::empty());
    first.broker.publish(Arc::new(image.clone()));
    for sequence in 0..3 {
        append(&first.replica("orders"), sequence);
    }
    rig.kill();
    rig.disk.corrupt(Path::new("/data/orders-0/00000000000000000000.log"), 30, 0xff);
    let key = PartitionKey { topic: image.topic("orders").unwrap().id, partition: 0 };
    (rig, image, key)
}

#[test]
fn a_start_that_ends_before_the_controller_knows_of_damage_leaves_it_to_the_next() {
    let mut call = 0;
    loop {
        let (rig, image, key) = damaged();
        rig.disk.crash_at(Some(call));
        let second = rig.try_start(&image);
        if let Ok((second, found)) = &second {
            assert_eq!(*found, [key], "crash in call {call}");
            // It is stopped in order, with all checkpoints and the marker, before anybody was told.
            second.broker.close();
        }
        let is_over = !rig.disk.is_crashed();
        rig.disk.crash_at(None);
        rig.kill();
        assert!(!is_over || rig.disk.exists(Path::new(CLEAN_MARKER)).unwrap());
        let (third, found) = rig.try_start(&image).unwrap();
        assert_eq!(found, [key], "crash in call {call}");
        assert_eq!(third.replica("orders").checkpoints().1, 0);
        if is_over {
            break;
        }
        call += 1;
    }
    assert!(call > 10, "{call} calls");
}

#[test]
fn damage_that_was_told_is_not_told_again() {
    let mut call = 0;
    loop {
        let (rig, image, key) = damaged();
        let (second, found) = rig.try_start(&image).unwrap();
        assert_eq!(found, [key]);
        rig.disk.crash_at(Some(call));
        second.broker.damage_is_told(&found);
        let is_over = !rig.disk.is_crashed();
        assert_eq!(second.failure.reason().is_some(), !is_over, "who cannot forget it does not go on");
        rig.disk.crash_at(None);
        rig.disk.restart(Outage::PowerLossOfAllUnsynced);
        let (_, found) = rig.try_start(&image).unwrap();
        assert!(found.is_empty() || (!is_over && found == [key]), "crash in call {call}: {found:?}");
        if is_over {
            break;
        }
        call += 1;
    }
    assert_eq!(call, 2, "the mark is removed, and the folder synced");
}

#[test]
fn what_a_loss_of_power_has_left_is_no_damage_to_a_start_after_one_that_was_killed() {
    let (rig, image, _) = damaged();
    rig.disk.restart(Outage::PowerLoss);
    // Killed before it came to any log.
    let mut folder = ReplicaFolder::open(Arc::new(rig.disk.clone()), PathBuf::from(DATA)).unwrap();
    folder.set_kernel("the next kernel").unwrap();
    assert_eq!(rig.try_start_on("the next kernel", &image).unwrap().1, []);
}

// === deletion ===

#[test]
fn deleting_a_topic_waits_for_its_sync_and_its_failure_ends_nothing() {
    for fails in [false, true] {
        let rig = Rig::new();
        let image = with_topic(&Image::empty(), 1, "orders", Some("1"));
        let started = rig.start(&Image::empty());
        started.broker.publish(Arc::new(image.clone()));
        rig.gate.set(GateState::Shut);
        let replica = started.replica("orders");
        append(&replica, 0);
        rig.gate.wait_until_held();
        let broker = Arc::clone(&started.broker);
        let after = Arc::new(without_topic(&image, 1));
        let deleting = std::thread::spawn(move || broker.publish(after));
        eventually("the replica closes", || replica.view(None).is_err());
        assert!(!ends_soon(&deleting), "the sync still needs the folder");
        assert!(rig.disk.exists(Path::new("/data/orders-0")).unwrap());
        if fails {
            rig.fail(DiskOperation::Sync, ".log");
        }
        rig.gate.set(GateState::Open);
        deleting.join().unwrap();
        assert!(!rig.disk.exists(Path::new("/data/orders-0")).unwrap());
        assert_eq!(started.failure.reason(), None, "fails: {fails}");
        // Another partition's failure does end it.
        started.broker.publish(Arc::new(with_topic(&Image::empty(), 2, "payments", Some("1"))));
        rig.fail(DiskOperation::Sync, "payments-0/00000000000000000000.log");
        append(&started.replica("payments"), 0);
        eventually("the broker gives up", || started.failure.reason().is_some());
    }
}

#[test]
fn a_topic_is_created_anew_although_its_old_folder_could_not_be_renamed() {
    let rig = Rig::new();
    let image = with_topic(&Image::empty(), 1, "orders", None);
    let started = rig.start(&Image::empty());
    started.broker.publish(Arc::new(image.clone()));
    append(&started.replica("orders"), 0);
    rig.fail(DiskOperation::Rename, "/data/orders-0");
    let without = without_topic(&image, 1);
    started.broker.publish(Arc::new(without.clone()));
    assert!(rig.disk.exists(Path::new("/data/orders-0")).unwrap());
    started.broker.publish(Arc::new(with_topic(&without, 2, "orders", None)));
    assert_eq!(append(&started.replica("orders"), 0).base_offset, 0);
    assert_eq!(started.failure.reason(), None);
}

#[test]
fn a_topic_can_be_deleted_on_a_full_disk() {
    let rig = Rig::new();
    let image = with_topic(&Image::empty(), 1, "orders", None);
    let started = rig.start(&Image::empty());
    started.broker.publish(Arc::new(image.clone()));
    append(&started.replica("orders"), 0);
    // A name that the checkpoints do not have costs a new topic no time.
    assert!(!rig.disk.exists(Path::new("/data/recovery-point-offset-checkpoint")).unwrap());
    started.broker.folder.checkpoint_logs(&started.broker.replicas).unwrap();
    rig.disk.set_capacity(Some(0));
    let without = without_topic(&image, 1);
    started.broker.publish(Arc::new(without.clone()));
    assert!(!rig.disk.exists(Path::new("/data/orders-0")).unwrap());
    assert_eq!(started.failure.reason(), None);
    // What the checkpoints say of the old one must not be taken for the new one's.
    started.broker.publish(Arc::new(with_topic(&without, 2, "orders", None)));
    assert!(started.failure.reason().is_some());
}

// === appends ===

#[test]
fn an_append_that_cannot_be_undone_ends_the_broker() {
    let rig = Rig::new();
    let started = rig.start(&Image::empty());
    started.broker.publish(Arc::new(with_topic(&Image::empty(), 1, "orders", None)));
    let replica = started.replica("orders");
    append(&replica, 0);
    rig.fail(DiskOperation::Write, ".log");
    assert!(try_append(&replica, 1).is_err());
    assert_eq!(started.failure.reason(), None, "it was undone");
    append(&replica, 1);
    rig.fail(DiskOperation::Write, ".log");
    rig.fail(DiskOperation::Truncate, ".log");
    assert!(try_append(&replica, 2).is_err());
    assert!(started.failure.reason().is_some());
}

#[test]
fn one_sync_at_most_waits_for_a_thread() {
    let rig = Rig::on(tokio::runtime::Builder::new_multi_thread().max_blocking_threads(1).build().unwrap());
    let started = rig.start(&Image::empty());
    started.broker.publish(Arc::new(with_topic(&Image::empty(), 1, "orders", Some("1"))));
    let (release, held) = std::sync::mpsc::channel::<()>();
    rig.runtime.spawn_blocking(move || held.recv());
    let replica = started.replica("orders");
    for sequence in 0..50 {
        append(&replica, sequence);
    }
    assert!(Arc::strong_count(&replica) < 5, "{} hold the replica", Arc::strong_count(&replica));
    release.send(()).unwrap();
    eventually("one sync serves them all", || replica.view(None).unwrap().high_watermark() == 50);
}

// === a clean stop ===

#[test]
fn a_clean_stop_waits_for_a_sync_and_is_not_clean_if_it_fails() {
    for fails in [false, true] {
        let rig = Rig::new();
        let started = rig.start(&Image::empty());
        started.broker.publish(Arc::new(with_topic(&Image::empty(), 1, "orders", Some("1"))));
        rig.gate.set(GateState::Shut);
        append(&started.replica("orders"), 0);
        rig.gate.wait_until_held();
        let broker = Arc::clone(&started.broker);
        let closing = std::thread::spawn(move || broker.close());
        assert!(!ends_soon(&closing), "a sync runs, and it may fail");
        assert!(!rig.disk.exists(Path::new(CLEAN_MARKER)).unwrap());
        if fails {
            rig.fail(DiskOperation::Sync, ".log");
        }
        rig.gate.set(GateState::Open);
        closing.join().unwrap();
        assert_eq!(rig.disk.exists(Path::new(CLEAN_MARKER)).unwrap(), !fails);
    }
}

// === checkpoints ===

#[test]
fn a_topic_made_anew_while_the_broker_was_away_meets_nothing_of_the_one_before() {
    let rig = Rig::new();
    let image = with_topic(&Image::empty(), 1, "orders", None);
    let first = rig.start(&Image::empty());
    first.broker.publish(Arc::new(image.clone()));
    let replica = first.replica("orders");
    for sequence in 0..5 {
        append(&replica, sequence);
    }
    assert!(replica.flush());
    replica.advance_log_start(4).unwrap();
    first.broker.folder.checkpoint_logs(&first.broker.replicas).unwrap();
    first.broker.folder.checkpoint_high_watermarks(&first.broker.replicas).unwrap();
    rig.kill();

    let image = with_topic(&without_topic(&image, 1), 2, "orders", None);
    let second = rig.start(&image);
    let replica = second.replica("orders");
    assert_eq!(replica.checkpoints(), (0, 0, 0));
    for sequence in 0..2 {
        assert_eq!(append(&replica, sequence).base_offset, i64::from(sequence));
    }
    rig.kill();
    // Killed before the next checkpoints were due.
    let names = [HIGH_WATERMARK_CHECKPOINT, RECOVERY_POINT_CHECKPOINT, LOG_START_CHECKPOINT];
    assert_eq!(names.map(|name| rig.checkpoint(name)[&at("orders")]), [0; 3]);
}

#[test]
fn a_recovery_point_beyond_the_end_is_taken_back_before_anything_is_appended() {
    let rig = Rig::new();
    let image = with_topic(&Image::empty(), 1, "orders", None);
    let first = rig.start(&Image::empty());
    first.broker.publish(Arc::new(image.clone()));
    append(&first.replica("orders"), 0);
    rig.kill();
    // As after a kill between the cut of a log and its checkpoint.
    let path = Path::new(DATA).join(RECOVERY_POINT_CHECKPOINT);
    write_offset_checkpoint(&rig.disk, &path, &BTreeMap::from([(at("orders"), 100)])).unwrap();
    let second = rig.start(&image);
    assert_eq!(second.replica("orders").log_end(), 1);
    assert_eq!(rig.checkpoint(RECOVERY_POINT_CHECKPOINT), BTreeMap::from([(at("orders"), 1)]));
}

#[test]
fn checkpoints_keep_what_is_known_of_a_replica_that_cannot_be_opened() {
    let rig = Rig::new();
    let image = with_topic(&with_topic(&Image::empty(), 1, "orders", None), 2, "payments", None);
    let first = rig.start(&Image::empty());
    first.broker.publish(Arc::new(image.clone()));
    for topic in ["orders", "payments"] {
        for sequence in 0..3 {
            append(&first.replica(topic), sequence);
        }
        assert!(first.replica(topic).flush());
    }
    let checkpoint = |started: &Started| {
        started.broker.folder.checkpoint_logs(&started.broker.replicas).unwrap();
        started.broker.folder.checkpoint_high_watermarks(&started.broker.replicas).unwrap();
    };
    checkpoint(&first);
    rig.kill();

    rig.fail(DiskOperation::Open, "orders-0/00000000000000000000.log");
    let second = rig.start(&image);
    assert_eq!(second.broker.replicas.offline_partitions(), [at("orders")]);
    append(&second.replica("payments"), 3);
    checkpoint(&second);
    second.broker.close();
    assert!(!rig.disk.exists(Path::new(CLEAN_MARKER)).unwrap());
    for name in [RECOVERY_POINT_CHECKPOINT, HIGH_WATERMARK_CHECKPOINT] {
        assert_eq!(rig.checkpoint(name), BTreeMap::from([(at("orders"), 3), (at("payments"), 4)]), "{name}");
    }
    rig.kill();

    let third = rig.start(&image);
    assert_eq!(third.replica("orders").checkpoints(), (3, 3, 0));
    rig.kill();

    // A new topic under the name has no past, also if it cannot be opened.
    let fourth = rig.start(&image);
    let without = without_topic(&image, 1);
    fourth.broker.publish(Arc::new(without.clone()));
    rig.fail(DiskOperation::Open, "orders-0/00000000000000000000.log");
    fourth.broker.publish(Arc::new(with_topic(&without, 3, "orders", None)));
    assert_eq!(fourth.broker.replicas.offline_partitions(), [at("orders")]);
    checkpoint(&fourth);
    for name in [RECOVERY_POINT_CHECKPOINT, HIGH_WATERMARK_CHECKPOINT] {
        assert_eq!(rig.checkpoint(name).get(&at("orders")), None, "{name}");
    }
}
