// SPDX-License-Identifier: Apache-2.0
//! Short-lived programs: run to the end within a deadline, with what they printed in the error.

use std::ffi::OsStr;
use std::process::{Command as StdCommand, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use crate::tools;

/// For programs that only ask the kernel for something: they take milliseconds.
const SYSTEM_PATIENCE: Duration = Duration::from_secs(30);

/// What a program printed to its standard output; an error with its standard error when it failed.
pub async fn output(command: Command, patience: Duration) -> Result<String> {
    output_with_input(command, Stdio::null(), patience).await
}

/// As [`output`], with this standard input.
pub async fn output_with_input(mut command: Command, input: Stdio, patience: Duration) -> Result<String> {
    command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let shown = shown(command.as_std());
    let output = tokio::time::timeout(patience, command.output())
        .await
        .with_context(|| format!("`{shown}` has not ended after {patience:?}"))?
        .with_context(|| format!("`{shown}` cannot be started"))?;
    printed(&shown, &output)
}

/// Runs a program of the operating system, such as `ip`.
pub async fn system<A: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = A>) -> Result<String> {
    let mut command = Command::new(tools::system(program)?);
    command.args(arguments);
    output(command, SYSTEM_PATIENCE).await
}

/// As [`system`], for tear-down, which may run where nothing can be awaited.
pub fn system_blocking<A: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = A>) -> Result<String> {
    let mut command = StdCommand::new(tools::system(program)?);
    command.args(arguments).stdin(Stdio::null());
    let shown = shown(&command);
    let output = command.output().with_context(|| format!("`{shown}` cannot be started"))?;
    printed(&shown, &output)
}

/// The command as a person would type it.
pub fn shown(command: &StdCommand) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

fn printed(shown: &str, output: &Output) -> Result<String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("`{shown}`: {}\n{}{text}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(text)
}
