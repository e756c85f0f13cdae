// SPDX-License-Identifier: Apache-2.0
//! The journal of groups on a disk whose syncs do not end: it stays within its bound, whoever would take it beyond waits
//! and is answered in time, and nobody else waits.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]
mod support;

use std::sync::Arc;
use std::time::Duration;

use odradek_groups::{
    GroupError, GroupSettings, Heartbeat, OffsetCommit, OffsetFetch, PartitionCommit, Request, Response, TopicCommit,
};
use odradek_model::{OFFSETS_TOPIC, TopicId};
use odradek_server::coordinators::{Asked, Coordinators, Loading};
use odradek_server::replica::Replica;
use support::{Folder, SetClock};
use tokio::runtime::Handle;
use tokio::time::timeout;

const MIB: u64 = 1 << 20;
/// Partitions in a commit, and the size of each one's metadata.
const PARTITIONS: i32 = 50;
const METADATA: usize = 4_000;
/// What a commit appends at most; all of it is live.
const COMMIT_BYTES: u64 = PARTITIONS as u64 * 4_200;
const BOUND: u64 = 4 * COMMIT_BYTES + 2 * MIB + 2 * COMMIT_BYTES;
const SOON: Duration = Duration::from_secs(20);

fn commit(offset: i64) -> Request {
    let partition = |partition| PartitionCommit {
        partition,
        offset,
        leader_epoch: -1,
        metadata: Some("m".repeat(METADATA).into()),
    };
    Request::Commit(OffsetCommit {
        group_id: "g".into(),
        generation_id: -1,
        member_id: "".into(),
        group_instance_id: None,
        retention_time_ms: -1,
        knows_group_id_not_found: true,
        topics: vec![TopicCommit {
            topic: "t".into(),
            topic_id: TopicId::ZERO,
            partitions: (0..PARTITIONS).map(partition).collect(),
        }],
    })
}

fn outcomes(response: Result<Response, GroupError>) -> Vec<Option<GroupError>> {
    match response {
        Ok(Response::Commit(response)) => response.topics[0].partitions.iter().map(|(_, error)| *error).collect(),
        other => panic!("no commit but {other:?}"),
    }
}

struct World {
    folder: Folder,
    clock: Arc<SetClock>,
    replica: Arc<Replica>,
    coordinators: Arc<Coordinators>,
}

fn world() -> World {
    let folder = Folder::new();
    let clock = SetClock::new();
    let replica = folder.replica(OFFSETS_TOPIC, &[("segment.bytes", "1048576")]);
    let coordinators = Coordinators::new(GroupSettings::default(), Arc::clone(&clock) as _, Handle::current());
    coordinators.load(&[Some(Arc::clone(&replica))], Loading::AtOnce);
    World { folder, clock, replica, coordinators }
}

impl World {
    /// Commits as fast as it goes while nothing reaches the disk; those that wait.
    fn flood(&self) -> Vec<Asked> {
        self.folder.gate.set(false);
        let mut waiting = Vec::new();
        for offset in 0..100 {
            let asked = self.coordinators.start("g", commit(offset));
            if asked.is_ready() {
                assert!(outcomes(asked.take_ready()).iter().all(Option::is_none));
            } else {
                waiting.push(asked);
            }
            assert!(self.replica.size_bytes() <= BOUND, "{} bytes after {offset}", self.replica.size_bytes());
        }
        assert!((50..100).contains(&waiting.len()), "{} wait", waiting.len());
        waiting
    }

    async fn committed(&self) -> i64 {
        let fetch = OffsetFetch { group_id: "g".into(), topics: None, require_stable: false };
        match self.coordinators.start("g", Request::Fetch(fetch)).wait().await {
            Ok(Response::Fetch(response)) => response.topics[0].partitions[0].offset,
            other => panic!("no offsets but {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_stays_within_its_bound_however_slow_the_disk() {
    let world = world();
    let waiting = world.flood();
    // Who appends nothing does not wait.
    let beat = Heartbeat { group_id: "g".into(), generation_id: 1, member_id: "m".into(), group_instance_id: None };
    assert!(world.coordinators.start("g", Request::Heartbeat(beat)).is_ready());
    assert!(world.committed().await < 50);

    world.folder.gate.set(true);
    for asked in waiting {
        let answered = timeout(SOON, asked.wait()).await.expect("the disk is quick again");
        assert!(outcomes(answered).iter().all(Option::is_none));
        assert!(world.replica.size_bytes() <= BOUND, "{} bytes", world.replica.size_bytes());
    }
    assert_eq!(world.committed().await, 99);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_too_long_is_told_to_ask_again() {
    let world = world();
    let waiting = world.flood();
    world.clock.advance(5_001);
    for asked in waiting {
        let answered = timeout(SOON, asked.wait()).await.expect("refused in time");
        assert!(outcomes(answered).iter().all(|error| *error == Some(GroupError::CoordinatorNotAvailable)));
    }
    world.folder.gate.set(true);
    // What was refused is not done later.
    assert!(world.committed().await < 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_answered_when_the_broker_stops() {
    let world = world();
    let waiting = world.flood();
    world.coordinators.unload();
    for asked in waiting {
        let answered = timeout(SOON, asked.wait()).await.expect("answered");
        assert!(outcomes(answered).iter().all(|error| *error == Some(GroupError::NotCoordinator)));
    }
    world.folder.gate.set(true);
}
