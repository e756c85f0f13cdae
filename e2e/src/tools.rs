// SPDX-License-Identifier: Apache-2.0
//! Where the programs are that the harness starts: those that set-up built are asked of `setup/tool`
//! (which builds them when they are missing), the others come from the operating system.

use std::collections::BTreeMap;
use std::env;
use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::command::wait_blocking;

/// The longest build takes 7 minutes on 2 cores; another process may be at one before it.
const BUILD_PATIENCE: Duration = Duration::from_mins(30);

/// The root folder of the project's checkout.
pub fn project_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the manifest of this crate lies in a folder of the project")
}

/// The binary that is every Kubernetes component: start `<its folder>/kube-apiserver` and so on.
pub fn kubernetes(component: &str) -> Result<PathBuf> {
    Ok(built("kubernetes")?.with_file_name(component))
}

/// A tool that `setup/tool` builds from locked Go modules: its path.
pub fn built(name: &str) -> Result<PathBuf> {
    static KNOWN: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    // Held while it is built: whoever else wants it would only wait for the same.
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = known.get(name) {
        return Ok(path.clone());
    }
    let mut printed_to = tempfile::tempfile()?;
    let mut command = Command::new(project_root().join("setup/tool"));
    // What it says about its progress is for the person who waits.
    command.arg(name).stdin(Stdio::null()).stdout(printed_to.try_clone()?).stderr(Stdio::inherit());
    let status = wait_blocking(command.spawn().context("setup/tool cannot be run")?, "setup/tool", BUILD_PATIENCE)?;
    ensure!(status.success(), "setup/tool {name}: {status}");
    let mut path = String::new();
    printed_to.rewind()?;
    printed_to.read_to_string(&mut path).context("setup/tool printed no text")?;
    let path = PathBuf::from(path.trim_end());
    ensure!(path.is_absolute(), "setup/tool {name} printed {}, which is no path", path.display());
    known.insert(name.to_owned(), path.clone());
    Ok(path)
}

/// A program of the operating system, in PATH or in one of the folders for system programs.
pub fn system(name: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
        .with_context(|| format!("{name} is not installed: run setup/install kubernetes"))
}
