// SPDX-License-Identifier: Apache-2.0
//! What the simulated disk holds: bytes and names, with what of them is not synced yet.
//!
//! Bytes: a file's present content, and for each sector changed since the last sync what it held before. Names: the
//! present tree, the synced tree, and the changes in between in order. It must not know the port.

use super::{BeginningCall, Fault, OperationCounts, Outage};
use crate::{DirEntry, DiskError, DiskOperation};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a disk writes as a whole or not at all.
const SECTOR_BYTES: u64 = 512;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    Dir,
    File(u64),
}

#[derive(Debug, Default)]
struct Inode {
    bytes: Vec<u8>,
    synced_len: u64,
    /// What each sector changed since the last sync held then (cut at the synced length).
    before: BTreeMap<u64, Vec<u8>>,
    /// Sectors whose sync failed: later syncs believe them clean.
    doomed: BTreeMap<u64, Vec<u8>>,
    /// The length at the failed sync's predecessor, if one failed.
    doomed_len: Option<u64>,
}

#[derive(Debug, Clone)]
enum NameChange {
    Set(PathBuf, Node),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

impl NameChange {
    fn dir(&self) -> &Path {
        let (Self::Set(path, _) | Self::Remove(path) | Self::Rename(_, path)) = self;
        path.parent().unwrap_or(Path::new(""))
    }

    /// A change in a folder goes where the folder goes.
    fn folder_renamed(&mut self, from: &Path, to: &Path) {
        if !self.dir().starts_with(from) {
            return;
        }
        match self {
            Self::Set(path, _) | Self::Remove(path) => *path = renamed(path, from, to),
            Self::Rename(before, after) => {
                *before = renamed(before, from, to);
                *after = renamed(after, from, to);
            }
        }
    }
}

/// The path of what had this path, after a rename.
fn renamed(path: &Path, from: &Path, to: &Path) -> PathBuf {
    match path.strip_prefix(from) {
        Ok(rest) if rest.as_os_str().is_empty() => to.to_path_buf(),
        Ok(rest) => to.join(rest),
        Err(_) => path.to_path_buf(),
    }
}

/// What a mutating call does: whether its effect takes place, and what it answers.
#[derive(Debug)]
pub(super) struct Happens {
    pub(super) apply: bool,
    pub(super) outcome: Result<(), DiskError>,
}

/// What a test runs before calls.
#[derive(Clone)]
pub(super) struct Hook(pub(super) Arc<dyn Fn(BeginningCall<'_>) + Send + Sync>);

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) hook: Option<Hook>,
    names: BTreeMap<PathBuf, Node>,
    synced_names: BTreeMap<PathBuf, Node>,
    unsynced_names: Vec<NameChange>,
    inodes: BTreeMap<u64, Inode>,
    /// Open handles of this boot by file: they keep its space after its name has gone.
    handles: BTreeMap<u64, u64>,
    next_inode: u64,
    random: u64,
    pub(super) boot: u64,
    pub(super) crashed: bool,
    pub(super) crash_at: Option<u64>,
    pub(super) capacity: Option<u64>,
    pub(super) faults: Vec<Fault>,
    pub(super) counts: OperationCounts,
    pub(super) locks: BTreeSet<PathBuf>,
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        let root: BTreeMap<PathBuf, Node> =
            [(PathBuf::from("/"), Node::Dir), (PathBuf::new(), Node::Dir)].into_iter().collect();
        Self {
            hook: None,
            names: root.clone(),
            synced_names: root,
            unsynced_names: Vec::new(),
            inodes: BTreeMap::new(),
            handles: BTreeMap::new(),
            next_inode: 1,
            random: seed,
            boot: 0,
            crashed: false,
            crash_at: None,
            capacity: None,
            faults: Vec::new(),
            counts: OperationCounts::default(),
            locks: BTreeSet::new(),
        }
    }

    /// The next number below `bound` (above 0), by splitmix64.
    pub(super) fn random_below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn crashed_error(operation: DiskOperation, path: &Path) -> DiskError {
        DiskError::new(operation, path, io::Error::other("the simulated machine has crashed"))
    }

    /// Whether a call that changes nothing may go on.
    pub(super) fn observe(&mut self, operation: DiskOperation, path: &Path) -> Result<(), DiskError> {
        if self.crashed {
            return Err(Self::crashed_error(operation, path));
        }
        self.injected(operation, path)
    }

    /// Counts a call that changes something and says what becomes of it.
    pub(super) fn mutate(&mut self, operation: DiskOperation, path: &Path) -> Result<Happens, DiskError> {
        self.observe(operation, path)?;
        let number = self.counts.mutations;
        self.counts.mutations += 1;
        if self.crash_at == Some(number) {
            self.crashed = true;
            let apply = self.random_below(2) == 1;
            return Ok(Happens { apply, outcome: Err(Self::crashed_error(operation, path)) });
        }
        Ok(Happens { apply: true, outcome: Ok(()) })
    }

    fn injected(&mut self, operation: DiskOperation, path: &Path) -> Result<(), DiskError> {
        let text = path.to_string_lossy();
        for fault in &mut self.faults {
            if fault.operation != operation || !text.ends_with(&fault.path_suffix) {
                continue;
            }
            if fault.after > 0 {
                fault.after -= 1;
            } else if fault.times > 0 {
                fault.times -= 1;
                return Err(DiskError::new(operation, path, io::Error::other("injected input/output error")));
            }
        }
        Ok(())
    }
}

// === names ===

impl State {
    pub(super) fn node(&self, path: &Path) -> Option<Node> {
        self.names.get(path).copied()
    }

    pub(super) fn is_dir(&self, path: &Path) -> bool {
        self.node(path) == Some(Node::Dir)
    }

    pub(super) fn list(&self, dir: &Path) -> Option<Vec<DirEntry>> {
        if !self.is_dir(dir) {
            return None;
        }
        let mut entries: Vec<DirEntry> = self
            .names
            .iter()
            .filter(|(path, _)| path.parent() == Some(dir))
            .filter_map(|(path, node)| {
                let name = path.file_name()?.to_str()?.to_owned();
                Some(match node {
                    Node::Dir => DirEntry { name, is_dir: true, len: 0 },
                    Node::File(inode) => DirEntry { name, is_dir: false, len: self.len(*inode) },
                })
            })
            .collect();
        entries.sort();
        Some(entries)
    }

    fn change(&mut self, change: NameChange) {
        apply_change(&mut self.names, &change);
        self.unsynced_names.push(change);
    }

    pub(super) fn create_dir_all(&mut self, path: &Path) {
        let missing: Vec<PathBuf> =
            path.ancestors().take_while(|path| !self.names.contains_key(*path)).map(Path::to_path_buf).collect();
        for dir in missing.into_iter().rev() {
            self.change(NameChange::Set(dir, Node::Dir));
        }
    }

    pub(super) fn create_file(&mut self, path: &Path) -> u64 {
        let inode = self.next_inode;
        self.next_inode += 1;
        self.inodes.insert(inode, Inode::default());
        self.change(NameChange::Set(path.to_path_buf(), Node::File(inode)));
        inode
    }

    pub(super) fn remove(&mut self, path: &Path) {
        self.change(NameChange::Remove(path.to_path_buf()));
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) {
        self.change(NameChange::Rename(from.to_path_buf(), to.to_path_buf()));
    }

    /// Everything below and including the path, deepest first.
    pub(super) fn tree_below(&self, path: &Path) -> Vec<PathBuf> {
        self.names.keys().filter(|name| name.starts_with(path)).rev().cloned().collect()
    }

    /// Makes the changes of names in a folder durable. A change in another folder that came before may still be lost.
    pub(super) fn sync_dir(&mut self, dir: &Path) {
        let mut left: Vec<NameChange> = Vec::new();
        for change in std::mem::take(&mut self.unsynced_names) {
            if change.dir() != dir {
                left.push(change);
                continue;
            }
            apply_change(&mut self.synced_names, &change);
            if let NameChange::Rename(from, to) = &change {
                // Another folder may have the name by now: what came before is none of it.
                for earlier in &mut left {
                    earlier.folder_renamed(from, to);
                }
            }
        }
        self.unsynced_names = left;
    }
}

fn apply_change(names: &mut BTreeMap<PathBuf, Node>, change: &NameChange) {
    match change {
        NameChange::Set(path, node) => {
            names.insert(path.clone(), *node);
        }
        NameChange::Remove(path) => {
            names.remove(path);
        }
        NameChange::Rename(from, to) => {
            let moved: Vec<PathBuf> = names.keys().filter(|name| name.starts_with(from)).cloned().collect();
            for name in moved {
                let Some(node) = names.remove(&name) else { continue };
                names.insert(renamed(&name, from, to), node);
            }
        }
    }
}

// === bytes ===

impl State {
    pub(super) fn len(&self, inode: u64) -> u64 {
        self.inodes.get(&inode).map_or(0, |inode| inode.bytes.len() as u64)
    }

    /// Bytes of files that have a name or an open handle. What else is kept could only come back by a loss of power.
    pub(super) fn used(&self) -> u64 {
        let named = self.names.values().filter_map(|node| match node {
            Node::File(inode) => Some(*inode),
            Node::Dir => None,
        });
        let held: BTreeSet<u64> = named.chain(self.handles.keys().copied()).collect();
        held.into_iter().map(|inode| self.len(inode)).sum()
    }

    pub(super) fn handle_opened(&mut self, inode: u64) {
        *self.handles.entry(inode).or_default() += 1;
    }

    pub(super) fn handle_dropped(&mut self, inode: u64) {
        if let Some(count) = self.handles.get_mut(&inode) {
            *count -= 1;
            if *count == 0 {
                self.handles.remove(&inode);
            }
        }
    }

    /// How many of `len` bytes at `offset` fit on the disk.
    pub(super) fn room(&self, inode: u64, offset: u64, len: usize) -> usize {
        let Some(capacity) = self.capacity else { return len };
        let growth = (offset + len as u64).saturating_sub(self.len(inode));
        let over = growth.saturating_sub(capacity.saturating_sub(self.used()));
        len.saturating_sub(over as usize)
    }

    pub(super) fn read(&self, inode: u64, offset: u64, len: usize) -> &[u8] {
        let Some(inode) = self.inodes.get(&inode) else { return &[] };
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(inode.bytes.len());
        let to = from.saturating_add(len).min(inode.bytes.len());
        &inode.bytes[from..to]
    }

    pub(super) fn write(&mut self, inode: u64, bytes: &[u8], offset: u64) {
        let Some(inode) = self.inodes.get_mut(&inode) else { return };
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len() as u64;
        let from = offset.min(inode.bytes.len() as u64);
        inode.note_before(from, end);
        if inode.bytes.len() < end as usize {
            inode.bytes.resize(end as usize, 0);
        }
        inode.bytes[offset as usize..end as usize].copy_from_slice(bytes);
    }

    pub(super) fn set_len(&mut self, inode: u64, len: u64) {
        let Some(inode) = self.inodes.get_mut(&inode) else { return };
        let present = inode.bytes.len() as u64;
        inode.note_before(len.min(present), len.max(present));
        inode.bytes.resize(len as usize, 0);
    }

    pub(super) fn sync(&mut self, inode: u64) {
        let Some(inode) = self.inodes.get_mut(&inode) else { return };
        inode.before.clear();
        inode.synced_len = inode.bytes.len() as u64;
    }

    /// A sync failed: what was unsynced counts as clean from now on and will be lost.
    pub(super) fn lose_unsynced_later(&mut self, inode: u64) {
        let Some(inode) = self.inodes.get_mut(&inode) else { return };
        let before = std::mem::take(&mut inode.before);
        for (sector, bytes) in before {
            inode.doomed.entry(sector).or_insert(bytes);
        }
        inode.doomed_len.get_or_insert(inode.synced_len);
    }

    pub(super) fn corrupt(&mut self, path: &Path, offset: u64, mask: u8) {
        let Some(Node::File(inode)) = self.node(path) else { return };
        let Some(inode) = self.inodes.get_mut(&inode) else { return };
        if let Some(byte) = inode.bytes.get_mut(offset as usize) {
            *byte ^= mask;
        }
    }

    pub(super) fn restart(&mut self, outage: Outage) {
        if outage != Outage::ProcessDeath {
            self.lose_names(outage);
            let inodes: Vec<u64> = self.inodes.keys().copied().collect();
            for inode in inodes {
                self.lose_bytes(inode, outage);
            }
        }
        // Files without a name are gone once their handles are.
        let named: BTreeSet<u64> = self
            .names
            .values()
            .chain(self.synced_names.values())
            .filter_map(|node| match node {
                Node::File(inode) => Some(*inode),
                Node::Dir => None,
            })
            .collect();
        self.inodes.retain(|inode, _| named.contains(inode));
        self.locks.clear();
        self.handles.clear();
        self.boot += 1;
        self.crashed = false;
        self.crash_at = None;
    }

    fn lose_names(&mut self, outage: Outage) {
        let changes = std::mem::take(&mut self.unsynced_names);
        let dirs: BTreeSet<PathBuf> = changes.iter().map(|change| change.dir().to_path_buf()).collect();
        let mut kept: BTreeMap<PathBuf, u64> = BTreeMap::new();
        for dir in dirs {
            let count = changes.iter().filter(|change| change.dir() == dir).count() as u64;
            let keep = if outage == Outage::PowerLoss { self.random_below(count + 1) } else { 0 };
            kept.insert(dir, keep);
        }
        for change in &changes {
            if let Some(left) = kept.get_mut(change.dir())
                && *left > 0
            {
                *left -= 1;
                apply_change(&mut self.synced_names, change);
            }
        }
        // What lies in a folder that is gone is gone.
        let names = std::mem::take(&mut self.synced_names);
        self.synced_names = names
            .iter()
            .filter(|(path, _)| path.ancestors().all(|above| names.contains_key(above)))
            .map(|(path, node)| (path.clone(), *node))
            .collect();
        self.names = self.synced_names.clone();
    }

    fn lose_bytes(&mut self, number: u64, outage: Outage) {
        let Some(mut inode) = self.inodes.remove(&number) else { return };
        let random_len = |state: &mut Self, inode: &Inode| {
            if outage == Outage::PowerLoss && state.random_below(2) == 1 {
                inode.bytes.len() as u64
            } else {
                inode.synced_len
            }
        };
        let mut len = random_len(self, &inode);
        let mut before = std::mem::take(&mut inode.before);
        let doomed = std::mem::take(&mut inode.doomed);
        if let Some(doomed_len) = inode.doomed_len.take() {
            len = len.min(doomed_len.max(inode.synced_len.min(doomed_len)));
        }
        for (sector, old) in std::mem::take(&mut before) {
            let keep = if outage == Outage::PowerLoss { self.random_below(3) } else { 0 };
            match keep {
                0 => inode.put_sector(sector, &old, 0),
                // Torn at a byte: the new one's first part, the old one's rest.
                1 => {
                    let at = self.random_below(SECTOR_BYTES + 1);
                    inode.put_sector(sector, &old, at as usize);
                }
                _ => {}
            }
        }
        for (sector, old) in doomed {
            inode.put_sector(sector, &old, 0);
        }
        inode.bytes.resize(len as usize, 0);
        inode.synced_len = len;
        self.inodes.insert(number, inode);
    }
}

impl Inode {
    /// Keeps what the sectors of a stretch hold, once per sync.
    fn note_before(&mut self, from: u64, end: u64) {
        let mut sector = from / SECTOR_BYTES;
        while sector * SECTOR_BYTES < end {
            let start = (sector * SECTOR_BYTES) as usize;
            let bytes = &self.bytes;
            self.before.entry(sector).or_insert_with(|| {
                bytes.get(start..).map_or_else(Vec::new, |rest| rest[..rest.len().min(SECTOR_BYTES as usize)].to_vec())
            });
            sector += 1;
        }
    }

    /// Puts back what a sector held, from byte `at` of it on; zeros where it did not exist.
    fn put_sector(&mut self, sector: u64, old: &[u8], at: usize) {
        let start = (sector * SECTOR_BYTES) as usize;
        let needed = start + old.len();
        if self.bytes.len() < needed {
            self.bytes.resize(needed, 0);
        }
        let end = self.bytes.len().min(start + SECTOR_BYTES as usize);
        for index in (start + at).min(end)..end {
            self.bytes[index] = old.get(index - start).copied().unwrap_or(0);
        }
    }
}
