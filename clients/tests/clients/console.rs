// SPDX-License-Identifier: Apache-2.0
//! Apache Kafka's own Java tools: console producer and consumer, topics, offsets, and the Java client's groups.

use anyhow::{Result, ensure};
use odradek_clients::tools::{CONSOLE_CONSUMER, CONSOLE_PRODUCER, GET_OFFSETS, TOPICS};
use odradek_clients::{Broker, CODECS, JavaTools, Plan, Tally, round_trip_records};

const PARTITIONS: usize = 3;

struct Console<'a> {
    tools: &'a mut JavaTools,
    bootstrap: String,
}

impl Console<'_> {
    fn topics(&mut self, args: &[&str]) -> Result<String> {
        let bootstrap = self.bootstrap.clone();
        let mut all = vec!["--bootstrap-server", &bootstrap];
        all.extend(args);
        Ok(self.tools.expect_success(TOPICS, &all, "")?.stdout)
    }

    fn produce(&mut self, topic: &str, codec: &str, lines: &str) -> Result<()> {
        let args = [
            "--bootstrap-server",
            &self.bootstrap,
            "--topic",
            topic,
            "--compression-codec",
            codec,
            "--reader-property",
            "parse.key=true",
        ];
        let run = self.tools.expect_success(CONSOLE_PRODUCER, &args, lines)?;
        // A record that could not be sent is only logged.
        ensure!(!run.stderr.contains("ERROR"), "the producer complained: {}", run.stderr);
        Ok(())
    }

    fn consume(&mut self, topic: &str, group: &str, count: u32) -> Result<String> {
        let count = count.to_string();
        let args = [
            "--bootstrap-server",
            &self.bootstrap,
            "--topic",
            topic,
            "--group",
            group,
            "--from-beginning",
            "--max-messages",
            &count,
            "--timeout-ms",
            "60000",
            "--formatter-property",
            "print.partition=true",
            "--formatter-property",
            "print.offset=true",
            "--formatter-property",
            "print.key=true",
        ];
        Ok(self.tools.expect_success(CONSOLE_CONSUMER, &args, "")?.stdout)
    }

    /// The number of records in `topic` by its offsets.
    fn size(&mut self, topic: &str) -> Result<u32> {
        let args = ["--bootstrap-server", &self.bootstrap, "--topic", topic];
        let printed = self.tools.expect_success(GET_OFFSETS, &args, "")?.stdout;
        let mut sum = 0;
        for line in printed.lines() {
            sum += line.rsplit(':').next().unwrap_or_default().parse::<u32>()?;
        }
        Ok(sum)
    }
}

#[test]
fn console_tools_round_trip_with_every_codec_and_a_restart_between() -> Result<()> {
    let mut tools = JavaTools::start()?;
    let mut broker = Broker::start()?;
    let mut console = Console { tools: &mut tools, bootstrap: broker.bootstrap() };
    let count = round_trip_records();
    let first = count / 3;
    let plans: Vec<Plan> = (0..).map(|seed| Plan::new(seed, count)).take(5).collect();
    let mut tallies: Vec<Tally<'_>> = plans.iter().map(|plan| Tally::new(plan, PARTITIONS)).collect();
    for (codec, (plan, tally)) in CODECS.iter().zip(plans.iter().zip(&mut tallies)) {
        let topic = format!("console-{codec}");
        let partitions = PARTITIONS.to_string();
        console.topics(&["--create", "--topic", &topic, "--partitions", &partitions])?;
        console.produce(&topic, codec, &plan.lines(0, count))?;
        tally.observe_lines(&console.consume(&topic, &topic, first)?)?;
        ensure!(tally.count() == first, "{topic}: {} read", tally.count());
    }
    broker.terminate()?;
    broker.launch()?;
    for (codec, tally) in CODECS.iter().zip(&mut tallies) {
        let topic = format!("console-{codec}");
        tally.observe_lines(&console.consume(&topic, &topic, count - first)?)?;
        tally.finish()?;
        ensure!(console.size(&topic)? == count, "{topic}: more than written");
    }
    Ok(())
}

#[test]
fn topics_are_created_described_and_deleted_and_groups_of_the_java_client_work() -> Result<()> {
    let mut tools = JavaTools::start()?;
    let broker = Broker::start()?;
    let bootstrap = broker.bootstrap();
    let mut console = Console { tools: &mut tools, bootstrap: bootstrap.clone() };
    console.topics(&[
        "--create",
        "--topic",
        "described",
        "--partitions",
        "2",
        "--config",
        "retention.ms=7200000",
        "--config",
        "max.message.bytes=2000000",
    ])?;
    console.topics(&["--create", "--topic", "deleted", "--partitions", "1"])?;
    console.produce("deleted", "none", "k0\tgone\n")?;
    let described = console.topics(&["--describe", "--topic", "described"])?;
    for expected in [
        "PartitionCount: 2",
        "ReplicationFactor: 1",
        "retention.ms=7200000",
        "max.message.bytes=2000000",
        "Partition: 1",
    ] {
        ensure!(described.contains(expected), "{expected:?} is not in: {described}");
    }
    let again =
        console.tools.run(TOPICS, &["--bootstrap-server", &bootstrap, "--create", "--topic", "described"], "")?;
    ensure!(again.status == 1 && again.stdout.contains("already exists"), "a topic was created twice: {again:?}");
    let unknown = console.tools.run(
        TOPICS,
        &["--bootstrap-server", &bootstrap, "--create", "--topic", "refused", "--config", "no.such.setting=1"],
        "",
    )?;
    ensure!(unknown.status == 1, "a setting that does not exist was accepted: {unknown:?}");
    console.topics(&["--delete", "--topic", "deleted"])?;
    let listed = console.topics(&["--list"])?;
    ensure!(listed.lines().any(|line| line == "described"), "listed: {listed}");
    ensure!(!listed.lines().any(|line| line == "deleted" || line == "refused"), "listed: {listed}");
    // A topic of the same name is another topic: none of the old records.
    console.topics(&["--create", "--topic", "deleted", "--partitions", "1"])?;
    ensure!(console.size("deleted")? == 0, "a re-created topic has records");
    tools.expect_success("GroupChecks", &[&bootstrap], "")?;
    Ok(())
}
