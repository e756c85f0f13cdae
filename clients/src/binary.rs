// SPDX-License-Identifier: Apache-2.0
//! Our own programs: where they are, or built now. Knows cargo and folders, not what the programs do.

use crate::jars::checkout;
use anyhow::{Context, Result, anyhow, bail, ensure};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// The `odradek` binary: `ODRADEK_BIN`, or built now.
pub(crate) fn odradek() -> Result<PathBuf> {
    program("odradek", "ODRADEK_BIN")
}

/// The `odradek-broker` binary: `ODRADEK_BROKER_BIN`, or built now.
pub(crate) fn odradek_broker() -> Result<PathBuf> {
    program("odradek-broker", "ODRADEK_BROKER_BIN")
}

/// The binary `name` of the package of that name: what the environment's `variable` names, or built once by cargo, in the
/// profile and target folder of this very program.
///
/// # Errors
/// When the variable names no file, or cargo fails; the same each time.
pub fn program(name: &'static str, variable: &str) -> Result<PathBuf> {
    static FOUND: Mutex<BTreeMap<&str, Result<PathBuf, String>>> = Mutex::new(BTreeMap::new());
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    let program = found.entry(name).or_insert_with(|| find_or_build(name, variable).map_err(|e| format!("{e:#}")));
    program.clone().map_err(|error| anyhow!("no {name} binary: {error}"))
}

fn find_or_build(name: &str, variable: &str) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        let path = PathBuf::from(path);
        ensure!(path.is_file(), "{variable} is {}, which is no file", path.display());
        return Ok(path);
    }
    // target/PROFILE/PROGRAM, or target/PROFILE/deps/PROGRAM for tests.
    let program = std::env::current_exe()?;
    let mut folder = program.parent().context("a program is in a folder")?;
    if folder.ends_with("deps") {
        folder = folder.parent().context("deps is in a folder")?;
    }
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(name) => name,
        None => bail!("{} is in no profile's folder", program.display()),
    };
    let target = folder.parent().context("a profile's folder is in a folder")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--quiet", "--package", name, "--bin", name, "--profile", profile, "--target-dir"])
        .arg(target)
        .current_dir(checkout())
        .output()
        .context("running cargo")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(folder.join(name))
}
