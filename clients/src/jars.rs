// SPDX-License-Identifier: Apache-2.0
//! Where set-up put Apache Kafka's jars. Only asks; `setup/install clients` is what gets them.

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the checkout is: this crate's folder is in it.
pub(crate) fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in a folder of the checkout")
}

fn ask_setup(what: &str) -> Result<PathBuf> {
    let script = checkout().join("setup/clients.sh");
    let output = Command::new("bash")
        .arg(&script)
        .arg(what)
        .output()
        .with_context(|| format!("running {}", script.display()))?;
    ensure!(output.status.success(), "{} {what}: {}", script.display(), String::from_utf8_lossy(&output.stderr));
    let path = PathBuf::from(String::from_utf8(output.stdout)?.trim());
    ensure!(path.exists(), "Apache Kafka's jars are missing ({}): run `setup/install clients`", path.display());
    Ok(path)
}

/// All jars of Apache Kafka's broker and tools.
///
/// # Errors
/// When they are not there: the message names the command that gets them.
pub fn apache_kafka_classpath() -> Result<Vec<PathBuf>> {
    let folder = ask_setup("--jars")?;
    let mut jars = Vec::new();
    for entry in std::fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "jar") {
            jars.push(path);
        }
    }
    ensure!(!jars.is_empty(), "no jars in {}: run `setup/install clients`", folder.display());
    jars.sort();
    Ok(jars)
}

/// The jar of the newest Java client, which is newer than the rest.
///
/// # Errors
/// As [`apache_kafka_classpath`].
pub fn newest_clients_jar() -> Result<PathBuf> {
    ask_setup("--clients-jar")
}

/// `java`, logging quietly, with `jars` as its class path.
pub(crate) fn java(jars: &[PathBuf]) -> Result<Command> {
    let mut command = Command::new("java");
    let configuration = checkout().join("setup/jars/log4j2.xml");
    command.arg(format!("-Dlog4j2.configurationFile={}", configuration.display()));
    command.arg("-cp").arg(std::env::join_paths(jars)?);
    Ok(command)
}
