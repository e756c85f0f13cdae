// SPDX-License-Identifier: Apache-2.0
//! The socket through which `odradek dev broker` reaches a running `odradek dev`: where it is, what is said on it, and who
//! answers. A request is a line of JSON, and so is the answer; a connection carries one of each.
//! It must not know how a broker is killed, nor how an answer is shown.
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::cluster::{BrokerRow, Cluster, RESTART_TIME};
use super::plan::Plan;

/// Names the socket for `odradek dev broker`; `odradek dev --exec` sets it for its command.
pub(super) const CONTROL_VARIABLE: &str = "ODRADEK_DEV_CONTROL";
/// The longest request: the longest of ours has 40 bytes.
const LARGEST_REQUEST: u64 = 1024;
/// The longest answer: 16 brokers whose folder names are as long as systems let them be (4096 bytes).
const LARGEST_ANSWER: u64 = 128 * 1024;
/// A request is one write of a program on this machine, an answer one read.
const TRANSFER_TIME: Duration = Duration::from_secs(5);
/// The longest work is a restart: up to 11 s for the kill, then the wait for the broker to serve.
const ANSWER_TIME: Duration = RESTART_TIME.saturating_add(Duration::from_secs(20));
/// Requests at work at once: one for each broker that could be restarting. The next ones wait.
const CONNECTIONS: usize = super::MOST_BROKERS as usize;
/// What a socket's name ends in.
const ENDING: &str = ".sock";

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "camelCase", deny_unknown_fields)]
pub(super) enum Request {
    List {},
    Kill { broker: i32 },
    Pause { broker: i32 },
    Resume { broker: i32 },
    Restart { broker: i32 },
}

/// What is answered: how the brokers are now, or why it was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Answer {
    Brokers(Vec<BrokerRow>),
    Error(String),
}

// === the side of `odradek dev` ===

/// The open socket. Dropping it takes the name away.
#[derive(Debug)]
pub(super) struct ControlSocket {
    path: PathBuf,
    serving: AbortHandle,
}

impl ControlSocket {
    /// Opens the socket at `path`, or in the usual place, and answers there until it is dropped. Without a usual place
    /// (a read-only temporary folder) brokers run all the same: then there is none.
    pub(super) fn open(path: Option<&Path>, plan: &Plan, cluster: Arc<Cluster>) -> anyhow::Result<Option<Self>> {
        let opened = if let Some(path) = path {
            listen(path).with_context(|| format!("--control {}", path.display()))?
        } else {
            let name = format!("{}{ENDING}", plan.brokers[0].address());
            match usual_folder(true).and_then(|folder| listen(&folder.join(name))) {
                Ok(opened) => opened,
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), "no socket for `odradek dev broker`");
                    return Ok(None);
                }
            }
        };
        let (path, listener) = opened;
        let serving = tokio::spawn(serve(listener, cluster)).abort_handle();
        Ok(Some(Self { path, serving }))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        self.serving.abort();
        // One that is left behind refuses connections, and the next broker there replaces it.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A folder that is this user's alone: the runtime folder of the session, else one in the temporary folder.
fn usual_folder(create: bool) -> anyhow::Result<PathBuf> {
    let user = rustix::process::geteuid().as_raw();
    let folder = match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(runtime) if !runtime.is_empty() => PathBuf::from(runtime).join("odradek-dev"),
        _ => std::env::temp_dir().join(format!("odradek-dev-{user}")),
    };
    if create {
        match std::fs::DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| folder.display().to_string()),
        }
    }
    // Whoever else could write there could put a socket of his in ours' place.
    if let Ok(found) = std::fs::symlink_metadata(&folder) {
        let is_ours = found.is_dir() && found.uid() == user && found.mode() & 0o022 == 0;
        ensure!(is_ours, "{} is not a folder of this user alone", folder.display());
    }
    Ok(folder)
}

fn listen(path: &Path) -> anyhow::Result<(PathBuf, UnixListener)> {
    let path = std::path::absolute(path)?;
    // The brokers' ports are ours, so nobody else serves under this name, unless it was chosen: then it must not be in use.
    if std::os::unix::net::UnixStream::connect(&path).is_ok() {
        bail!("another `odradek dev` listens at {}", path.display());
    }
    if std::fs::symlink_metadata(&path).is_ok_and(|found| std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()))
    {
        std::fs::remove_file(&path)?;
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok((path, listener))
}

async fn serve(listener: UnixListener, cluster: Arc<Cluster>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let cluster = Arc::clone(&cluster);
                tokio::spawn(async move {
                    if let Err(error) = answer(stream, &cluster).await {
                        tracing::debug!(%error, "a control connection ended early");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                // Descriptors have run out, usually, and come back.
                tracing::warn!(%error, "cannot accept a control connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(stream: UnixStream, cluster: &Cluster) -> anyhow::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    timeout(TRANSFER_TIME, BufReader::new(reader.take(LARGEST_REQUEST)).read_line(&mut line)).await??;
    let answer = match serde_json::from_str(&line) {
        Ok(request) => match carry_out(request, cluster).await {
            Ok(()) => Answer::Brokers(cluster.list()),
            Err(error) => Answer::Error(format!("{error:#}")),
        },
        Err(error) => Answer::Error(format!("not a request: {error}")),
    };
    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    timeout(TRANSFER_TIME, writer.write_all(&line)).await??;
    Ok(())
}

async fn carry_out(request: Request, cluster: &Cluster) -> anyhow::Result<()> {
    match request {
        Request::List {} => Ok(()),
        Request::Kill { broker } => cluster.kill(broker).await,
        Request::Pause { broker } => cluster.pause(broker).await,
        Request::Resume { broker } => cluster.resume(broker).await,
        Request::Restart { broker } => cluster.restart(broker).await,
    }
}

// === the side of `odradek dev broker` ===

/// The socket at `path`, or the only one in the usual place that is answered.
pub(super) async fn connect(path: Option<&Path>) -> anyhow::Result<UnixStream> {
    if let Some(path) = path {
        let context = || format!("no `odradek dev` listens at {}", path.display());
        return UnixStream::connect(path).await.with_context(context);
    }
    let folder = usual_folder(false)?;
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => Some(entries),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| folder.display().to_string()),
    };
    for entry in entries.into_iter().flatten() {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == &ENDING[1..])
            && let Ok(stream) = UnixStream::connect(&path).await
        {
            found.push((path, stream));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    if found.len() > 1 {
        let paths: Vec<String> = found.iter().map(|(path, _)| format!("--control {}", path.display())).collect();
        bail!("several `odradek dev` run; choose one: {}", paths.join(", or "));
    }
    let (_, stream) = found.pop().context("no `odradek dev` runs here (one with --control is found by that only)")?;
    Ok(stream)
}

/// Asks, and waits for the answer.
pub(super) async fn ask(stream: UnixStream, request: Request) -> anyhow::Result<Vec<BrokerRow>> {
    let (reader, mut writer) = stream.into_split();
    let mut bytes = Vec::new();
    serde_json::to_writer(&mut bytes, &request)?;
    bytes.push(b'\n');
    let mut line = String::new();
    let exchange = async {
        writer.write_all(&bytes).await?;
        BufReader::new(reader.take(LARGEST_ANSWER)).read_line(&mut line).await
    };
    timeout(ANSWER_TIME, exchange).await.context("`odradek dev` does not answer")?.context("`odradek dev` is gone")?;
    ensure!(!line.is_empty(), "`odradek dev` is gone");
    match serde_json::from_str(&line).context("an answer of another version")? {
        Answer::Brokers(rows) => Ok(rows),
        Answer::Error(error) => bail!(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_what_the_documentation_says() {
        for (text, request) in [
            (r#"{"verb":"list"}"#, Request::List {}),
            (r#"{"verb":"kill","broker":1}"#, Request::Kill { broker: 1 }),
            (r#"{"verb":"restart","broker":0}"#, Request::Restart { broker: 0 }),
        ] {
            assert_eq!(serde_json::from_str::<Request>(text).unwrap(), request);
            assert_eq!(serde_json::to_string(&request).unwrap(), text);
        }
        for text in ["", "{}", r#"{"verb":"kill"}"#, r#"{"verb":"list","broker":1}"#, r#"{"verb":"stop"}"#, "[1]"] {
            assert!(serde_json::from_str::<Request>(text).is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn a_socket_is_for_its_user_only_and_one_left_behind_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sock");
        let (_, first) = listen(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(listen(&path).unwrap_err().to_string().contains("another"));
        drop(first);
        assert!(listen(&path).is_ok());
        // What is no socket is not replaced.
        let other = folder.path().join("file");
        std::fs::write(&other, "mine").unwrap();
        assert!(listen(&other).is_err());
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "mine");
    }
}
