// SPDX-License-Identifier: Apache-2.0
//! The control groups under which a node's pods run: made before its kubelet starts, and removed with
//! all processes in them. It knows both layouts: one hierarchy per controller (v1) and one for all (v2).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::network::PREFIX;

const MOUNT: &str = "/sys/fs/cgroup";

/// The name of a node's group, as kubelet's `cgroupRoot` wants it.
pub fn name(node: u8) -> String {
    format!("/{PREFIX}-node-{node}")
}

/// Makes a node's group in every hierarchy.
pub fn create(node: u8) -> Result<()> {
    for hierarchy in hierarchies() {
        let folder = hierarchy.join(name(node).trim_start_matches('/'));
        fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        // A new v1 cpuset is empty, and nothing can run in it.
        for setting in ["cpuset.cpus", "cpuset.mems"] {
            if hierarchy.ends_with("cpuset") {
                let value = fs::read(hierarchy.join(setting))?;
                fs::write(folder.join(setting), value)?;
            }
        }
        if hierarchy == Path::new(MOUNT) {
            let controllers = fs::read_to_string(folder.join("cgroup.controllers"))?;
            let all: Vec<String> = controllers.split_whitespace().map(|name| format!("+{name}")).collect();
            fs::write(folder.join("cgroup.subtree_control"), all.join(" "))?;
        }
    }
    Ok(())
}

/// The processes in any node's group.
pub fn processes() -> Vec<i32> {
    let mut found = Vec::new();
    for group in groups() {
        walk(&group, &mut |folder| {
            let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
        });
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// Removes every node's groups. They must have no processes any more; a group that has some stays.
pub fn remove() {
    for group in groups() {
        // The kernel removes a group only when it has no child, and files in it need no removal.
        walk(&group, &mut |folder| drop(fs::remove_dir(folder)));
    }
}

/// Calls `visit` for the folder's children before the folder itself.
fn walk(folder: &Path, visit: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), visit);
        }
    }
    visit(folder);
}

/// The groups of any node that exist now.
pub fn groups() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for hierarchy in hierarchies() {
        for entry in fs::read_dir(hierarchy).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(PREFIX) {
                found.push(entry.path());
            }
        }
    }
    found
}

/// The root of every hierarchy that is mounted.
fn hierarchies() -> Vec<PathBuf> {
    if Path::new(MOUNT).join("cgroup.controllers").exists() {
        return vec![PathBuf::from(MOUNT)];
    }
    let entries = fs::read_dir(MOUNT).into_iter().flatten().flatten();
    let folders = entries.map(|entry| entry.path()).filter(|path| !path.is_symlink());
    folders.filter(|path| path.join("cgroup.procs").exists()).collect()
}
