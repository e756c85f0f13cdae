// SPDX-License-Identifier: Apache-2.0
//! Kafka's own clients, unchanged, as an application in the cluster would run them: Java's tools and
//! kcat (librdkafka). They see the cluster's network and DNS.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::NamedTempFile;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::cluster::Cluster;
use crate::command::output;
use crate::tools;

/// A JVM starts in a second or two, beside compilers in ten; a group's first join waits 3 s for others.
const PATIENCE: Duration = Duration::from_mins(2);

/// Clients of one bootstrap address.
pub struct Clients<'a> {
    cluster: &'a Cluster,
    bootstrap: String,
    jars: PathBuf,
}

impl<'a> Clients<'a> {
    pub async fn new(cluster: &'a Cluster, bootstrap: &str) -> Result<Self> {
        let mut command = Command::new(tools::project_root().join("setup/clients.sh"));
        command.arg("--jars");
        let jars = PathBuf::from(output(command, PATIENCE).await?.trim_end());
        ensure!(jars.is_dir(), "Kafka's Java tools are missing: run setup/install clients");
        Ok(Self { cluster, bootstrap: bootstrap.to_owned(), jars })
    }

    /// A Java tool of Kafka by its class.
    pub fn java(&self, class: &str) -> Result<Command> {
        let mut command = self.cluster.client_command(tools::system("java")?)?;
        let logging = tools::project_root().join("setup/jars/log4j2.xml");
        command
            .args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"])
            .arg(format!("-Dlog4j2.configurationFile={}", logging.display()))
            .arg("-cp")
            .arg(format!("{}/*", self.jars.display()))
            .arg(class)
            .args(["--bootstrap-server", &self.bootstrap]);
        Ok(command)
    }

    /// kcat with these arguments.
    pub fn kcat(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = self.cluster.client_command(tools::system("kcat")?)?;
        command.args(["-b", &self.bootstrap]).args(arguments);
        Ok(command)
    }

    /// Writes each line as one record with Java's console producer, acks=all.
    pub async fn produce_with_java(&self, topic: &str, lines: &[String]) -> Result<()> {
        let mut command = self.java("org.apache.kafka.tools.ConsoleProducer")?;
        command.args(["--topic", topic, "--command-property", "acks=all"]);
        feed(command, lines).await
    }

    /// Writes each line as one record with kcat, acks=all.
    pub async fn produce_with_kcat(&self, topic: &str, lines: &[String]) -> Result<()> {
        feed(self.kcat(&["-P", "-t", topic, "-X", "acks=all"])?, lines).await
    }

    /// The next `count` records of a topic, read with Java's console consumer in a group, which commits.
    pub async fn consume_with_java(&self, topic: &str, group: &str, count: usize) -> Result<Vec<String>> {
        let mut command = self.java("org.apache.kafka.tools.consumer.ConsoleConsumer")?;
        command.args(["--topic", topic, "--group", group, "--from-beginning"]);
        command.args(["--max-messages", &count.to_string()]);
        lines_of(command).await
    }

    /// The next `count` records of a topic, read with kcat in a group, which commits.
    pub async fn consume_with_kcat(&self, topic: &str, group: &str, count: usize) -> Result<Vec<String>> {
        let count = count.to_string();
        let command =
            self.kcat(&["-q", "-G", group, "-c", &count, "-X", "auto.offset.reset=earliest", "-f", "%s\n", topic])?;
        lines_of(command).await
    }

    /// All records of a topic up to its end, without a group.
    pub async fn read_all(&self, topic: &str) -> Result<Vec<String>> {
        lines_of(self.kcat(&["-q", "-C", "-t", topic, "-o", "beginning", "-e", "-f", "%s\n"])?).await
    }

    /// Starts a Java producer that writes the numbers 0, 1, 2 … with acks=all, with Java's own default of
    /// retries and idempotence (the tool's is to give up at once), and records what was acknowledged.
    pub fn start_verifiable_producer(&self, topic: &str, count: u32, per_second: u32) -> Result<VerifiableProducer> {
        let mut settings = NamedTempFile::new()?;
        writeln!(settings, "retries={}\nenable.idempotence=true", i32::MAX)?;
        let mut command = self.java("org.apache.kafka.tools.VerifiableProducer")?;
        command.arg("--command-config").arg(settings.path());
        command.args(["--topic", topic, "--acks", "-1"]);
        command.args(["--max-messages", &count.to_string(), "--throughput", &per_second.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let printed = child.stdout.take().context("its output is piped")?;
        let (sender, acknowledged) = tokio::sync::watch::channel(0);
        let reader = tokio::spawn(async move {
            let mut seen = Acknowledged::default();
            let mut lines = BufReader::new(printed).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                seen.take(&line);
                sender.send_replace(seen.values.len());
            }
            seen
        });
        Ok(VerifiableProducer { child, reader, acknowledged, _settings: settings })
    }
}

/// A running producer.
pub struct VerifiableProducer {
    child: Child,
    reader: JoinHandle<Acknowledged>,
    acknowledged: tokio::sync::watch::Receiver<usize>,
    _settings: NamedTempFile,
}

/// What the brokers said to a producer.
#[derive(Debug, Default)]
pub struct Acknowledged {
    /// Each acknowledged value, and the partition and offset that the acknowledgement named.
    pub values: BTreeMap<String, (i64, i64)>,
    /// Errors that the producer gave to the application after its own retries.
    pub errors: Vec<String>,
}

impl Acknowledged {
    fn take(&mut self, line: &str) {
        let Ok(event) = serde_json::from_str::<serde_json::Value>(line) else { return };
        match event["name"].as_str() {
            Some("producer_send_success") => {
                let place = (event["partition"].as_i64().unwrap_or(-1), event["offset"].as_i64().unwrap_or(-1));
                self.values.insert(event["value"].as_str().unwrap_or_default().to_owned(), place);
            }
            Some("producer_send_error") => self.errors.push(line.to_owned()),
            _ => {}
        }
    }
}

impl VerifiableProducer {
    /// Waits until this many records are acknowledged.
    pub async fn wait_for(&mut self, count: usize) -> Result<()> {
        tokio::time::timeout(PATIENCE, self.acknowledged.wait_for(|acknowledged| *acknowledged >= count))
            .await
            .with_context(|| format!("{count} records are not acknowledged after {PATIENCE:?}"))?
            .context("the producer has ended")?;
        Ok(())
    }

    /// How many records are acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        *self.acknowledged.borrow()
    }

    /// Waits for its end.
    pub async fn finish(mut self) -> Result<Acknowledged> {
        tokio::time::timeout(PATIENCE, self.child.wait()).await.context("the producer does not end")??;
        Ok(self.reader.await?)
    }
}

/// Runs a command with the lines as its standard input.
async fn feed(command: Command, lines: &[String]) -> Result<()> {
    // A file, since one who writes to a pipe has to read the other side at the same time.
    let mut file = NamedTempFile::new()?;
    for line in lines {
        writeln!(file, "{line}")?;
    }
    let input = std::fs::File::open(file.path())?;
    crate::command::output_with_input(command, input.into(), PATIENCE).await?;
    Ok(())
}

async fn lines_of(command: Command) -> Result<Vec<String>> {
    Ok(output(command, PATIENCE).await?.lines().map(str::to_owned).collect())
}
