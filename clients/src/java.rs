// SPDX-License-Identifier: Apache-2.0
//! Apache Kafka's command line tools and our own Java checks, run in one JVM (`java/ToolRunner.java` says why).

use crate::jars::{apache_kafka_classpath, checkout, java};
use anyhow::{Context, Result, bail, ensure};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// The longest that one tool may take if nothing else is said; the round trip of 10,000 records takes seconds.
const RUN_LIMIT: Duration = Duration::from_mins(3);

/// A JVM that runs tools one after another. It ends when this is dropped.
#[derive(Debug)]
pub struct JavaTools {
    process: Child,
    commands: ChildStdin,
    answers: Receiver<String>,
    folder: tempfile::TempDir,
    runs: u32,
}

/// What a tool left behind.
#[derive(Clone, Debug)]
pub struct ToolRun {
    /// Its exit status.
    pub status: i32,
    /// What it printed.
    pub stdout: String,
    /// What it complained about, the logs of its libraries included.
    pub stderr: String,
}

impl JavaTools {
    /// Compiles the Java sources of this crate and starts the JVM.
    ///
    /// # Errors
    /// When Apache Kafka's jars are missing (the message names the set-up command), or `java` or `javac` fail.
    pub fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut jars = apache_kafka_classpath()?;
        let classes = compile(&jars, folder.path())?;
        let is_tools = |path: &Path| {
            path.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.starts_with("kafka-tools-") && !name.starts_with("kafka-tools-api-"))
        };
        let tools: Vec<PathBuf> = jars.iter().filter(|path| is_tools(path)).cloned().collect();
        ensure!(tools.len() == 1, "one jar of tools expected, not {tools:?}");
        jars.retain(|path| !is_tools(path));
        let runner = folder.path().join("runner");
        jars.insert(0, runner);
        let mut process = java(&jars)?
            // What shortens short runs: no optimising compiler, no parallel collector.
            .args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx512m", "ToolRunner"])
            .args(tools)
            .arg(classes)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .context("starting java")?;
        let commands = process.stdin.take().context("stdin is a pipe")?;
        let stdout = process.stdout.take().context("stdout is a pipe")?;
        // One line per run, and the next run starts after the line was read: the channel holds one at most.
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let Ok(line) = line else { break };
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { process, commands, answers, folder, runs: 0 })
    }

    /// Runs `main_class` with `args`, and `input` on its stdin.
    ///
    /// # Errors
    /// When the JVM ended, or the tool takes longer than three minutes. A tool's own failure is its status.
    pub fn run(&mut self, main_class: &str, args: &[&str], input: &str) -> Result<ToolRun> {
        self.run_within(RUN_LIMIT, main_class, args, input)
    }

    /// As [`JavaTools::run`] with another limit.
    ///
    /// # Errors
    /// When the JVM ended, or the tool takes longer than `limit`.
    pub fn run_within(&mut self, limit: Duration, main_class: &str, args: &[&str], input: &str) -> Result<ToolRun> {
        self.runs += 1;
        let file = |what: &str| self.folder.path().join(format!("{}.{what}", self.runs));
        let (stdin, stdout, stderr) = (file("in"), file("out"), file("err"));
        std::fs::write(&stdin, input)?;
        let mut fields = vec![
            stdin.to_str().context("temporary folder's name")?,
            stdout.to_str().context("temporary folder's name")?,
            stderr.to_str().context("temporary folder's name")?,
            main_class,
        ];
        fields.extend(args);
        ensure!(fields.iter().all(|field| !field.contains(['\t', '\n'])), "an argument with a tab or line end");
        writeln!(self.commands, "{}", fields.join("\t"))?;
        self.commands.flush()?;
        let answer = match self.answers.recv_timeout(limit) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => {
                let complaint = std::fs::read_to_string(&stderr).unwrap_or_default();
                bail!("{main_class} {args:?} did not end within {limit:?}; stderr: {complaint}")
            }
            Err(RecvTimeoutError::Disconnected) => bail!("the JVM ended in {main_class}"),
        };
        let status = answer
            .strip_prefix("exit ")
            .and_then(|status| status.parse().ok())
            .with_context(|| format!("unexpected answer {answer:?}"))?;
        Ok(ToolRun { status, stdout: std::fs::read_to_string(&stdout)?, stderr: std::fs::read_to_string(&stderr)? })
    }

    /// As [`JavaTools::run`], and the tool has to succeed.
    ///
    /// # Errors
    /// Also when its status is not 0; with what it printed.
    pub fn expect_success(&mut self, main_class: &str, args: &[&str], input: &str) -> Result<ToolRun> {
        self.run(main_class, args, input)?.succeeded(&format!("{main_class} {args:?}"))
    }
}

impl ToolRun {
    /// The same, if its status is 0.
    ///
    /// # Errors
    /// When it is not; names `what` ran and says what it printed.
    pub fn succeeded(self, what: &str) -> Result<Self> {
        ensure!(
            self.status == 0,
            "{what} ended with {}\nstdout: {}\nstderr: {}",
            self.status,
            self.stdout,
            self.stderr
        );
        Ok(self)
    }
}

impl Drop for JavaTools {
    fn drop(&mut self) {
        // Failing means that it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Compiles the runner and the checks to folders of their own below `folder`; gives back the checks' folder.
fn compile(jars: &[PathBuf], folder: &Path) -> Result<PathBuf> {
    let sources = checkout().join("clients/java");
    let checks = ["AdminChecks", "FailoverChecks", "GroupChecks"].map(|name| (name, "checks"));
    for (name, target) in std::iter::once(("ToolRunner", "runner")).chain(checks) {
        let output = Command::new("javac")
            .args(["-nowarn", "-proc:none", "-d"])
            .arg(folder.join(target))
            .arg("-cp")
            .arg(std::env::join_paths(jars)?)
            .arg(sources.join(format!("{name}.java")))
            .output()
            .context("running javac (`setup/install clients` installs a JDK)")?;
        ensure!(output.status.success(), "javac: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(folder.join("checks"))
}
