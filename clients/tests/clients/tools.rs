// SPDX-License-Identifier: Apache-2.0
//! Apache Kafka's administration tools against three brokers: one script of steps, against Odradek and against Apache
//! Kafka, and what they print compared. What may differ is a table in `docs/compatibility.md`.

mod reassigning;
mod script;
mod steps;

use anyhow::{Result, ensure};
use odradek_clients::transcript::{Allowed, compare};
use odradek_clients::{Flavor, JavaTools};
use script::{Cluster, Script};

const TABLE: &str = include_str!("../../../docs/compatibility.md");
const TABLE_HEAD: &str = "| Step of the check | Words |";

/// The part that needs no long waiting, against one cluster. Each step that says what it expects has been seen to get it
/// from Apache Kafka too, by the comparison.
#[test]
fn tools_work_with_several_brokers() -> Result<()> {
    let mut java = JavaTools::start()?;
    let cluster = Cluster::start(Flavor::from_environment()?)?;
    let (_, complaints) = Script::new(&mut java, cluster)?.finish(|script| {
        steps::topics(script)?;
        reassigning::moves(script)?;
        steps::elections(script)
    });
    ensure!(complaints.is_empty(), "{}", complaints.join("\n"));
    Ok(())
}

/// All steps against both, compared. `make check-tools` runs it.
#[test]
#[ignore = "starts three nodes of Apache Kafka beside ours; `make check-tools`"]
fn tools_print_what_they_print_with_apache_kafka() -> Result<()> {
    let mut java = JavaTools::start()?;
    let mut transcripts = Vec::new();
    let mut complaints = Vec::new();
    for flavor in [Flavor::Odradek, Flavor::ApacheKafka] {
        let (transcript, more) = Script::new(&mut java, Cluster::start(flavor)?)?.finish(everything);
        complaints.extend(more.into_iter().map(|complaint| format!("{flavor:?}, {complaint}")));
        transcripts.push(transcript);
    }
    if let Err(differences) = compare(&transcripts[0], &transcripts[1], &Allowed::of_table(TABLE, TABLE_HEAD)?) {
        complaints.push(differences.to_string());
    }
    ensure!(complaints.is_empty(), "{}", complaints.join("\n"));
    Ok(())
}

fn everything(script: &mut Script<'_>) -> Result<()> {
    steps::cluster(script)?;
    steps::topics(script)?;
    steps::settings(script)?;
    reassigning::moves(script)?;
    reassigning::throttled(script)?;
    steps::elections(script)?;
    steps::offsets_and_groups(script)?;
    steps::replicas_are_equal(script)?;
    steps::admin_client(script)?;
    steps::a_broker_is_away(script)?;
    steps::unclean_election(script)?;
    steps::a_broker_goes_for_good(script)
}
