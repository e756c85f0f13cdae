// SPDX-License-Identifier: Apache-2.0
//! Apache Kafka's own administration tools against one broker: more partitions, settings, groups and their members, log
//! folders, reassignments, elections.

use anyhow::{Context, Result, ensure};
use odradek_clients::native::{self, RecordingProducer};
use odradek_clients::tools::{CONFIGS, CONSUMER_GROUPS, LEADER_ELECTION, LOG_DIRS, REASSIGN_PARTITIONS, TOPICS};
use odradek_clients::{Broker, JavaTools, ToolRun};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use std::time::{Duration, Instant};

struct Tools {
    java: JavaTools,
    broker: Broker,
}

impl Tools {
    fn start() -> Result<Self> {
        Ok(Self { java: JavaTools::start()?, broker: Broker::start()? })
    }

    fn try_run(&mut self, tool: &str, args: &[&str]) -> Result<ToolRun> {
        let bootstrap = self.broker.bootstrap();
        let mut all = vec!["--bootstrap-server", &bootstrap];
        all.extend(args);
        self.java.run(tool, &all, "")
    }

    /// What the tool prints; it must succeed.
    fn run(&mut self, tool: &str, args: &[&str]) -> Result<String> {
        let run = self.try_run(tool, args)?;
        ensure!(run.status == 0, "{tool} {args:?} ended with {run:?}");
        Ok(run.stdout)
    }

    /// The id that the broker gives itself.
    fn broker_id(&mut self) -> Result<String> {
        let folders = self.run(LOG_DIRS, &["--describe"])?;
        let after = folders.split_once(r#""broker":"#).with_context(|| folders.clone())?.1;
        Ok(after.chars().take_while(char::is_ascii_digit).collect())
    }
}

fn contains(text: &str, expected: &[&str]) -> Result<()> {
    for one in expected {
        ensure!(text.contains(one), "{one:?} is not in: {text}");
    }
    Ok(())
}

/// The line that begins with these words, in words.
fn line<'a>(text: &'a str, begin: &[&str]) -> Result<Vec<&'a str>> {
    let words = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    words.into_iter().find(|words| words.starts_with(begin)).with_context(|| format!("no line {begin:?} in: {text}"))
}

/// Reads until `count` records were read, then commits.
fn read(consumer: &BaseConsumer, count: usize) -> Result<()> {
    let deadline = Instant::now() + Duration::from_mins(1);
    let mut done = 0;
    while done < count {
        ensure!(Instant::now() < deadline, "{done} of {count} records read in time");
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            consumer.store_offset_from_message(&message?)?;
            done += 1;
        }
    }
    Ok(consumer.commit_consumer_state(CommitMode::Sync)?)
}

#[test]
fn topics_get_partitions_and_settings() -> Result<()> {
    let mut tools = Tools::start()?;
    tools.run(TOPICS, &["--create", "--topic", "t", "--partitions", "2", "--config", "segment.ms=86400000"])?;
    tools.run(TOPICS, &["--alter", "--topic", "t", "--partitions", "5"])?;
    contains(&tools.run(TOPICS, &["--describe", "--topic", "t"])?, &["PartitionCount: 5", "Partition: 4", "Isr:"])?;
    let fewer = tools.try_run(TOPICS, &["--alter", "--topic", "t", "--partitions", "3"])?;
    ensure!(fewer.status == 1, "fewer partitions were accepted: {fewer:?}");

    let topic = ["--entity-type", "topics", "--entity-name", "t"];
    let alter = [&topic[..], &["--alter"]].concat();
    let settings = "retention.ms=7200000,max.message.bytes=2000000";
    tools.run(CONFIGS, &[&alter[..], &["--add-config", settings]].concat())?;
    tools.run(CONFIGS, &[&alter[..], &["--delete-config", "segment.ms"]].concat())?;
    let described = tools.run(CONFIGS, &[&topic[..], &["--describe"]].concat())?;
    contains(&described, &["retention.ms=7200000", "max.message.bytes=2000000"])?;
    ensure!(!described.contains("segment.ms=86400000"), "a deleted setting is still there: {described}");
    contains(&tools.run(TOPICS, &["--describe", "--topic", "t"])?, &["retention.ms=7200000"])?;
    for change in ["no.such.setting=1", "retention.ms=soon"] {
        let refused = tools.try_run(CONFIGS, &[&alter[..], &["--add-config", change]].concat())?;
        ensure!(refused.status != 0, "{change} was accepted: {refused:?}");
    }

    let id = tools.broker_id()?;
    for entity in [&["--entity-default"][..], &["--entity-name", &id]] {
        let brokers = [&["--entity-type", "brokers"][..], entity].concat();
        let rate = "leader.replication.throttled.rate";
        tools.run(CONFIGS, &[&brokers[..], &["--alter", "--add-config", &format!("{rate}=1000000")]].concat())?;
        contains(&tools.run(CONFIGS, &[&brokers[..], &["--describe"]].concat())?, &[&format!("{rate}=1000000")])?;
        tools.run(CONFIGS, &[&brokers[..], &["--alter", "--delete-config", rate]].concat())?;
    }
    Ok(())
}

#[test]
fn groups_are_listed_and_described_with_their_members() -> Result<()> {
    let mut tools = Tools::start()?;
    let bootstrap = tools.broker.bootstrap();
    native::create_topic(&bootstrap, "t", 2, &[])?;
    let producer = RecordingProducer::new(&bootstrap, &[])?;
    for number in 0..20 {
        producer.send("t", number, format!("k{number}").as_bytes(), b"v")?;
    }
    producer.flush()?;
    let settings = [
        ("client.id", "reader"),
        ("group.instance.id", "fixed"),
        ("enable.auto.offset.store", "false"),
        ("session.timeout.ms", "6000"),
    ];
    let consumer = native::consumer(&bootstrap, "readers", &settings)?;
    consumer.subscribe(&["t"])?;
    read(&consumer, 20)?;

    let listed = tools.run(CONSUMER_GROUPS, &["--list"])?;
    ensure!(listed.lines().any(|line| line.trim() == "readers"), "listed: {listed}");
    let listed = tools.run(CONSUMER_GROUPS, &["--list", "--state", "Stable"])?;
    contains(&listed, &["readers", "Stable"])?;
    ensure!(!tools.run(CONSUMER_GROUPS, &["--list", "--state", "Empty"])?.contains("readers"));
    let group = ["--describe", "--group", "readers"];
    let described = tools.run(CONSUMER_GROUPS, &group)?;
    let mut committed = 0;
    for partition in ["0", "1"] {
        let words = line(&described, &["readers", "t", partition])?;
        // Current offset, end of the log, lag.
        ensure!(words[3] == words[4] && words[5] == "0", "{words:?}");
        contains(&words.join(" "), &["fixed", "/127.0.0.1", "reader"])?;
        committed += words[3].parse::<u32>()?;
    }
    ensure!(committed == 20, "{described}");
    let members = tools.run(CONSUMER_GROUPS, &[&group[..], &["--members", "--verbose"]].concat())?;
    contains(&members, &["fixed", "reader", "t:0,1"])?;
    let state = tools.run(CONSUMER_GROUPS, &[&group[..], &["--state"]].concat())?;
    contains(&state, &["readers", "range", "Stable"])?;

    // Its last member gone, the group keeps its offsets.
    consumer.unsubscribe();
    drop(consumer);
    let remove = ["--describe", "--group", "readers", "--members"];
    let deadline = Instant::now() + Duration::from_mins(1);
    // A static member stays until its session is over.
    while tools.run(CONSUMER_GROUPS, &remove)?.contains("fixed") {
        ensure!(Instant::now() < deadline, "a member that is gone stays");
    }
    contains(&tools.run(CONSUMER_GROUPS, &["--list", "--state", "Empty"])?, &["readers"])?;
    line(&tools.run(CONSUMER_GROUPS, &group)?, &["readers", "t", "0"])?;
    let unknown = tools.try_run(CONSUMER_GROUPS, &["--describe", "--group", "nobody"])?;
    ensure!(unknown.stdout.contains("nobody") || unknown.stderr.contains("nobody"), "{unknown:?}");
    Ok(())
}

#[test]
fn log_folders_are_described_and_reassignments_and_elections_find_nothing_to_do() -> Result<()> {
    let mut tools = Tools::start()?;
    let bootstrap = tools.broker.bootstrap();
    native::create_topic(&bootstrap, "t", 1, &[])?;
    native::create_topic(&bootstrap, "u", 1, &[])?;
    let producer = RecordingProducer::new(&bootstrap, &[])?;
    producer.send("t", 0, b"k", &[7; 1000])?;
    producer.flush()?;
    let folders = tools.run(LOG_DIRS, &["--describe", "--topic-list", "t"])?;
    contains(&folders, &[r#""partition":"t-0""#, r#""error":null"#, r#""isFuture":false"#, r#""offsetLag":0"#])?;
    ensure!(!folders.contains("u-0"), "more than asked for: {folders}");
    let size = folders.split_once(r#""size":"#).with_context(|| folders.clone())?.1;
    let size: u64 = size.chars().take_while(char::is_ascii_digit).collect::<String>().parse()?;
    ensure!((1000..10_000).contains(&size), "{folders}");

    let id = tools.broker_id()?;
    let file = tempfile::NamedTempFile::new()?;
    let plan = format!(r#"{{"version":1,"partitions":[{{"topic":"t","partition":0,"replicas":[{id}]}}]}}"#);
    std::fs::write(file.path(), plan)?;
    let path = file.path().to_str().context("temporary folder's name")?.to_owned();
    let with_plan = ["--reassignment-json-file", &path];
    let executed =
        tools.run(REASSIGN_PARTITIONS, &[&with_plan[..], &["--execute", "--throttle", "1000000"]].concat())?;
    contains(&executed, &["Successfully started partition reassignment for t-0"])?;
    let verified = tools.run(REASSIGN_PARTITIONS, &[&with_plan[..], &["--verify"]].concat())?;
    contains(&verified, &["Reassignment of partition t-0 is completed", "Clearing topic-level throttles"])?;
    contains(&tools.run(REASSIGN_PARTITIONS, &["--list"])?, &["No partition reassignments found"])?;

    let elected = tools.run(LEADER_ELECTION, &["--election-type", "preferred", "--all-topic-partitions"])?;
    ensure!(!elected.contains("Error"), "{elected}");
    let one = ["--election-type", "preferred", "--topic", "t", "--partition", "0"];
    contains(&tools.run(LEADER_ELECTION, &one)?, &["Valid replica already elected for partitions"])?;
    Ok(())
}
