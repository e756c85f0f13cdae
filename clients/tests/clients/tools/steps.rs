// SPDX-License-Identifier: Apache-2.0
//! The steps of the script but for reassignments: topics, settings, elections, offsets and groups, brokers that go.

use super::reassigning;
use super::script::{Script, args, joined};
use anyhow::{Context, Result, bail, ensure};
use odradek_clients::tools::{
    BROKER_API_VERSIONS, CLUSTER, CONFIGS, CONSUMER_GROUPS, GET_OFFSETS, GROUPS, LEADER_ELECTION, LOG_DIRS,
    METADATA_QUORUM, TOPICS,
};
use odradek_clients::{native, replica_verification};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::Value;
use std::time::Duration;

/// The topic that everything is done to.
pub(crate) const MOVED: &str = "moved";
/// Times of records: 2023, and a second apart, so that a time can be asked for.
const FIRST_TIMESTAMP: i64 = 1_700_000_000_000;

/// Writes `count` records to one partition and waits until they are acknowledged.
pub(crate) fn produce(script: &Script<'_>, topic: &str, partition: i32, count: i64, value: &[u8]) -> Result<()> {
    let mut configuration = native::configuration(&script.bootstrap());
    configuration.set("acks", "all");
    let producer: ThreadedProducer<DefaultProducerContext> = configuration.create()?;
    for number in 0..count {
        let timestamp = FIRST_TIMESTAMP + 1000 * number;
        let record: BaseRecord<'_, (), _> =
            BaseRecord::to(topic).partition(partition).payload(value).timestamp(timestamp);
        producer.send(record).map_err(|(error, _)| error)?;
    }
    Ok(producer.flush(Duration::from_mins(1))?)
}

/// `kafka-topics --describe` of a topic until it shows all these words.
pub(crate) fn describe(script: &mut Script<'_>, name: &str, topic: &str, printed: &[&str]) -> Result<()> {
    script.until(name, TOPICS, &args(&[&["--describe", "--topic", topic]]), printed).map(drop)
}

pub(crate) fn cluster(script: &mut Script<'_>) -> Result<()> {
    let server = ["--bootstrap-server", "{bootstrap}"];
    script.expect("cluster: id", CLUSTER, &joined(&[&["cluster-id"], &server[..]]), &["Cluster ID: <id>"])?;
    let endpoints = joined(&[&["list-endpoints"], &server[..]]);
    script.expect("cluster: endpoints", CLUSTER, &endpoints, &["2 127.0.0.1 <port> c unfenced broker"])?;
    let unregister = joined(&[&["unregister"], &server[..], &["--id", "7"]]);
    script.refused("cluster: unregister nobody", CLUSTER, &unregister, "BrokerIdNotRegisteredException")?;
    script.step("cluster: versions", BROKER_API_VERSIONS, &args(&[]))?;
    for what in ["--status", "--replication"] {
        script.step(&format!("quorum: {what}"), METADATA_QUORUM, &args(&[&["describe", what]]))?;
    }
    Ok(())
}

pub(crate) fn topics(script: &mut Script<'_>) -> Result<()> {
    let create = |rest: &[&'static str]| args(&[&["--create", "--topic"], rest]);
    let replicas = ["--replica-assignment", "0:1,1:2,2:0"];
    let given = ["--config", "min.insync.replicas=1", "--config", "retention.ms=-1"];
    let by_hand = args(&[&["--create", "--topic", MOVED], &replicas, &given]);
    script.expect("topics: create by hand", TOPICS, &by_hand, &["Created topic moved."])?;
    describe(script, "topics: describe", MOVED, &["PartitionCount: 3", "Partition: 2 Leader: 2 Replicas: 2,0"])?;
    let spread = create(&["spread", "--partitions", "6", "--replication-factor", "3"]);
    script.expect("topics: create", TOPICS, &spread, &["Created topic spread."])?;
    script.refused("topics: create again", TOPICS, &spread, "TopicExistsException")?;
    script.expect("topics: create if not exists", TOPICS, &joined(&[&spread[..], &["--if-not-exists"]]), &[])?;
    let too_many = create(&["many", "--partitions", "1", "--replication-factor", "4"]);
    script.refused("topics: too many replicas", TOPICS, &too_many, "InvalidReplicationFactorException")?;
    let bad_name = create(&["a b", "--partitions", "1", "--replication-factor", "1"]);
    script.refused("topics: bad name", TOPICS, &bad_name, "InvalidTopicException")?;
    let nowhere = create(&["nowhere", "--replica-assignment", "0:7"]);
    script.refused("topics: on a broker that is not there", TOPICS, &nowhere, "InvalidReplicaAssignmentException")?;

    let alter = |rest: &[&'static str]| args(&[&["--alter", "--topic"], rest]);
    let more = alter(&[MOVED, "--partitions", "4", "--replica-assignment", "0:1,1:2,2:0,1:0"]);
    script.expect("topics: more partitions", TOPICS, &more, &[])?;
    let described = ["PartitionCount: 4", "Partition: 3 Leader: 1 Replicas: 1,0 Isr: 0,1 Elr: LastKnownElr:"];
    describe(script, "topics: describe more", MOVED, &described)?;
    script.refused(
        "topics: more again",
        TOPICS,
        &alter(&[MOVED, "--partitions", "4"]),
        "InvalidPartitionsException",
    )?;
    script.refused("topics: fewer", TOPICS, &alter(&[MOVED, "--partitions", "1"]), "InvalidPartitionsException")?;
    script.refused("topics: more of nothing", TOPICS, &alter(&["nothing", "--partitions", "4"]), "Error")?;
    script.expect("topics: more by themselves", TOPICS, &alter(&["spread", "--partitions", "7"]), &[])?;
    script.until("topics: list", TOPICS, &args(&[&["--list"]]), &["moved", "spread"])?;
    script.until(
        "topics: overrides",
        TOPICS,
        &args(&[&["--describe", "--topics-with-overrides"]]),
        &["Topic: moved"],
    )?;
    script.refused("topics: describe nothing", TOPICS, &args(&[&["--describe", "--topic", "nothing"]]), "Error")?;
    script.expect("topics: delete", TOPICS, &args(&[&["--delete", "--topic", "spread"]]), &[])?;
    script.refused("topics: delete nothing", TOPICS, &args(&[&["--delete", "--topic", "nothing"]]), "Error")?;
    script.wait_for("the deletion", |metadata| metadata.topics().iter().all(|topic| topic.name() != "spread"))
}

pub(crate) fn settings(script: &mut Script<'_>) -> Result<()> {
    let topic = ["--entity-type", "topics", "--entity-name", MOVED];
    let alter = |entity: &[&'static str], rest: &[&'static str]| args(&[entity, &["--alter"], rest]);
    let add = alter(&topic, &["--add-config", "segment.ms=86400000,max.message.bytes=2000000"]);
    script.expect("configs: add to a topic", CONFIGS, &add, &["Completed updating config for topic moved."])?;
    let describe = args(&[&topic, &["--describe"]]);
    let both = ["segment.ms=86400000 sensitive=false", "max.message.bytes=2000000 sensitive=false"];
    script.until("configs: describe a topic", CONFIGS, &describe, &both)?;
    script.until("configs: describe all of a topic", CONFIGS, &joined(&[&describe[..], &["--all"]]), &both)?;
    script.expect("configs: delete of a topic", CONFIGS, &alter(&topic, &["--delete-config", "segment.ms"]), &[])?;
    for (what, change, reason) in [
        ("one without a meaning", "no.such=1", "InvalidConfigurationException"),
        ("no number", "retention.ms=soon", "InvalidConfigurationException"),
        ("too small", "segment.bytes=1", "InvalidConfigurationException"),
    ] {
        script.refused(&format!("configs: {what}"), CONFIGS, &alter(&topic, &["--add-config", change]), reason)?;
    }
    let nothing = args(&[&["--entity-type", "topics", "--entity-name", "nothing", "--describe"]]);
    script.expect("configs: describe a topic that is not there", CONFIGS, &nothing, &["doesn't exist"])?;
    script.step("configs: describe all topics", CONFIGS, &args(&[&["--entity-type", "topics", "--describe"]]))?;

    let one = ["--entity-type", "brokers", "--entity-name", "1"];
    let all = ["--entity-type", "brokers", "--entity-default"];
    let rate = "leader.replication.throttled.rate=5000000";
    script.expect("configs: of all brokers", CONFIGS, &alter(&all, &["--add-config", rate]), &[])?;
    let follower = "follower.replication.throttled.rate=6000000";
    script.expect("configs: of a broker", CONFIGS, &alter(&one, &["--add-config", follower]), &[])?;
    let describe = |entity: &[&'static str]| args(&[entity, &["--describe"]]);
    script.until("configs: describe all brokers", CONFIGS, &describe(&all), &[rate])?;
    script.until("configs: describe a broker", CONFIGS, &describe(&one), &[follower])?;
    script.step("configs: describe each broker", CONFIGS, &args(&[&["--entity-type", "brokers", "--describe"]]))?;
    let deletions = [("all brokers", &all[..], "leader"), ("a broker", &one[..], "follower")];
    for (what, entity, side) in deletions {
        let name = format!("{side}.replication.throttled.rate");
        let rest = args(&[entity, &["--alter", "--delete-config", &name]]);
        script.expect(&format!("configs: delete of {what}"), CONFIGS, &rest, &[])?;
    }
    let slow = "leader.replication.throttled.rate=slow";
    script.refused("configs: no rate", CONFIGS, &alter(&one, &["--add-config", slow]), "InvalidRequestException")?;
    let id = alter(&one, &["--add-config", "node.id=7"]);
    script.refused("configs: needs a restart", CONFIGS, &id, "InvalidRequestException")?;
    script.step("configs: of a broker, other", CONFIGS, &alter(&one, &["--add-config", "log.cleaner.threads=2"]))?;
    script.run(CONFIGS, &alter(&one, &["--delete-config", "log.cleaner.threads"]))?;
    let away = args(&[&["--entity-type", "brokers", "--entity-name", "7", "--describe"]]);
    script.expect("configs: describe a broker that is not there", CONFIGS, &away, &["doesn't exist"])?;
    Ok(())
}

/// Has preferred leaders lead, as both do by themselves too: Apache Kafka every five minutes, ours five seconds after a
/// broker has come as well. Waits until a partition is led by the one given.
pub(crate) fn balance(script: &mut Script<'_>, topic: &str, partition: i32, leader: i32) -> Result<()> {
    for _ in 0..100 {
        script.run(LEADER_ELECTION, &args(&[&["--election-type", "preferred", "--all-topic-partitions"]]))?;
        let run = script.run(TOPICS, &args(&[&["--describe", "--topic", topic]]))?;
        if run.stdout.contains(&format!("Partition: {partition}\tLeader: {leader}\t")) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    bail!("broker {leader} does not lead {topic}-{partition}")
}

pub(crate) fn elections(script: &mut Script<'_>) -> Result<()> {
    let elect = |kind: &'static str, rest: &[&'static str]| args(&[&["--election-type", kind], rest]);
    let one = ["--topic", MOVED, "--partition", "1"];
    let elected = "Successfully completed leader election (PREFERRED) for partitions moved-1";
    let there = ["Valid replica already elected for partitions moved-1"];
    let mut tries = 0;
    let run = loop {
        reassigning::reorder(script, 1, &[1, 0, 2])?;
        script.run(LEADER_ELECTION, &elect("preferred", &one))?;
        reassigning::reorder(script, 1, &[0, 1, 2])?;
        let run = script.run(LEADER_ELECTION, &elect("preferred", &one))?;
        // Unless the controller has just done it by itself.
        if run.stdout.contains(elected) {
            break run;
        }
        tries += 1;
        ensure!(tries < 10, "no preferred leader was elected: {run:?}");
    };
    script.note("election: preferred", &run)?;
    script.expect("election: not needed", LEADER_ELECTION, &elect("preferred", &one), &there)?;
    script.expect("election: unclean where one leads", LEADER_ELECTION, &elect("unclean", &one), &there)?;
    let unknown = "UnknownTopicOrPartitionException";
    let no_partition = elect("preferred", &["--topic", MOVED, "--partition", "17"]);
    script.refused("election: of a partition that is not there", LEADER_ELECTION, &no_partition, unknown)?;
    let no_topic = elect("preferred", &["--topic", "nothing", "--partition", "0"]);
    script.refused("election: of a topic that is not there", LEADER_ELECTION, &no_topic, unknown)?;
    balance(script, MOVED, 1, 0)?;
    for kind in ["preferred", "unclean"] {
        let all = elect(kind, &["--all-topic-partitions"]);
        script.expect(&format!("election: {kind}, all"), LEADER_ELECTION, &all, &[])?;
    }
    let content = r#"{"partitions": [{"topic": "moved", "partition": 0}, {"topic": "moved", "partition": 17}]}"#;
    let file = script.file("elections.json", content)?;
    let from_file = args(&[&["--election-type", "preferred", "--path-to-json-file", &file]]);
    script.refused("election: from a file", LEADER_ELECTION, &from_file, unknown)?;
    describe(script, "election: leaders then", MOVED, &["Partition: 1 Leader: 0 Replicas: 0,1,2 Isr: 0,1,2"])
}

pub(crate) fn offsets_and_groups(script: &mut Script<'_>) -> Result<()> {
    produce(script, MOVED, 1, 20, b"small")?;
    produce(script, MOVED, 2, 5, b"small")?;
    let of_topic = args(&[&["--topic", MOVED]]);
    script.until("offsets: end", GET_OFFSETS, &of_topic, &["moved:1:20", "moved:2:5", "moved:3:0"])?;
    for (what, time) in [
        ("first", "earliest"),
        ("of the largest time", "max-timestamp"),
        ("first on the disk", "-4"),
        ("tiered", "-5"),
        ("by time", "1700000003000"),
        ("after all", "1900000000000"),
    ] {
        let all = joined(&[&of_topic, &["--time", time]]);
        script.expect(&format!("offsets: {what}"), GET_OFFSETS, &all, &[])?;
    }
    let some = args(&[&["--topic-partitions", "moved:1-2,moved:3"]]);
    script.expect("offsets: of some partitions", GET_OFFSETS, &some, &["moved:1:20"])?;
    let none = args(&[&["--topic", "nothing"]]);
    script.refused("offsets: of a topic that is not there", GET_OFFSETS, &none, "ended with 1")?;

    let consumer = native::consumer(&script.bootstrap(), "readers", &[])?;
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(MOVED, 1, Offset::Offset(7))?;
    offsets.add_partition_offset(MOVED, 2, Offset::Offset(5))?;
    // The topic of offsets was only now created, and the coordinator may not know yet that it is one.
    let mut tries = 0;
    while let Err(error) = consumer.commit(&offsets, CommitMode::Sync) {
        tries += 1;
        ensure!(tries < 100, "offsets were not committed: {error}");
        std::thread::sleep(Duration::from_millis(100));
    }
    drop(consumer);
    script.until("groups: list", CONSUMER_GROUPS, &args(&[&["--list"]]), &["readers"])?;
    script.step("groups: list with states", CONSUMER_GROUPS, &args(&[&["--list", "--state"]]))?;
    script.step("groups: list with types", CONSUMER_GROUPS, &args(&[&["--list", "--type"]]))?;
    script.step("groups: kafka-groups", GROUPS, &args(&[&["--list"]]))?;
    let group = ["--group", "readers"];
    let describe = args(&[&["--describe"], &group]);
    script.expect("groups: describe", CONSUMER_GROUPS, &describe, &["readers moved 1 7 20 13"])?;
    script.step("groups: members", CONSUMER_GROUPS, &joined(&[&describe[..], &["--members"]]))?;
    script.step("groups: state", CONSUMER_GROUPS, &joined(&[&describe[..], &["--state"]]))?;
    script.step("groups: all", CONSUMER_GROUPS, &args(&[&["--describe", "--all-groups"]]))?;
    script.step("groups: nobody", CONSUMER_GROUPS, &args(&[&["--describe", "--group", "nobody"]]))?;
    let reset = args(&[&["--reset-offsets", "--topic", MOVED, "--to-earliest"], &group]);
    script.step("groups: reset, only shown", CONSUMER_GROUPS, &joined(&[&reset[..], &["--dry-run"]]))?;
    script.step("groups: reset", CONSUMER_GROUPS, &joined(&[&reset[..], &["--execute"]]))?;
    script.until("groups: describe reset", CONSUMER_GROUPS, &describe, &["readers moved 1 0 20 20"])?;
    let forget = args(&[&["--delete-offsets", "--topic", "moved:2"], &group]);
    script.step("groups: delete offsets", CONSUMER_GROUPS, &forget)?;
    script.step("groups: delete", CONSUMER_GROUPS, &args(&[&["--delete"], &group]))?;

    log_dirs(script)?;
    let away = args(&[&["--describe", "--broker-list", "0,7"]]);
    script.refused("log-dirs: of a broker that is not there", LOG_DIRS, &away, "")
}

/// `kafka-log-dirs --describe`, once no replica is behind. Sizes depend on how records came together in batches.
fn log_dirs(script: &mut Script<'_>) -> Result<()> {
    let all = args(&[&["--describe", "--topic-list", MOVED, "--broker-list", "0,1,2"]]);
    let mut lines = Vec::new();
    for _ in 0..100 {
        let run = script.run(LOG_DIRS, &all)?;
        ensure!(run.status == 0, "{run:?}");
        let json = run.stdout.lines().find(|line| line.starts_with('{')).with_context(|| format!("{run:?}"))?;
        let described: Value = serde_json::from_str(json)?;
        lines.clear();
        for broker in described["brokers"].as_array().context("brokers")? {
            for folder in broker["logDirs"].as_array().context("folders")? {
                for partition in folder["partitions"].as_array().context("partitions")? {
                    let (error, lag, future) = (&folder["error"], &partition["offsetLag"], &partition["isFuture"]);
                    let known = partition["size"].as_i64().is_some_and(|size| size >= 0);
                    let (broker, name) = (&broker["broker"], &partition["partition"]);
                    lines.push(format!("{broker} {name} error {error} lag {lag} future {future} size known {known}"));
                }
            }
        }
        lines.sort();
        if lines.iter().all(|line| line.contains(" lag 0 ")) {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    ensure!(lines.len() == 9, "nine replicas were expected: {lines:?}");
    script.note_lines("log-dirs: describe", &lines)
}

pub(crate) fn replicas_are_equal(script: &mut Script<'_>) -> Result<()> {
    let partitions = replica_verification(&script.bootstrap(), MOVED)?;
    script.note_lines("replica-verification", &[format!("no replica is behind or differs in {partitions} partitions")])
}

pub(crate) fn admin_client(script: &mut Script<'_>) -> Result<()> {
    let run = script.run("AdminChecks", &["{bootstrap}", "0", "1", "2"])?;
    ensure!(run.status == 0, "{run:?}");
    for line in run.stdout.lines() {
        let (what, outcome) = line.split_once(" -> ").with_context(|| format!("no outcome: {line}"))?;
        script.note_lines(&format!("AdminClient: {what}"), &[outcome.to_owned()])?;
    }
    Ok(())
}

pub(crate) fn a_broker_is_away(script: &mut Script<'_>) -> Result<()> {
    let create = |script: &mut Script<'_>, topic: &str, replicas: &str, least: &str| {
        let least = format!("min.insync.replicas={least}");
        let rest = ["--create", "--topic", topic, "--replica-assignment", replicas, "--config", &least];
        script.expect(&format!("away: create {topic}"), TOPICS, &args(&[&rest]), &["Created topic"])
    };
    create(script, "eligible", "2:0", "2")?;
    create(script, "alone", "2", "1")?;
    create(script, "three", "2:1:0", "2")?;
    script.wait_for_brokers(3, true)?;
    script.cluster.kill(2)?;
    script.wait_for_brokers(2, false)?;
    let elr = ["Topic: eligible Partition: 0 Leader: 0 Replicas: 2,0 Isr: 0 Elr: 2 LastKnownElr:"];
    describe(script, "away: describe eligible", "eligible", &elr)?;
    describe(script, "away: describe alone", "alone", &["Leader: none Replicas: 2 Isr: Elr: 2"])?;
    describe(script, "away: describe three", "three", &["Leader: 1 Replicas: 2,1,0 Isr: 0,1 Elr:"])?;
    for (filter, topics) in [
        ("--under-replicated-partitions", &["eligible", "alone", "three"][..]),
        ("--under-min-isr-partitions", &["eligible", "alone"]),
        ("--at-min-isr-partitions", &["three"]),
        ("--unavailable-partitions", &["alone"]),
    ] {
        let topics: Vec<String> = topics.iter().map(|topic| format!("Topic: {topic} ")).collect();
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        // Internal topics are placed by chance.
        let all = args(&[&["--describe", "--exclude-internal", filter]]);
        script.until(&format!("away: {filter}"), TOPICS, &all, &topics)?;
    }
    let server = ["--bootstrap-server", "{bootstrap}"];
    let endpoints = joined(&[&["list-endpoints"], &server[..]]);
    script.until("away: endpoints", CLUSTER, &endpoints, &["1 127.0.0.1"])?;
    let fenced_too = joined(&[&endpoints, &["--include-fenced-brokers"]]);
    script.until("away: endpoints with fenced ones", CLUSTER, &fenced_too, &["2 127.0.0.1 <port> c fenced broker"])?;
    let elect = |kind: &'static str, topic: &'static str| {
        args(&[&["--election-type", kind, "--topic", topic, "--partition", "0"]])
    };
    let reason = "PreferredLeaderNotAvailableException";
    script.refused("away: preferred leader", LEADER_ELECTION, &elect("preferred", "three"), reason)?;
    let reason = "EligibleLeadersNotAvailableException";
    script.refused("away: any leader", LEADER_ELECTION, &elect("unclean", "alone"), reason)?;
    let nowhere = args(&[&["--create", "--topic", "nowhere", "--replica-assignment", "2"]]);
    script.refused("away: create on it alone", TOPICS, &nowhere, "InvalidReplicaAssignmentException")?;
    create(script, "beside", "0:2", "1")?;
    describe(script, "away: describe beside", "beside", &["Leader: 0 Replicas: 0,2 Isr: 0 Elr:"])?;
    let three = args(&[&["--create", "--topic", "later", "--partitions", "1", "--replication-factor", "3"]]);
    script.expect("away: create with its replica too", TOPICS, &three, &["Created topic later."])?;
    script.refused("away: log-dirs", LOG_DIRS, &args(&[&["--describe", "--broker-list", "2"]]), "")?;

    script.cluster.restart(2)?;
    script.wait_for_brokers(3, true)?;
    balance(script, "three", 0, 2)?;
    describe(script, "back: describe eligible", "eligible", &["Leader: 2 Replicas: 2,0 Isr: 0,2 Elr:"])?;
    describe(script, "back: describe alone", "alone", &["Leader: 2 Replicas: 2 Isr: 2 Elr:"])?;
    describe(script, "back: describe three", "three", &["Leader: 2 Replicas: 2,1,0 Isr: 0,1,2 Elr:"])
}

/// The only replica that is left is behind, and somebody decides to go on with it.
pub(crate) fn unclean_election(script: &mut Script<'_>) -> Result<()> {
    let rest = ["--create", "--topic", "behind", "--replica-assignment", "0:1", "--config", "min.insync.replicas=1"];
    script.expect("unclean: create", TOPICS, &args(&[&rest]), &["Created topic"])?;
    script.cluster.kill(1)?;
    script.wait_for_brokers(2, false)?;
    describe(script, "unclean: one is away", "behind", &["Leader: 0 Replicas: 0,1 Isr: 0 Elr:"])?;
    produce(script, "behind", 0, 10, b"only here")?;
    script.cluster.kill(0)?;
    script.cluster.restart(1)?;
    describe(script, "unclean: both were away", "behind", &["Leader: none Replicas: 0,1 Isr: Elr: 0"])?;
    let one = ["--topic", "behind", "--partition", "0"];
    let preferred = args(&[&["--election-type", "preferred"], &one]);
    let reason = "PreferredLeaderNotAvailableException";
    script.refused("unclean: the preferred leader", LEADER_ELECTION, &preferred, reason)?;
    let unclean = args(&[&["--election-type", "unclean"], &one]);
    let elected = ["Successfully completed leader election (UNCLEAN) for partitions behind-0"];
    script.expect("unclean: elect", LEADER_ELECTION, &unclean, &elected)?;
    describe(script, "unclean: elected", "behind", &["Leader: 1 Replicas: 0,1 Isr: 1 Elr:"])?;
    script.cluster.restart(0)?;
    script.wait_for_brokers(3, true)?;
    balance(script, "behind", 0, 0)?;
    describe(script, "unclean: both are back", "behind", &["Leader: 0 Replicas: 0,1 Isr: 0,1 Elr:"])
}

pub(crate) fn a_broker_goes_for_good(script: &mut Script<'_>) -> Result<()> {
    script.cluster.kill(2)?;
    script.wait_for_brokers(2, false)?;
    describe(script, "gone: before", "eligible", &["Leader: 0 Replicas: 2,0 Isr: 0 Elr: 2"])?;
    let server = ["--bootstrap-server", "{bootstrap}"];
    let unregister = joined(&[&["unregister"], &server[..], &["--id", "2"]]);
    script.expect("gone: unregister", CLUSTER, &unregister, &["Broker 2 is no longer registered."])?;
    script.refused("gone: unregister again", CLUSTER, &unregister, "BrokerIdNotRegisteredException")?;
    let endpoints = joined(&[&["list-endpoints"], &server[..], &["--include-fenced-brokers"]]);
    script.expect("gone: endpoints", CLUSTER, &endpoints, &["0 127.0.0.1", "1 127.0.0.1"])?;
    describe(script, "gone: describe eligible", "eligible", &["Leader: 0 Replicas: 2,0 Isr: 0"])?;
    describe(script, "gone: describe alone", "alone", &["Leader: none Replicas: 2 Isr:"])
}
