// SPDX-License-Identifier: Apache-2.0
//! kcat, a command line client on the system's librdkafka: in Debian 12 one of 2023 (2.0.2), so an older dialect of
//! the protocol than the other clients speak.

use crate::process::wait_with_deadline;
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const LIMIT: Duration = Duration::from_mins(3);

/// Runs kcat with `args`; its stdout goes to `stdout` and is given back.
///
/// # Errors
/// When kcat is missing (the message names the set-up command), fails, or takes longer than three minutes.
fn kcat(args: &[&str], stdout: &Path) -> Result<String> {
    let errors = stdout.with_extension("err");
    let mut process = Command::new("kcat")
        .args(args)
        // Cargo's path would put the librdkafka of the checks under kcat, not the system's.
        .env_remove("LD_LIBRARY_PATH")
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(stdout)?)
        .stderr(std::fs::File::create(&errors)?)
        .spawn()
        .context("running kcat (`setup/install clients` installs it)")?;
    let status = wait_with_deadline(&mut process, LIMIT, "kcat");
    let complaint = std::fs::read_to_string(&errors).unwrap_or_default();
    let status = status.with_context(|| format!("kcat {args:?}; stderr: {complaint}"))?;
    ensure!(status.success(), "kcat {args:?} ended with {status}; stderr: {complaint}");
    Ok(std::fs::read_to_string(stdout)?)
}

/// Writes `lines` (key, tab, value) to `topic`, compressed by `codec`.
///
/// # Errors
/// When kcat fails or takes longer than three minutes.
pub fn produce(bootstrap: &str, topic: &str, codec: &str, lines: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let input = folder.path().join("records");
    std::fs::write(&input, lines)?;
    let input = input.to_str().context("temporary folder's name")?;
    kcat(&["-P", "-b", bootstrap, "-t", topic, "-K", "\t", "-z", codec, "-l", input], &folder.path().join("out"))?;
    Ok(())
}

/// Reads `count` records of `topic` as a member of `group`: lines of partition, offset, key, value.
///
/// # Errors
/// As [`produce`].
pub fn consume_in_group(bootstrap: &str, topic: &str, group: &str, count: u32) -> Result<String> {
    let folder = tempfile::tempdir()?;
    kcat(
        &[
            "-b",
            bootstrap,
            "-G",
            group,
            "-X",
            "auto.offset.reset=earliest",
            "-q",
            "-c",
            &count.to_string(),
            "-f",
            "%p\\t%o\\t%k\\t%s\\n",
            topic,
        ],
        &folder.path().join("out"),
    )
}

/// What kcat says about the cluster, as JSON.
///
/// # Errors
/// As [`produce`].
pub fn list(bootstrap: &str) -> Result<String> {
    let folder = tempfile::tempdir()?;
    kcat(&["-L", "-J", "-b", bootstrap], &folder.path().join("out"))
}
