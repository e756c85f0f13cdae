// SPDX-License-Identifier: Apache-2.0
//! What tools are shown: topics in pages, the sizes of replicas, groups with their members.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]
mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use odradek_metadata::BrokerState;
use odradek_model::OFFSETS_TOPIC;
use odradek_partition::Acks;
use odradek_records::{BatchBuilder, BatchOptions};
use odradek_server::broker::Broker;
use odradek_server::coordinators::Loading;
use odradek_server::net::Started;
use odradek_wire::messages::{
    Cursor, DescribableLogDirTopic, DescribeGroupsRequest, DescribeLogDirsRequest, DescribeLogDirsResponse,
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, DescribedGroup, HeartbeatRequest,
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse, LeaveGroupRequest, ListGroupsRequest, ListedGroup,
    MemberIdentity, OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, SyncGroupRequest,
    SyncGroupRequestAssignment, TopicRequest,
};
use support::cluster::Cluster;
use support::{Folder, SetClock, add_topic, answer, decode, later, publish, start};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(20);

async fn page(
    cluster: &Cluster,
    topics: &[&str],
    limit: i32,
    cursor: Option<(&str, i32)>,
) -> DescribeTopicPartitionsResponse {
    let cursor = cursor.map(|(topic, index)| Cursor { topic_name: topic.into(), partition_index: index });
    let request = DescribeTopicPartitionsRequest {
        topics: topics.iter().map(|name| TopicRequest { name: (*name).into() }).collect(),
        response_partition_limit: limit,
        cursor,
    };
    cluster.ask(&request, 0).await
}

/// `topic error [indexes]` of each, and the cursor.
fn shown(response: &DescribeTopicPartitionsResponse) -> (Vec<String>, Option<(String, i32)>) {
    let topics = response.topics.iter().map(|topic| {
        let indexes: Vec<i32> = topic.partitions.iter().map(|partition| partition.partition_index).collect();
        format!("{} {} {indexes:?}", topic.name.as_ref().unwrap(), topic.error_code)
    });
    let cursor = response.next_cursor.as_ref().map(|next| (next.topic_name.to_string(), next.partition_index));
    (topics.collect(), cursor)
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_described_in_pages() {
    let cluster = Cluster::new(1);
    for (name, partitions) in [("b", 3), ("a", 2), ("c", 1)] {
        cluster.topic(name, &vec![&[0][..]; partitions]).await;
    }
    let at = |topic: &str, index| Some((topic.to_owned(), index));
    let text = |topics: &[&str]| topics.iter().map(ToString::to_string).collect::<Vec<_>>();
    let all = text(&["a 0 [0, 1]", "b 0 [0, 1, 2]", "c 0 [0]"]);
    assert_eq!(shown(&page(&cluster, &[], 2000, None).await), (all.clone(), None));
    assert_eq!(shown(&page(&cluster, &[], 6, None).await), (all, None));
    // The page ends within a topic, behind one, and with the last.
    let first = page(&cluster, &[], 3, None).await;
    assert_eq!(shown(&first), (text(&["a 0 [0, 1]", "b 0 [0]"]), at("b", 1)));
    assert_eq!(shown(&page(&cluster, &[], 2, Some(("b", 1))).await), (text(&["b 0 [1, 2]"]), at("c", 0)));
    assert_eq!(shown(&page(&cluster, &[], 2, Some(("c", 0))).await), (text(&["c 0 [0]"]), None));
    // At least one, whatever is asked for; a topic that is gone meanwhile is passed over.
    assert_eq!(shown(&page(&cluster, &[], 0, Some(("aa", 7))).await), (text(&["b 0 [0]"]), at("b", 1)));
    // By name: in their order, each once, with what is wrong.
    let named = page(&cluster, &["c", "a", "c", "bad name", "none"], 2000, None).await;
    assert_eq!(shown(&named), (text(&["a 0 [0, 1]", "bad name 17 []", "c 0 [0]", "none 3 []"]), None));
    assert!(named.topics[0].topic_id == cluster.image().topic("a").unwrap().id.0 && named.topics[3].topic_id.is_nil());
    assert_eq!(shown(&page(&cluster, &["c", "a"], 1, Some(("a", 1))).await), (text(&["a 0 [1]"]), at("c", 0)));
    for cursor in [("b", 0), ("a", -1)] {
        let refused = page(&cluster, &["c", "a"], 2000, Some(cursor)).await;
        assert_eq!(shown(&refused), (text(&["c 42 []", "a 42 []"]), None), "{cursor:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_described_with_leader_elr_and_who_is_offline() {
    let cluster = Cluster::new(3);
    cluster.topic("t", &[&[1, 0, 2]]).await;
    cluster.topic("sole", &[&[2]]).await;
    // Two of three are enough; with one alone, those that left still hold what is committed.
    cluster.set(1, BrokerState::Fenced);
    cluster.set(2, BrokerState::Fenced);
    let described = page(&cluster, &["t", "sole"], 2000, None).await;
    let [sole, t] = &described.topics[..] else { panic!("{described:?}") };
    let partition = &t.partitions[0];
    assert_eq!((partition.error_code, partition.leader_id), (0, 0));
    assert_eq!(partition.leader_epoch, cluster.image().topic("t").unwrap().partitions[0].leader_epoch);
    assert_eq!(partition.replica_nodes, [1, 0, 2]);
    assert_eq!(partition.isr_nodes, [0]);
    let image = cluster.image();
    let elr: Vec<i32> = image.topic("t").unwrap().partitions[0].elr.iter().map(|id| id.0).collect();
    assert!(!elr.is_empty());
    assert_eq!(partition.eligible_leader_replicas.as_deref(), Some(&elr[..]));
    assert_eq!(partition.last_known_elr.as_deref(), Some(&[][..]));
    assert_eq!(partition.offline_replicas, [1, 2]);
    assert!(!t.is_internal && t.topic_authorized_operations > 0);
    let partition = &sole.partitions[0];
    assert_eq!((partition.error_code, partition.leader_id, &partition.offline_replicas[..]), (0, -1, &[2][..]));
}

/// `topic-index size lag` of each.
fn replicas(response: &DescribeLogDirsResponse) -> Vec<String> {
    let topics = response.results[0].topics.iter();
    topics
        .flat_map(|topic| {
            topic.partitions.iter().map(|partition| {
                assert!(!partition.is_future_key);
                let (index, size, lag) = (partition.partition_index, partition.partition_size, partition.offset_lag);
                format!("{}-{index} {size} {lag}", topic.name)
            })
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_are_described_with_their_sizes() {
    let folder = Folder::new();
    let broker = folder.broker(SetClock::new());
    let replica = folder.replica("t", &[]);
    let mut batch = BatchBuilder::new(BatchOptions::default());
    batch.append(5_000, None, Some(b"x"), &[]);
    let size = batch.clone().build().len();
    replica.append(batch.build_validated(), Acks::All, 5_000).unwrap();
    // One of it could not be opened: nothing is known of its log.
    add_topic(&broker, "t", vec![Some(replica), None]);
    let expected = [format!("t-0 {size} 0")];
    for version in 1..=5 {
        let all = later(&broker, &DescribeLogDirsRequest { topics: None }, version).await;
        assert_eq!(replicas(&all), expected);
        let [result] = &all.results[..] else { panic!("{all:?}") };
        assert_eq!((all.error_code, result.error_code, &*result.log_dir), (0, 0, "/data"));
        assert!(!result.is_cordoned);
        let known = version >= 4;
        assert_eq!((result.total_bytes > 0, result.usable_bytes > 0), (known, known), "{version}");
    }
    let wanted = |topic: &str, partitions: &[i32]| DescribeLogDirsRequest {
        topics: Some(vec![DescribableLogDirTopic { topic: topic.into(), partitions: partitions.to_vec() }]),
    };
    assert_eq!(replicas(&later(&broker, &wanted("t", &[1, 0]), 4).await), expected);
    assert_eq!(replicas(&later(&broker, &wanted("t", &[1, 5]), 4).await), [""; 0]);
    assert_eq!(replicas(&later(&broker, &wanted("u", &[0]), 4).await), [""; 0]);
    assert_eq!(replicas(&later(&broker, &DescribeLogDirsRequest { topics: Some(Vec::new()) }, 4).await), [""; 0]);
}

/// Joins the group `g`; below version 5 nobody has an instance id.
fn join(instance: Option<&str>) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol { name: "range".into(), metadata: Bytes::from_static(&[0, 0]) };
    JoinGroupRequest {
        group_id: "g".into(),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 30_000,
        group_instance_id: instance.map(Into::into),
        protocol_type: "consumer".into(),
        protocols: vec![protocol],
        ..JoinGroupRequest::default()
    }
}

fn sync(member: &JoinGroupResponse, assignments: &[(&str, &'static [u8])]) -> SyncGroupRequest {
    let assignment = |(member_id, assignment): &(&str, &'static [u8])| SyncGroupRequestAssignment {
        member_id: (*member_id).into(),
        assignment: Bytes::from_static(assignment),
    };
    SyncGroupRequest {
        group_id: "g".into(),
        generation_id: member.generation_id,
        member_id: member.member_id.clone(),
        assignments: assignments.iter().map(assignment).collect(),
        ..SyncGroupRequest::default()
    }
}

/// A broker that coordinates all groups, and its clock.
struct Groups {
    folder: Folder,
    clock: Arc<SetClock>,
    broker: Arc<Broker>,
}

impl Groups {
    fn new() -> Self {
        let (folder, clock) = (Folder::new(), SetClock::new());
        let broker = folder.broker(Arc::clone(&clock));
        publish(&broker, "t", &[true]);
        broker.coordinators.load(&[Some(folder.replica(OFFSETS_TOPIC, &[]))], Loading::AtOnce);
        Self { folder, clock, broker }
    }

    /// Does what is due after so long.
    async fn tick(&self, milliseconds: i64) {
        self.clock.advance(milliseconds);
        // All that is due is done before it sleeps for the first time.
        let timers = self.broker.coordinators.run_timers(CancellationToken::new());
        let _ = timeout(Duration::from_millis(1), timers).await;
    }

    fn describe(&self, group: &str, version: i16) -> DescribedGroup {
        let include_authorized_operations = version >= 3;
        let request = DescribeGroupsRequest { groups: vec![group.into()], include_authorized_operations };
        answer(&self.broker, &request, version).groups.remove(0)
    }

    /// `group type state type` of each.
    fn list(&self, states: &[&str], types: &[&str], version: i16) -> Vec<String> {
        let names = |names: &[&str]| names.iter().map(|name| (*name).into()).collect();
        let request = ListGroupsRequest { states_filter: names(states), types_filter: names(types) };
        let listed = answer(&self.broker, &request, version);
        assert_eq!(listed.error_code, 0);
        let line = |group: ListedGroup| {
            let ListedGroup { group_id, protocol_type, group_state, group_type } = group;
            format!("{group_id} {protocol_type:?} {group_state:?} {group_type:?}")
        };
        listed.groups.into_iter().map(line).collect()
    }

    /// Commits an offset for a group that nobody is in.
    async fn commit(&self, group: &str) {
        let partition = OffsetCommitRequestPartition { committed_offset: 1, ..OffsetCommitRequestPartition::default() };
        let request = OffsetCommitRequest {
            group_id: group.into(),
            generation_id_or_member_epoch: -1,
            topics: vec![OffsetCommitRequestTopic {
                name: "t".into(),
                partitions: vec![partition],
                ..OffsetCommitRequestTopic::default()
            }],
            ..OffsetCommitRequest::default()
        };
        let committed = later(&self.broker, &request, 8).await;
        assert_eq!(committed.topics[0].partitions[0].error_code, 0);
    }

    /// The group `g` with a dynamic and a static member, the first of them the leader; stable.
    async fn stable(&self) -> [JoinGroupResponse; 2] {
        let Started::Waiting(dynamic) = start(&self.broker, &join(None), 3) else { panic!("a new group waits") };
        let Started::Waiting(fixed) = start(&self.broker, &join(Some("i")), 5) else { panic!("a new group waits") };
        self.tick(3_000).await;
        self.tick(3_000).await;
        let dynamic = decode::<JoinGroupRequest>(timeout(SOON, dynamic).await.unwrap(), 3);
        let fixed = decode::<JoinGroupRequest>(timeout(SOON, fixed).await.unwrap(), 5);
        let assignments: &[(&str, &'static [u8])] = &[(&dynamic.member_id, b"A"), (&fixed.member_id, b"B")];
        let (leader, other) = if dynamic.leader == dynamic.member_id { (&dynamic, &fixed) } else { (&fixed, &dynamic) };
        assert_eq!(later(&self.broker, &sync(leader, assignments), 3).await.error_code, 0);
        assert_eq!(later(&self.broker, &sync(other, &[]), 3).await.error_code, 0);
        [dynamic, fixed]
    }

    async fn heartbeat(&self, member: &JoinGroupResponse, instance: Option<&str>) -> i16 {
        let request = HeartbeatRequest {
            group_id: "g".into(),
            generation_id: member.generation_id,
            member_id: member.member_id.clone(),
            group_instance_id: instance.map(Into::into),
        };
        later(&self.broker, &request, 4).await.error_code
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_listed_and_described() {
    let groups = Groups::new();
    assert_eq!(groups.list(&[], &[], 5), [""; 0]);
    let Started::Waiting(waiting) = start(&groups.broker, &join(None), 3) else { panic!("a new group waits") };
    let joining = groups.describe("g", 6);
    assert_eq!((&*joining.group_state, &*joining.protocol_data), ("PreparingRebalance", ""));
    assert!(joining.members[0].member_metadata.is_empty());
    drop(waiting);

    let groups = Groups::new();
    let [dynamic, fixed] = groups.stable().await;
    groups.commit("offsets").await;
    for version in 0..=6 {
        let described = groups.describe("g", version);
        assert_eq!((described.error_code, &*described.group_id, &*described.group_state), (0, "g", "Stable"));
        assert_eq!((&*described.protocol_type, &*described.protocol_data), ("consumer", "range"));
        assert_eq!(described.authorized_operations > 0, version >= 3, "{version}");
        let member = |id: &str| described.members.iter().find(|member| *member.member_id == *id).unwrap();
        let (one, other) = (member(&dynamic.member_id), member(&fixed.member_id));
        assert_eq!((&one.member_metadata[..], &one.member_assignment[..]), (&[0, 0][..], &b"A"[..]));
        assert_eq!((&*one.client_host, &other.member_assignment[..]), ("/127.0.0.1", &b"B"[..]));
        assert_eq!((one.group_instance_id.as_deref(), described.members.len()), (None, 2));
        assert_eq!(other.group_instance_id.as_deref(), (version >= 4).then_some("i"));
    }
    for version in 0..=6 {
        let unknown = groups.describe("none", version);
        assert_eq!((&*unknown.group_state, unknown.error_code), ("Dead", if version < 6 { 0 } else { 69 }));
        assert_eq!(unknown.error_message.is_some(), version >= 6);
    }
    assert_eq!(groups.list(&[], &[], 3), [r#"g "consumer" "" """#, r#"offsets "" "" """#]);
    assert_eq!(groups.list(&["stable ", "x"], &[], 4), [r#"g "consumer" "Stable" """#]);
    assert_eq!(groups.list(&["Empty"], &["Classic"], 5), [r#"offsets "" "Empty" "classic""#]);
    assert_eq!(groups.list(&[], &["consumer"], 5), [""; 0]);
    assert_eq!(groups.list(&["Dead"], &[], 5), [""; 0]);

    let elsewhere = groups.folder.broker(SetClock::new());
    let request = DescribeGroupsRequest { groups: vec!["g".into()], ..DescribeGroupsRequest::default() };
    assert_eq!(answer(&elsewhere, &request, 6).groups[0].error_code, 16);
    assert!(answer(&elsewhere, &ListGroupsRequest::default(), 5).groups.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_member_comes_back_without_a_rebalance_and_leaves_by_its_instance() {
    let groups = Groups::new();
    let [dynamic, fixed] = groups.stable().await;
    let back = later(&groups.broker, &join(Some("i")), 9).await;
    assert_eq!((back.error_code, back.generation_id), (0, fixed.generation_id));
    assert_ne!(back.member_id, fixed.member_id);
    // Only a leader learns the members, and is told that it has nothing to assign.
    assert_eq!(back.skip_assignment, back.leader == back.member_id);
    assert_eq!(back.members.len(), if back.skip_assignment { 2 } else { 0 });
    let kept = later(&groups.broker, &sync(&back, &[]), 3).await;
    assert_eq!((kept.error_code, &kept.assignment[..]), (0, &b"B"[..]));
    assert_eq!(groups.heartbeat(&dynamic, None).await, 0);
    assert_eq!(groups.heartbeat(&back, Some("i")).await, 0);
    // FENCED_INSTANCE_ID, in a heartbeat and when it would leave.
    assert_eq!(groups.heartbeat(&fixed, Some("i")).await, 82);
    let leave = async |members: &[(&str, Option<&str>)], version| {
        let identity = |(member_id, instance): &(&str, Option<&str>)| MemberIdentity {
            member_id: (*member_id).into(),
            group_instance_id: instance.map(Into::into),
            ..MemberIdentity::default()
        };
        let members = members.iter().map(identity).collect();
        let request = LeaveGroupRequest { group_id: "g".into(), members, ..LeaveGroupRequest::default() };
        let left = later(&groups.broker, &request, version).await;
        assert_eq!(left.error_code, 0);
        left.members.iter().map(|member| member.error_code).collect::<Vec<_>>()
    };
    assert_eq!(leave(&[(&fixed.member_id, Some("i")), ("", Some("j"))], 4).await, [82, 25]);
    assert_eq!(&*groups.describe("g", 6).group_state, "Stable");
    for version in 3..=5 {
        let expected = if version == 3 { 0 } else { 25 };
        assert_eq!(leave(&[("", Some("i"))], version).await, [expected], "{version}");
    }
    let described = groups.describe("g", 6);
    assert_eq!((&*described.group_state, described.members.len()), ("PreparingRebalance", 1));
    assert_eq!(groups.heartbeat(&dynamic, None).await, 27);
}
