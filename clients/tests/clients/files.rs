// SPDX-License-Identifier: Apache-2.0
//! The files a broker leaves, read by Apache Kafka's own dump tool.

use anyhow::{Context, Result, ensure};
use odradek_clients::native::{self, RecordingProducer};
use odradek_clients::tools::DUMP_LOG;
use odradek_clients::{Broker, CODECS, Flavor, JavaTools, Plan};
use rdkafka::consumer::{CommitMode, Consumer};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const RECORDS_PER_CODEC: u32 = 300;
/// What the dump tool prints among the dumped records where it finds something wrong; the rest goes to stderr.
const COMPLAINTS: [&str; 4] = ["isvalid: false", "mismatch", "invalid bytes", "corrupt"];

fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|one| one == extension) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn dump(tools: &mut JavaTools, files: &[PathBuf], options: &[&str]) -> Result<String> {
    let names: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
    let names = names.join(",");
    let mut args = vec!["--files", &names];
    args.extend(options);
    let run = tools.expect_success(DUMP_LOG, &args, "")?;
    for complaint in COMPLAINTS {
        let found = run.stdout.lines().find(|line| line.contains(complaint));
        ensure!(found.is_none(), "{names}: {found:?}");
    }
    // The tool of 4.3.1 expects every segment to begin at offset 0: what it says of the others' first record, in two
    // lines, is no complaint.
    let complaints: Vec<&str> = run
        .stderr
        .lines()
        .filter(|line| {
            !line.starts_with("Non-consecutive offsets in") && !line.trim_start().starts_with("-1 is followed by")
        })
        .collect();
    ensure!(complaints.is_empty(), "the dump tool complained: {complaints:?}");
    Ok(run.stdout)
}

/// The number behind `name` in a line of the dump.
fn number(line: &str, name: &str) -> Option<i64> {
    let mut words = line.split_whitespace();
    words.find(|word| *word == name)?;
    words.next()?.parse().ok()
}

#[test]
fn kafkas_dump_tool_reads_every_file() -> Result<()> {
    let mut tools = JavaTools::start()?;
    let mut broker = Broker::start()?;
    let bootstrap = broker.bootstrap();
    let segment_bytes = ("segment.bytes", "1048576");
    native::create_topic(&bootstrap, "dumped", 1, &[segment_bytes])?;
    let mut producers = 0;
    for (seed, codec) in (400..).zip(CODECS) {
        let plan = Plan::new(seed, RECORDS_PER_CODEC);
        let producer = RecordingProducer::new(
            &bootstrap,
            // Small batches, so that the indexes have entries.
            &[("compression.type", codec), ("linger.ms", "5"), ("batch.size", "16384")],
        )?;
        for index in 0..RECORDS_PER_CODEC {
            producer.send("dumped", index, Plan::key(index).as_bytes(), plan.value(index).as_bytes())?;
        }
        producer.flush()?;
        ensure!(
            producer.deliveries().acknowledged.len() == RECORDS_PER_CODEC as usize,
            "{codec}: {:?}",
            producer.deliveries().failed
        );
        producers += 1;
    }
    let consumer = native::consumer(&bootstrap, "dumped", &[])?;
    let mut committed = rdkafka::TopicPartitionList::new();
    committed.add_partition_offset("dumped", 0, rdkafka::Offset::Offset(17))?;
    // The coordinator of a group that nobody asked for before may still be coming up.
    let deadline = Instant::now() + Duration::from_secs(30);
    while let Err(error) = consumer.commit(&committed, CommitMode::Sync) {
        ensure!(Instant::now() < deadline, "committing an offset: {error}");
        std::thread::sleep(Duration::from_millis(100));
    }
    broker.terminate()?;

    let folder = broker.partition_dir("dumped", 0);
    let logs = files(&folder, "log")?;
    ensure!(logs.len() >= 3, "{} segments", logs.len());
    let printed = dump(&mut tools, &logs, &["--deep-iteration"])?;
    let records: Vec<i64> = printed
        .lines()
        .filter(|line| line.starts_with("| offset:"))
        .filter_map(|line| number(line, "offset:"))
        .collect();
    let expected: Vec<i64> = (0..i64::from(producers * RECORDS_PER_CODEC)).collect();
    ensure!(
        records == expected,
        "{} records were dumped, {} written, or their offsets have gaps",
        records.len(),
        expected.len()
    );
    for codec in CODECS {
        let word = format!("compresscodec: {codec}");
        ensure!(printed.contains(&word), "no batch with {word}");
    }
    ensure!(
        files(&folder, "index")?.len() == logs.len() && files(&folder, "timeindex")?.len() == logs.len(),
        "an index is missing"
    );
    let printed = dump(&mut tools, &files(&folder, "index")?, &[])?;
    let entries = printed.lines().filter(|line| line.starts_with("offset:")).count();
    ensure!(entries >= logs.len(), "{entries} entries in the offset indexes");
    let printed = dump(&mut tools, &files(&folder, "timeindex")?, &[])?;
    let entries = printed.lines().filter(|line| line.starts_with("timestamp:")).count();
    ensure!(entries >= logs.len(), "{entries} entries in the time indexes");
    let snapshots = files(&folder, "snapshot")?;
    let newest = snapshots.last().context("a clean stop leaves a snapshot of the producers")?;
    let printed = dump(&mut tools, std::slice::from_ref(newest), &[])?;
    let found = printed.lines().filter(|line| line.starts_with("producerId:")).count();
    ensure!(found == producers as usize, "{found} producers in {printed}");

    dump_group_journal(&mut tools, &broker)
}

/// The journal of the groups, by the tool's own decoder of its keys and values.
fn dump_group_journal(tools: &mut JavaTools, broker: &Broker) -> Result<()> {
    let mut found = 0;
    for partition in 0..50 {
        let folder = broker.partition_dir("__consumer_offsets", partition);
        let logs = files(&folder, "log")?;
        let printed = dump(tools, &logs, &["--deep-iteration", "--offsets-decoder"])?;
        found += printed
            .lines()
            .filter(|line| line.contains("\"topic\":\"dumped\"") && line.contains("\"offset\":17"))
            .count();
        if broker.flavor() == Flavor::Odradek && found > 0 {
            break;
        }
    }
    ensure!(found == 1, "the committed offset was found {found} times");
    Ok(())
}
