// SPDX-License-Identifier: Apache-2.0
//! Short-lived programs: run to the end within a deadline, with what they printed in the error.

use std::ffi::OsStr;
use std::io::{Read as _, Seek as _};
use std::process::{Child, Command as StdCommand, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

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
    command.args(arguments);
    output_blocking(command, SYSTEM_PATIENCE)
}

/// As [`output`], where nothing can be awaited.
pub fn output_blocking(mut command: StdCommand, patience: Duration) -> Result<String> {
    // Files, since somebody would have to empty pipes.
    let (mut printed_to, mut complained_to) = (tempfile::tempfile()?, tempfile::tempfile()?);
    command.stdin(Stdio::null()).stdout(printed_to.try_clone()?).stderr(complained_to.try_clone()?);
    let shown = shown(&command);
    let child = command.spawn().with_context(|| format!("`{shown}` cannot be started"))?;
    let status = wait_blocking(child, &shown, patience)?;
    let mut output = Output { status, stdout: Vec::new(), stderr: Vec::new() };
    for (file, text) in [(&mut printed_to, &mut output.stdout), (&mut complained_to, &mut output.stderr)] {
        file.rewind()?;
        file.read_to_end(text)?;
    }
    printed(&shown, &output)
}

/// How a child ended; it is killed when it has not after `patience`.
#[expect(clippy::disallowed_methods, reason = "a child can only be polled without a runtime")]
pub fn wait_blocking(mut child: Child, shown: &str, patience: Duration) -> Result<ExitStatus> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            bail!("`{shown}` has not ended after {patience:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_does_not_end_is_killed_at_its_deadline() {
        let started = Instant::now();
        let mut sleeper = StdCommand::new("sleep");
        sleeper.arg("60");
        let said = output_blocking(sleeper, Duration::from_millis(50)).unwrap_err().to_string();
        assert!(said.contains("`sleep 60` has not ended"), "{said}");
        assert!(started.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn more_than_a_pipe_holds_is_read_and_a_failure_has_what_was_complained_of() {
        let mut talker = StdCommand::new("sh");
        talker.args(["-c", "head -c 1000000 /dev/zero | tr '\\0' x"]);
        assert_eq!(output_blocking(talker, SYSTEM_PATIENCE).unwrap().len(), 1_000_000);
        let mut failing = StdCommand::new("sh");
        failing.args(["-c", "echo the reason >&2; exit 3"]);
        let said = output_blocking(failing, SYSTEM_PATIENCE).unwrap_err().to_string();
        assert!(said.contains("the reason") && said.contains('3'), "{said}");
    }
}
