// SPDX-License-Identifier: Apache-2.0
//! Where the programs are that the harness starts: those that set-up built are asked of `setup/tool`
//! (which builds them when they are missing), the others come from the operating system.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

/// The root folder of the project's checkout.
pub fn project_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the manifest of this crate lies in a folder of the project")
}

/// The binary that is every Kubernetes component: start `<its folder>/kube-apiserver` and so on.
pub fn kubernetes(component: &str) -> Result<PathBuf> {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = match FOLDER.get() {
        Some(folder) => folder,
        None => FOLDER.get_or_init({
            let binary = built("kubernetes")?;
            let folder = binary.parent().context("setup/tool printed a bare name")?.to_owned();
            move || folder
        }),
    };
    Ok(folder.join(component))
}

/// A tool that `setup/tool` builds from locked Go modules: its path.
pub fn built(name: &str) -> Result<PathBuf> {
    let output = Command::new(project_root().join("setup/tool"))
        .arg(name)
        .stderr(Stdio::inherit())
        .output()
        .context("setup/tool cannot be run")?;
    if !output.status.success() {
        bail!("setup/tool {name}: {}", output.status);
    }
    let path = String::from_utf8(output.stdout).context("setup/tool printed no text")?;
    Ok(PathBuf::from(path.trim_end()))
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
