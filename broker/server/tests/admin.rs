// SPDX-License-Identifier: Apache-2.0
//! What administrators' tools ask for and the controller decides: more partitions, settings, reassignments, elections,
//! brokers that are gone. Each answer is held against the metadata that follows from it.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]
mod support;

use std::collections::HashSet;
use std::sync::Arc;

use odradek_metadata::{BrokerSettingsOf, BrokerState};
use odradek_model::BrokerId;
use odradek_server::broker::Broker;
use odradek_wire::messages::{
    AlterConfigsResource, AlterPartitionReassignmentsRequest, AlterableConfig, CreatePartitionsAssignment,
    CreatePartitionsRequest, CreatePartitionsTopic, DescribeConfigsRequest, DescribeConfigsResource,
    DescribeConfigsResourceResult, ElectLeadersRequest, ElectLeadersResponse, IncrementalAlterConfigsRequest,
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsTopics, ReassignablePartition, ReassignableTopic,
    TopicPartitions, UnregisterBrokerRequest,
};
use support::cluster::Cluster;
use support::{Folder, SetClock, later};

fn more(name: &str, count: i32, assignments: Option<&[&[i32]]>) -> CreatePartitionsTopic {
    let assignment = |broker_ids: &&[i32]| CreatePartitionsAssignment { broker_ids: broker_ids.to_vec() };
    CreatePartitionsTopic {
        name: name.into(),
        count,
        assignments: assignments.map(|all| all.iter().map(assignment).collect()),
    }
}

async fn create_partitions(
    cluster: &Cluster,
    topics: Vec<CreatePartitionsTopic>,
    validate_only: bool,
) -> Vec<(String, i16)> {
    let request = CreatePartitionsRequest { topics, validate_only, ..CreatePartitionsRequest::default() };
    let mut answered = Vec::new();
    for version in 0..=3 {
        // Every version says the same; only the last one acts.
        let validate_only = validate_only || version < 3;
        let response = cluster.ask(&CreatePartitionsRequest { validate_only, ..request.clone() }, version).await;
        for result in &response.results {
            assert_eq!(result.error_code != 0, result.error_message.is_some(), "{result:?}");
        }
        answered = response.results.into_iter().map(|result| (result.name.to_string(), result.error_code)).collect();
    }
    answered
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_get_more_partitions_or_are_told_why_not() {
    let cluster = Cluster::new(2);
    cluster.topic("t", &[&[0, 1], &[1, 0]]).await;
    let count = || cluster.image().topic("t").unwrap().partitions.len();
    let one = |name: &str, code: i16| vec![(name.to_owned(), code)];
    assert_eq!(create_partitions(&cluster, vec![more("t", 3, None)], true).await, one("t", 0));
    assert_eq!(count(), 2, "only validated");
    assert_eq!(create_partitions(&cluster, vec![more("t", 4, None)], false).await, one("t", 0));
    assert_eq!(count(), 4);
    // Those of this broker are there at once.
    let opened = cluster.broker.replicas.topic("t").unwrap().partitions.iter().flatten().count();
    assert_eq!(opened, 4);
    let given: &[&[i32]] = &[&[1, 0]];
    assert_eq!(create_partitions(&cluster, vec![more("t", 5, Some(given))], false).await, one("t", 0));
    let replicas: Vec<i32> = cluster.image().topic("t").unwrap().partitions[4].replicas.iter().map(|id| id.0).collect();
    assert_eq!(replicas, [1, 0]);

    assert_eq!(create_partitions(&cluster, vec![more("none", 5, None)], false).await, one("none", 3));
    assert_eq!(create_partitions(&cluster, vec![more("t", 5, None)], false).await, one("t", 37));
    assert_eq!(create_partitions(&cluster, vec![more("t", 1, None)], false).await, one("t", 37));
    let refused: [&[&[i32]]; 4] = [&[], &[&[0, 1], &[1, 0]], &[&[0]], &[&[0, 7]]];
    for assignments in refused {
        let wish = vec![more("t", 6, Some(assignments))];
        assert_eq!(create_partitions(&cluster, wish, false).await, one("t", 39), "{assignments:?}");
    }
    let twice = vec![more("t", 6, None), more("t", 7, None)];
    assert_eq!(create_partitions(&cluster, twice, false).await, one("t", 42));
    assert_eq!(create_partitions(&cluster, vec![more("t", 20_000, None)], false).await, one("t", 44));
    assert_eq!(count(), 5);
}

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

type Change<'a> = (&'a str, i8, Option<&'a str>);

fn changes(resource_type: i8, name: &str, changes: &[Change<'_>]) -> AlterConfigsResource {
    let change = |(name, operation, value): &Change<'_>| AlterableConfig {
        name: (*name).into(),
        config_operation: *operation,
        value: value.map(Into::into),
    };
    AlterConfigsResource { resource_type, resource_name: name.into(), configs: changes.iter().map(change).collect() }
}

/// Code and message of each resource, after both versions said the same.
async fn alter(cluster: &Cluster, resources: Vec<AlterConfigsResource>) -> Vec<(i16, String)> {
    let mut answered = Vec::new();
    for (version, validate_only) in [(0, true), (1, false)] {
        let request = IncrementalAlterConfigsRequest { resources: resources.clone(), validate_only };
        let response = cluster.ask(&request, version).await;
        let named = response.responses.iter().map(|r| (r.resource_type, r.resource_name.clone()));
        assert!(named.eq(resources.iter().map(|r| (r.resource_type, r.resource_name.clone()))), "{response:?}");
        answered = (response.responses.into_iter())
            .map(|response| (response.error_code, response.error_message.unwrap_or_default().to_string()))
            .collect();
    }
    answered
}

async fn alter_one(cluster: &Cluster, resource: AlterConfigsResource) -> (i16, String) {
    alter(cluster, vec![resource]).await.remove(0)
}

async fn described(
    cluster: &Cluster,
    resource_type: i8,
    name: &str,
    key: &str,
) -> Option<DescribeConfigsResourceResult> {
    let resource = DescribeConfigsResource { resource_type, resource_name: name.into(), configuration_keys: None };
    let request = DescribeConfigsRequest { resources: vec![resource], ..DescribeConfigsRequest::default() };
    let mut response = cluster.ask(&request, 4).await;
    assert_eq!(response.results[0].error_code, 0);
    let mut names = HashSet::new();
    assert!(response.results[0].configs.iter().all(|config| names.insert(config.name.clone())), "a name twice");
    response.results.remove(0).configs.into_iter().find(|config| *config.name == *key)
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_topics_are_set_deleted_and_changed_as_lists() {
    let cluster = Cluster::new(1);
    cluster.topic("t", &[&[0]]).await;
    let value = |name: &str| cluster.image().topic("t").unwrap().overrides.get(name).cloned();
    let ok = (0, String::new());
    let set = changes(TOPIC, "t", &[("retention.ms", SET, Some("60000")), ("segment.ms", SET, Some("5"))]);
    assert_eq!(alter_one(&cluster, set).await, ok);
    assert_eq!(value("retention.ms").as_deref(), Some("60000"));
    let shown = described(&cluster, TOPIC, "t", "retention.ms").await.unwrap();
    assert_eq!((shown.value.as_deref(), shown.config_source), (Some("60000"), 1));
    // The running replica obeys.
    let replica = Arc::clone(cluster.broker.replicas.topic("t").unwrap().partition(0).unwrap());
    assert_eq!((replica.settings().retention_ms, replica.settings().segment_ms), (Some(60_000), 5));
    assert_eq!(alter_one(&cluster, changes(TOPIC, "t", &[("retention.ms", DELETE, None)])).await, ok);
    assert_eq!(value("retention.ms"), None);
    let shown = described(&cluster, TOPIC, "t", "retention.ms").await.unwrap();
    assert_eq!((shown.value.as_deref(), shown.config_source), (Some("604800000"), 5));

    let throttled = "leader.replication.throttled.replicas";
    for (operation, items, expected) in
        [(APPEND, "0:0,1:0", "0:0,1:0"), (APPEND, "1:0", "0:0,1:0"), (SUBTRACT, "0:0", "1:0")]
    {
        assert_eq!(alter_one(&cluster, changes(TOPIC, "t", &[(throttled, operation, Some(items))])).await, ok);
        assert_eq!(value(throttled).as_deref(), Some(expected));
    }

    for (name, change, code, told) in [
        ("t", ("retention.msec", SET, Some("1")), 40, "retention.msec"),
        ("t", ("retention.ms", SET, Some("soon")), 40, "retention.ms"),
        ("t", ("cleanup.policy", SET, Some("compact")), 40, "cleanup.policy"),
        ("t", ("segment.ms", APPEND, Some("1")), 40, "segment.ms"),
        ("t", ("retention.ms", SET, None), 42, "retention.ms"),
        ("t", ("retention.ms", 9, Some("1")), 42, "operation 9"),
        ("none", ("retention.ms", SET, Some("1")), 3, "topic"),
        ("no topic", ("retention.ms", SET, Some("1")), 17, "no topic"),
        ("", ("retention.ms", SET, Some("1")), 42, "default"),
    ] {
        let (found, message) = alter_one(&cluster, changes(TOPIC, name, &[change])).await;
        assert!(found == code && message.contains(told), "{change:?} of {name:?}: {found} {message}");
    }
    // One bad setting, and none of the resource changes; other resources do.
    cluster.topic("u", &[&[0]]).await;
    let both = vec![
        changes(TOPIC, "t", &[("segment.ms", SET, Some("7")), ("no.such", SET, Some("1"))]),
        changes(TOPIC, "u", &[("segment.ms", SET, Some("7"))]),
    ];
    let codes: Vec<i16> = alter(&cluster, both).await.into_iter().map(|(code, _)| code).collect();
    assert_eq!(codes, [40, 0]);
    assert_eq!(value("segment.ms").as_deref(), Some("5"));
    assert_eq!(cluster.image().topic("u").unwrap().overrides.get("segment.ms").map(String::as_str), Some("7"));
    let twice =
        vec![changes(TOPIC, "t", &[("segment.ms", SET, Some("8"))]), changes(TOPIC, "t", &[("segment.ms", SET, None)])];
    let codes: Vec<i16> = alter(&cluster, twice).await.into_iter().map(|(code, _)| code).collect();
    assert_eq!(codes, [42, 42]);
    let twice = changes(TOPIC, "t", &[("segment.ms", SET, Some("8")), ("segment.ms", DELETE, None)]);
    assert_eq!(alter_one(&cluster, twice).await.0, 42);
    assert_eq!(value("segment.ms").as_deref(), Some("5"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_replicas_that_must_be_in_sync_are_described_as_they_hold() {
    let cluster = Cluster::new(3);
    cluster.topic("three", &[&[0, 1, 2]]).await;
    cluster.topic("one", &[&[0]]).await;
    let shown = async |topic: &str| {
        let config = described(&cluster, TOPIC, topic, "min.insync.replicas").await.unwrap();
        (config.value.unwrap().to_string(), config.config_source)
    };
    assert_eq!(shown("three").await, ("2".to_owned(), 5));
    assert_eq!(shown("one").await, ("1".to_owned(), 5));
    let set = changes(TOPIC, "three", &[("min.insync.replicas", SET, Some("3"))]);
    assert_eq!(alter_one(&cluster, set).await, (0, String::new()));
    assert_eq!(shown("three").await, ("3".to_owned(), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_brokers_change_where_they_take_effect_and_are_refused_by_name_elsewhere() {
    let cluster = Cluster::new(2);
    let rate = "follower.replication.throttled.rate";
    let ok = (0, String::new());
    let shown = async |name: &str| {
        let found = described(&cluster, BROKER, name, rate).await;
        found.map(|config| (config.value.unwrap().to_string(), config.config_source, config.read_only))
    };
    assert_eq!(shown("0").await, None);
    assert_eq!(shown("").await, None);
    assert_eq!(alter_one(&cluster, changes(BROKER, "", &[(rate, SET, Some("1000"))])).await, ok);
    assert_eq!(shown("0").await, Some(("1000".to_owned(), 3, false)));
    assert_eq!(shown("").await, Some(("1000".to_owned(), 3, false)));
    assert_eq!(alter_one(&cluster, changes(BROKER, "0", &[(rate, SET, Some("2000"))])).await, ok);
    assert_eq!(shown("0").await, Some(("2000".to_owned(), 2, false)));
    // Any broker takes them.
    assert_eq!(alter_one(&cluster, changes(BROKER, "1", &[(rate, SET, Some("3000"))])).await, ok);
    let other = BrokerSettingsOf::Broker(BrokerId(1));
    assert_eq!(cluster.image().broker_settings(other).unwrap().get(rate).map(String::as_str), Some("3000"));
    // As kafka-reassign-partitions does when it is done.
    let folders = "replica.alter.log.dirs.io.max.bytes.per.second";
    let cleared = changes(BROKER, "0", &[(rate, DELETE, None), (folders, DELETE, None)]);
    assert_eq!(alter_one(&cluster, cleared).await, ok);
    assert_eq!(shown("0").await, Some(("1000".to_owned(), 3, false)));

    for (resource_type, name, change, code, told) in [
        (BROKER, "0", ("num.partitions", SET, Some("3")), 42, "num.partitions"),
        (BROKER, "0", (rate, SET, Some("-1")), 42, rate),
        (BROKER, "0", (rate, APPEND, Some("1")), 40, rate),
        (BROKER, "7", (rate, SET, Some("1")), 102, "7"),
        (BROKER, "zero", (rate, SET, Some("1")), 42, "zero"),
        (8, "0", ("kafka.server", SET, Some("DEBUG")), 42, "loggers"),
        (16, "all", ("interval.ms", SET, Some("1000")), 42, "metrics"),
        (32, "g", ("consumer.session.timeout.ms", SET, Some("1000")), 42, "groups"),
        (77, "0", ("x", SET, Some("1")), 42, "77"),
    ] {
        let (found, message) = alter_one(&cluster, changes(resource_type, name, &[change])).await;
        assert!(found == code && message.contains(told), "{change:?} of {name:?}: {found} {message}");
    }
}

fn reassignments(partitions: &[(&str, i32, Option<&[i32]>)]) -> AlterPartitionReassignmentsRequest {
    let topic = |(name, index, replicas): &(&str, i32, Option<&[i32]>)| ReassignableTopic {
        name: (*name).into(),
        partitions: vec![ReassignablePartition { partition_index: *index, replicas: replicas.map(<[i32]>::to_vec) }],
    };
    AlterPartitionReassignmentsRequest {
        topics: partitions.iter().map(topic).collect(),
        ..AlterPartitionReassignmentsRequest::default()
    }
}

async fn reassign(cluster: &Cluster, request: &AlterPartitionReassignmentsRequest) -> Vec<i16> {
    let response = cluster.ask(request, 1).await;
    assert_eq!((response.error_code, response.error_message), (0, None));
    assert_eq!(response.allow_replication_factor_change, request.allow_replication_factor_change);
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|partition| partition.error_code).collect()
}

/// `topic-index replicas +adding -removing` of each.
async fn ongoing(cluster: &Cluster, topics: Option<&[(&str, &[i32])]>) -> Vec<String> {
    let topic = |(name, indexes): &(&str, &[i32])| ListPartitionReassignmentsTopics {
        name: (*name).into(),
        partition_indexes: indexes.to_vec(),
    };
    let topics = topics.map(|topics| topics.iter().map(topic).collect());
    let request = ListPartitionReassignmentsRequest { topics, ..ListPartitionReassignmentsRequest::default() };
    let response = cluster.ask(&request, 0).await;
    assert_eq!((response.error_code, response.error_message), (0, None));
    let mut all = Vec::new();
    for topic in response.topics {
        for partition in topic.partitions {
            let (name, index) = (&topic.name, partition.partition_index);
            let (replicas, adding, removing) =
                (partition.replicas, partition.adding_replicas, partition.removing_replicas);
            all.push(format!("{name}-{index} {replicas:?} +{adding:?} -{removing:?}"));
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_are_reassigned_listed_and_cancelled() {
    let cluster = Cluster::new(3);
    cluster.topic("t", &[&[0], &[0]]).await;
    cluster.topic("other", &[&[1]]).await;
    assert_eq!(ongoing(&cluster, None).await, [""; 0]);
    let begun = reassignments(&[("t", 0, Some(&[1])), ("other", 0, Some(&[1, 2])), ("t", 1, Some(&[0]))]);
    assert_eq!(reassign(&cluster, &begun).await, [0, 0, 0]);
    let all = ["other-0 [1, 2] +[2] -[]", "t-0 [1, 0] +[1] -[0]"];
    assert_eq!(ongoing(&cluster, None).await, all);
    assert_eq!(ongoing(&cluster, Some(&[("t", &[1, 0, 9]), ("none", &[0])])).await, all[1..]);
    assert_eq!(ongoing(&cluster, Some(&[])).await, [""; 0]);

    let refused = reassignments(&[
        ("none", 0, Some(&[1])),
        ("t", 7, Some(&[1])),
        ("t", 1, None),
        ("t", 0, Some(&[])),
        ("other", 0, Some(&[9])),
        ("other", 0, Some(&[1])),
    ]);
    assert_eq!(reassign(&cluster, &refused).await, [3, 3, 85, 39, 39, 42]);
    let same_number = AlterPartitionReassignmentsRequest {
        allow_replication_factor_change: false,
        ..reassignments(&[("t", 1, Some(&[0, 1]))])
    };
    assert_eq!(reassign(&cluster, &same_number).await, [38]);
    assert_eq!(ongoing(&cluster, None).await, all);
    assert_eq!(reassign(&cluster, &reassignments(&[("t", 0, None)])).await, [0]);
    assert_eq!(ongoing(&cluster, None).await, all[..1]);
    // Version 0 cannot forbid another number of replicas.
    let response = cluster.ask(&reassignments(&[("other", 0, None)]), 0).await;
    assert_eq!(response.responses[0].partitions[0].error_code, 0);
    assert_eq!(ongoing(&cluster, None).await, [""; 0]);
}

fn elections(election_type: i8, partitions: Option<&[(&str, &[i32])]>) -> ElectLeadersRequest {
    let topic =
        |(name, indexes): &(&str, &[i32])| TopicPartitions { topic: (*name).into(), partitions: indexes.to_vec() };
    ElectLeadersRequest {
        election_type,
        topic_partitions: partitions.map(|topics| topics.iter().map(topic).collect()),
        ..ElectLeadersRequest::default()
    }
}

/// `topic-index code` of each.
fn elected(response: &ElectLeadersResponse) -> Vec<String> {
    let topics = response.replica_election_results.iter();
    topics
        .flat_map(|topic| {
            topic.partition_result.iter().map(|result| {
                assert_eq!(result.error_code != 0, result.error_message.is_some(), "{result:?}");
                format!("{}-{} {}", topic.topic, result.partition_id, result.error_code)
            })
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn leaders_are_elected_or_it_is_said_why_not() {
    let cluster = Cluster::new(3);
    cluster.topic("t", &[&[1, 0], &[2, 0], &[0, 1]]).await;
    cluster.topic("sole", &[&[2]]).await;
    let leader =
        |topic: &str, index: usize| cluster.image().topic(topic).unwrap().partitions[index].leader.map(|id| id.0);
    cluster.set(1, BrokerState::Fenced);
    assert_eq!(leader("t", 0), Some(0));
    let three: &[(&str, &[i32])] = &[("t", &[0, 1, 5]), ("none", &[0])];
    let response = cluster.ask(&elections(0, Some(three)), 2).await;
    assert_eq!(response.error_code, 0);
    // Not alive; not needed; unknown.
    assert_eq!(elected(&response), ["t-0 80", "t-1 84", "t-5 3", "none-0 3"]);
    assert_eq!(response.replica_election_results.len(), 2, "by topic");

    cluster.set(1, BrokerState::Unfenced);
    // Not in sync again: nobody proposed it.
    assert_eq!(elected(&cluster.ask(&elections(0, Some(&[("t", &[0])])), 0).await), ["t-0 80"]);
    // All that need one, and no others.
    assert_eq!(elected(&cluster.ask(&elections(0, None), 1).await), ["t-0 80"]);
    cluster.set(2, BrokerState::Fenced);
    assert_eq!((leader("t", 1), leader("sole", 0)), (Some(0), None));
    assert_eq!(elected(&cluster.ask(&elections(1, None), 2).await), ["sole-0 83"]);
    assert_eq!(elected(&cluster.ask(&elections(1, Some(&[("t", &[1])])), 2).await), ["t-1 84"]);
    let unknown = cluster.ask(&elections(2, Some(&[("t", &[0])])), 2).await;
    assert_eq!((unknown.error_code, elected(&unknown)), (42, vec!["t-0 42".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preferred_leader_that_is_in_sync_leads_again() {
    let cluster = Cluster::new(2);
    cluster.topic("t", &[&[0, 1]]).await;
    // Another preferred leader among the same replicas is no move.
    assert_eq!(reassign(&cluster, &reassignments(&[("t", 0, Some(&[1, 0]))])).await, [0]);
    let partition = || cluster.image().topic("t").unwrap().partitions[0].clone();
    assert_eq!(partition().leader, Some(BrokerId(0)));
    let epoch = partition().leader_epoch;
    assert_eq!(elected(&cluster.ask(&elections(0, None), 2).await), ["t-0 0"]);
    assert_eq!((partition().leader, partition().leader_epoch), (Some(BrokerId(1)), epoch + 1));
    assert_eq!(elected(&cluster.ask(&elections(0, Some(&[("t", &[0])])), 2).await), ["t-0 84"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_gone_is_unregistered() {
    let cluster = Cluster::new(3);
    cluster.topic("t", &[&[2, 0]]).await;
    let unregister = async |broker_id| {
        let response = cluster.ask(&UnregisterBrokerRequest { broker_id }, 0).await;
        (response.error_code, response.error_message.map(|message| message.to_string()))
    };
    assert_eq!(unregister(2).await, (0, None));
    assert!(cluster.image().broker(BrokerId(2)).is_none());
    assert_eq!(cluster.image().topic("t").unwrap().partitions[0].leader, Some(BrokerId(0)));
    let (code, message) = unregister(2).await;
    assert!(code == 102 && message.unwrap().contains('2'));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_not_upgraded_says_so() {
    refused_by(&Cluster::at_level(1).broker, 35).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_finds_no_controller_says_so() {
    let folder = Folder::new();
    refused_by(&folder.broker(SetClock::new()), 41).await;
}

/// The broker answers all that only a controller decides with that error.
async fn refused_by(broker: &Arc<Broker>, code: i16) {
    let partitions = CreatePartitionsRequest { topics: vec![more("t", 2, None)], ..CreatePartitionsRequest::default() };
    let settings = IncrementalAlterConfigsRequest {
        resources: vec![changes(TOPIC, "t", &[("segment.ms", SET, Some("1"))]), changes(77, "", &[])],
        validate_only: false,
    };
    let moves = reassignments(&[("t", 0, Some(&[1])), ("u", 3, None)]);
    let election = elections(0, Some(&[("t", &[0, 1])]));
    let unregister = UnregisterBrokerRequest { broker_id: 1 };
    // All at once, as each waits for a controller as long as it may.
    let (partitions, settings, moves, election, unregister) = tokio::join!(
        later(broker, &partitions, 3),
        later(broker, &settings, 1),
        later(broker, &moves, 1),
        later(broker, &election, 2),
        later(broker, &unregister, 0),
    );
    assert_eq!(partitions.results[0].error_code, code);
    let codes: Vec<i16> = settings.responses.iter().map(|response| response.error_code).collect();
    assert_eq!(codes, [code, 42]);
    assert_eq!(moves.error_code, code);
    let codes: Vec<i16> =
        moves.responses.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code).collect();
    assert_eq!(codes, [code, code]);
    assert_eq!(election.error_code, code);
    assert_eq!(elected(&election), [format!("t-0 {code}"), format!("t-1 {code}")]);
    assert_eq!(unregister.error_code, code);
    assert!(unregister.error_message.is_some());
}
