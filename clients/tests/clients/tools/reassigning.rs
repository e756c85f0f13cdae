// SPDX-License-Identifier: Apache-2.0
//! `kafka-reassign-partitions`: plans made, executed, watched, throttled, cancelled and refused.

use super::script::{Script, args, joined};
use super::steps::{self, MOVED};
use anyhow::{Context, Result, ensure};
use odradek_clients::tools::{CONFIGS, REASSIGN_PARTITIONS, TOPICS};
use serde_json::{Value, json};
use std::time::Duration;

/// Slower than any test waits: a partition of megabytes stays on its way.
const CRAWL: &str = "1000";

/// The plan for partitions of [`MOVED`].
fn plan(partitions: &[(i32, &[i32])]) -> String {
    let partitions: Vec<Value> = partitions
        .iter()
        .map(|(partition, replicas)| json!({"topic": MOVED, "partition": partition, "replicas": replicas}))
        .collect();
    json!({"version": 1, "partitions": partitions}).to_string()
}

/// Reassignments that are done at once, and those that are refused.
pub(crate) fn moves(script: &mut Script<'_>) -> Result<()> {
    generate(script)?;
    // Partition 0 leaves its leader; 1 gets a third replica; 2 has what it is to have.
    let file = script.file("moves.json", &plan(&[(0, &[2, 1]), (1, &[1, 0, 2]), (2, &[2, 0])]))?;
    let with_plan = args(&[&["--reassignment-json-file", &file]]);
    script.expect(
        "reassign: execute",
        REASSIGN_PARTITIONS,
        &joined(&[&with_plan[..], &["--execute"]]),
        &["Successfully started partition reassignments for moved-0,moved-1,moved-2"],
    )?;
    let completed = ["moved-0 is completed", "moved-1 is completed", "moved-2 is completed", "Clearing topic-level"];
    script.until("reassign: verify", REASSIGN_PARTITIONS, &joined(&[&with_plan[..], &["--verify"]]), &completed)?;
    script.until(
        "reassign: list nothing",
        REASSIGN_PARTITIONS,
        &args(&[&["--list"]]),
        &["No partition reassignments found"],
    )?;
    let expected =
        ["Partition: 0 Leader: 2 Replicas: 2,1 Isr: 1,2", "Partition: 1 Leader: 1 Replicas: 1,0,2 Isr: 0,1,2"];
    steps::describe(script, "reassign: replicas then", MOVED, &expected)?;
    let refusals = [
        ("to a broker that is not there", plan(&[(0, &[2, 7])]), &[][..], "Unknown broker id"),
        ("to one broker twice", plan(&[(0, &[2, 2])]), &[], "duplicate"),
        ("of a partition that is not there", plan(&[(17, &[2, 1])]), &[], "UnknownTopicOrPartitionException"),
        ("to nobody", plan(&[(0, &[])]), &[], ""),
        (
            "to fewer replicas where that is not allowed",
            plan(&[(1, &[0, 1])]),
            &["--disallow-replication-factor-change"],
            "Error reassigning partition(s)",
        ),
    ];
    for (what, plan, more, reason) in refusals {
        let file = script.file("refused.json", &plan)?;
        let all = args(&[&["--execute", "--reassignment-json-file", &file], more]);
        let run = script.step(&format!("reassign: {what}"), REASSIGN_PARTITIONS, &all)?;
        ensure!(run.status != 0 && run.stdout.contains(reason), "{what}: {run:?}");
    }
    let cancelled = joined(&[&with_plan[..], &["--cancel"]]);
    let nothing = ["None of the specified partition reassignments are active"];
    script.expect("reassign: cancel nothing", REASSIGN_PARTITIONS, &cancelled, &nothing)?;
    Ok(())
}

/// Gives a partition of [`MOVED`] its replicas in this order, so that the first is the preferred leader.
pub(crate) fn reorder(script: &mut Script<'_>, partition: i32, replicas: &[i32]) -> Result<()> {
    let file = script.file("reorder.json", &plan(&[(partition, replicas)]))?;
    let run = script.run(REASSIGN_PARTITIONS, &args(&[&["--execute", "--reassignment-json-file", &file]]))?;
    ensure!(run.status == 0, "{run:?}");
    Ok(())
}

/// Where replicas are placed is a matter of chance with both; what can be said is what the plan is like.
fn generate(script: &mut Script<'_>) -> Result<()> {
    let file = script.file("topics.json", &json!({"version": 1, "topics": [{"topic": MOVED}]}).to_string())?;
    let all = args(&[&["--generate", "--topics-to-move-json-file", &file, "--broker-list", "0,1,2"]]);
    let run = script.run(REASSIGN_PARTITIONS, &all)?;
    let plans: Vec<Value> =
        run.stdout.lines().filter(|line| line.starts_with('{')).map(serde_json::from_str).collect::<Result<_, _>>()?;
    let [current, proposed] = &plans[..] else { anyhow::bail!("two plans were expected: {run:?}") };
    let mut lines = vec![format!("now: {current}")];
    for partition in proposed["partitions"].as_array().context("partitions of a plan")? {
        let replicas = partition["replicas"].as_array().context("replicas of a plan")?;
        lines.push(format!("proposed: {} of {} on {}", partition["partition"], partition["topic"], replicas.len()));
    }
    ensure!(lines.len() == 5, "a plan for each of four partitions was expected: {run:?}");
    script.note_lines("reassign: generate", &lines)
}

/// A reassignment that stays on its way, is seen, changed and cancelled; and one that is let go on.
pub(crate) fn throttled(script: &mut Script<'_>) -> Result<()> {
    // Four megabytes: more than the throttle lets pass at once, which counts over ten seconds.
    steps::produce(script, MOVED, 0, 40, &b"x".repeat(100_000))?;
    let file = script.file("throttled.json", &plan(&[(0, &[0, 1])]))?;
    let with_plan = args(&[&["--reassignment-json-file", &file]]);
    let execute = joined(&[&with_plan[..], &["--execute", "--throttle", CRAWL]]);
    let started =
        ["The inter-broker throttle limit was set to 1000 B/s", "Successfully started partition reassignment"];
    script.expect("throttled: execute", REASSIGN_PARTITIONS, &execute, &started)?;
    script.until(
        "throttled: list",
        REASSIGN_PARTITIONS,
        &args(&[&["--list"]]),
        &["moved-0: replicas: 0,1,2. adding: 0. removing: 2."],
    )?;
    steps::describe(script, "throttled: describe", MOVED, &["Adding Replicas: 0 Removing Replicas: 2"])?;
    script.until(
        "throttled: under-replicated",
        TOPICS,
        &args(&[&["--describe", "--topic", MOVED, "--under-replicated-partitions"]]),
        &[],
    )?;
    let verify = joined(&[&with_plan[..], &["--verify"]]);
    script.until("throttled: verify", REASSIGN_PARTITIONS, &verify, &["moved-0 is still in progress"])?;
    script.refused("throttled: execute again", REASSIGN_PARTITIONS, &execute, "existing partition assignment")?;
    let settings = args(&[&["--describe", "--entity-type", "topics", "--entity-name", MOVED]]);
    let listed = ["leader.replication.throttled.replicas=0:1,0:2", "follower.replication.throttled.replicas=0:0"];
    script.until("throttled: settings of the topic", CONFIGS, &settings, &listed)?;
    for id in ["0", "1", "2"] {
        let settings = args(&[&["--describe", "--entity-type", "brokers", "--entity-name", id]]);
        let rates = ["leader.replication.throttled.rate=1000", "follower.replication.throttled.rate=1000"];
        script.until(&format!("throttled: settings of broker {id}"), CONFIGS, &settings, &rates)?;
    }
    let cancel = joined(&[&with_plan[..], &["--cancel"]]);
    let done = ["Successfully cancelled partition reassignment for: moved-0", "Clearing broker-level throttles"];
    script.expect("throttled: cancel", REASSIGN_PARTITIONS, &cancel, &done)?;
    // Those that were to stay come first in the order of the target, and so they do after it was cancelled.
    let before = ["moved-0, but replica set is 1,2 rather than 0,1"];
    script.until("throttled: verify what was cancelled", REASSIGN_PARTITIONS, &verify, &before)?;
    script.until("throttled: settings without throttles", CONFIGS, &settings, &["configs for topic"])?;
    script.expect("throttled: execute once more", REASSIGN_PARTITIONS, &execute, &["Successfully started"])?;
    let faster = joined(&[&with_plan[..], &["--execute", "--additional", "--throttle", "100000000"]]);
    script.expect("throttled: faster", REASSIGN_PARTITIONS, &faster, &["Successfully started"])?;
    std::thread::sleep(Duration::from_millis(100));
    script.until("throttled: verify what is done", REASSIGN_PARTITIONS, &verify, &["moved-0 is completed"])?;
    steps::balance(script, MOVED, 0, 0)?;
    steps::describe(script, "throttled: replicas then", MOVED, &["Partition: 0 Leader: 0 Replicas: 0,1 Isr: 0,1"])
}
