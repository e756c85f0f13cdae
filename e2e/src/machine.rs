// SPDX-License-Identifier: Apache-2.0
//! The right to run a test cluster on this machine. One runs at a time, since its network's names and addresses are
//! fixed; the file that says so also names the holder and its folder, so that a later run can say whom it waits for and
//! remove what a killed one left. It must not know what a cluster is made of.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};

use crate::wait::until;

/// Not in `TMPDIR`: whoever runs a cluster here has to find the same file.
const LOCK: &str = "/tmp/odradek-e2e.lock";
/// A run of all scenarios takes about ten minutes.
const PATIENCE: Duration = Duration::from_mins(15);

/// The right; given back on drop, and by the kernel when the process is killed.
#[derive(Debug)]
pub struct Machine {
    file: File,
    left: Option<PathBuf>,
}

/// The process that has the right now.
#[derive(Debug)]
pub struct Holder {
    pub process: i32,
    /// The name of its program.
    pub program: String,
}

impl Machine {
    /// Waits until no other cluster runs on this machine.
    pub async fn take() -> Result<Self> {
        Self::take_from(Path::new(LOCK), PATIENCE).await
    }

    /// Takes the right if nobody has it.
    pub fn try_take() -> Result<Option<Self>> {
        try_take(Path::new(LOCK))
    }

    /// Who has the right now.
    pub fn holder() -> Option<Holder> {
        holder(Path::new(LOCK))
    }

    async fn take_from(path: &Path, patience: Duration) -> Result<Self> {
        let mut said = false;
        until("no other test cluster runs on this machine", patience, async || {
            if let Some(machine) = try_take(path)? {
                return Ok(machine);
            }
            let who = match holder(path) {
                Some(holder) if holder.program == DEMO => {
                    format!("`KEEP=1 make demo` (process {}) holds one: `make demo-down` removes it", holder.process)
                }
                Some(holder) => format!("{} (process {}) runs one", holder.program, holder.process),
                None => "a process runs one that has not written its id yet".to_owned(),
            };
            if !std::mem::replace(&mut said, true) {
                tracing::warn!("waiting for another test cluster on this machine: {who}");
            }
            bail!(who);
        })
        .await
    }

    /// The folder of a run that had the right before and was killed.
    pub fn left_by_a_killed_run(&self) -> Option<&Path> {
        self.left.as_deref()
    }

    /// Writes down which folder this run's things are in.
    pub fn note_folder(&self, folder: &Path) -> Result<()> {
        write(&self.file, &format!("{}\n{}\n", std::process::id(), folder.display()))
    }
}

/// The program that may hold a cluster for hours.
pub const DEMO: &str = "odradek-demo";

impl Drop for Machine {
    fn drop(&mut self) {
        // Nothing is left: whoever takes it next has nothing to remove. An error leaves it a name to look for in vain.
        let _ = self.file.set_len(0);
    }
}

fn try_take(path: &Path) -> Result<Option<Machine>> {
    let file = open(path).with_context(|| format!("{} cannot be opened", path.display()))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(error) if error == rustix::io::Errno::WOULDBLOCK => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("{} cannot be locked", path.display())),
    }
    let left = noted(path).1;
    write(&file, &format!("{}\n{}\n", std::process::id(), left.as_deref().unwrap_or(Path::new("")).display()))?;
    Ok(Some(Machine { file, left }))
}

fn holder(path: &Path) -> Option<Holder> {
    let process = noted(path).0?;
    let program = fs::read_link(format!("/proc/{process}/exe")).ok()?;
    let program = program.file_name().unwrap_or(OsStr::new("?")).to_string_lossy().into_owned();
    Some(Holder { process, program })
}

/// The process and the folder that the file names. A file of another form names none.
fn noted(path: &Path) -> (Option<i32>, Option<PathBuf>) {
    // As much as two lines can need.
    let mut text = String::new();
    if let Ok(file) = File::open(path) {
        let _ = file.take(8192).read_to_string(&mut text);
    }
    let mut lines = text.lines();
    let process = lines.next().and_then(|line| line.parse().ok());
    let folder = lines.next().map(PathBuf::from).filter(|folder| folder.is_absolute());
    (process, folder)
}

/// Without making it first: in a folder that all may write to, the kernel refuses even root to make another's file.
fn open(path: &Path) -> io::Result<File> {
    match File::options().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            File::options().read(true).write(true).create(true).truncate(false).open(path)
        }
        opened => opened,
    }
}

fn write(mut file: &File, text: &str) -> Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(text.as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_second_run_waits_and_says_for_whom() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let first = try_take(&path).unwrap().expect("nobody has it");
        assert!(try_take(&path).unwrap().is_none());
        let said = Machine::take_from(&path, Duration::ZERO).await.unwrap_err().to_string();
        assert!(said.contains(&format!("process {}", std::process::id())), "{said}");
        drop(first);
        Machine::take_from(&path, Duration::ZERO).await.unwrap();
    }

    #[test]
    fn what_a_killed_run_noted_is_told_to_the_next_and_what_an_ended_run_noted_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let machine = try_take(&path).unwrap().unwrap();
        assert_eq!(machine.left_by_a_killed_run(), None);
        machine.note_folder(Path::new("/somewhere/odradek-cluster-x")).unwrap();
        drop(machine);
        assert_eq!(try_take(&path).unwrap().unwrap().left_by_a_killed_run(), None);

        fs::write(&path, "1\n/somewhere/odradek-cluster-y\n").unwrap();
        let next = try_take(&path).unwrap().unwrap();
        assert_eq!(next.left_by_a_killed_run(), Some(Path::new("/somewhere/odradek-cluster-y")));
        drop(next);

        fs::write(&path, "not a process\nnor a path\n").unwrap();
        assert_eq!(try_take(&path).unwrap().unwrap().left_by_a_killed_run(), None);
    }
}
