// SPDX-License-Identifier: Apache-2.0
//! The data folder of a simulated broker: logs, checkpoints and the marker of a clean stop, on a disk that lies. It does
//! what the server's folder does, which hangs on tasks. Must not know roles.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use odradek_disk::{Disk, DiskError, SimulatedDisk, read_small_file, write_file_durably};
use odradek_log::{
    ExpectedLog, HIGH_WATERMARK_CHECKPOINT, LOG_START_CHECKPOINT, Log, LogError, LogOptions, LogSettings,
    PartitionOffsets, RECOVERY_POINT_CHECKPOINT, SegmentCache, read_offset_checkpoint, read_topic_id,
    remove_damage_mark, write_offset_checkpoint,
};
use odradek_model::{BrokerEpoch, Offset, Timestamp, TopicId, TopicName, TopicPartition, TopicSettings};

/// Where the logs are.
pub(super) const DATA: &str = "/data";
/// Where the metadata log is.
pub(super) const METADATA: &str = "/data/metadata";
const CLEAN_MARKER: &str = "/data/clean-shutdown";
/// The kernel that has all that the last run wrote.
const KERNEL: &str = "/data/boot-id";

/// See the module.
#[derive(Debug)]
pub(super) struct Folder {
    disk: SimulatedDisk,
    cache: Arc<SegmentCache>,
    clean_shutdown_of: Option<BrokerEpoch>,
    /// Whether nothing that the last run wrote can be lost.
    is_kept: bool,
    /// The kernel that is to be recorded once all logs are recovered.
    unrecorded_kernel: Option<String>,
    high_watermarks: PartitionOffsets,
    recovery_points: PartitionOffsets,
    log_starts: PartitionOffsets,
    /// What was written last, so that an idle broker writes nothing.
    written: [PartitionOffsets; 3],
    removed: u64,
}

/// A log that was opened.
#[derive(Debug)]
pub(super) struct OpenedLog {
    pub(super) log: Log,
    /// As it was checkpointed.
    pub(super) high_watermark: Offset,
    /// Whether the checkpoints on the disk say what does not hold for it.
    pub(super) is_misstated: bool,
    pub(super) is_damaged: bool,
}

/// Whether the folder of a machine without a process has all that was written, as the next start will say.
pub(super) fn is_kept(disk: &SimulatedDisk, kernel: &str) -> bool {
    let recorded = read_small_file(disk, Path::new(KERNEL), 64).expect("a small file");
    is_clean(disk) || recorded.is_some_and(|recorded| recorded == kernel.as_bytes())
}

/// Whether the last run has closed all its logs.
pub(super) fn is_clean(disk: &SimulatedDisk) -> bool {
    disk.exists(Path::new(CLEAN_MARKER)).expect("the disk works")
}

fn checkpoint(name: &str) -> PathBuf {
    Path::new(DATA).join(name)
}

/// The folder of a partition's log.
pub(super) fn log_folder(topic: &TopicName, index: i32) -> PathBuf {
    Path::new(DATA).join(format!("{topic}-{index}"))
}

impl Folder {
    /// Reads what the last run left, and removes its marker. `kernel` is the one that runs.
    pub(super) fn open(disk: &SimulatedDisk, kernel: &str) -> Result<Self, DiskError> {
        let marker = Path::new(CLEAN_MARKER);
        let marked = read_small_file(disk, marker, 64)?;
        if marked.is_some() {
            disk.remove_file(marker)?;
            disk.sync_dir(Path::new(DATA))?;
        }
        let clean_shutdown_of = marked.and_then(|text| String::from_utf8(text).ok()?.parse().ok());
        let read = |name| read_offset_checkpoint(disk, &checkpoint(name)).map(|(offsets, _)| offsets);
        let (high_watermarks, recovery_points) = (read(HIGH_WATERMARK_CHECKPOINT)?, read(RECOVERY_POINT_CHECKPOINT)?);
        let log_starts = read(LOG_START_CHECKPOINT)?;
        let recorded = read_small_file(disk, Path::new(KERNEL), 64)?;
        let is_same = recorded.is_some_and(|recorded| recorded == kernel.as_bytes());
        let is_kept = is_same || clean_shutdown_of.is_some();
        let mut folder = Self {
            disk: disk.clone(),
            cache: Arc::default(),
            clean_shutdown_of,
            is_kept,
            unrecorded_kernel: (!is_same).then(|| kernel.to_owned()),
            written: [high_watermarks.clone(), recovery_points.clone(), log_starts.clone()],
            high_watermarks,
            recovery_points,
            log_starts,
            removed: 0,
        };
        if is_kept {
            folder.recovered()?;
        }
        Ok(folder)
    }

    /// Says that all logs are as the kernel that runs has them.
    pub(super) fn recovered(&mut self) -> Result<(), DiskError> {
        if let Some(kernel) = &self.unrecorded_kernel {
            write_file_durably(&self.disk, Path::new(KERNEL), kernel.as_bytes())?;
            self.unrecorded_kernel = None;
        }
        Ok(())
    }

    /// The controller knows that the log was damaged.
    pub(super) fn damage_is_told(&self, topic: &TopicName, index: i32) -> Result<(), DiskError> {
        remove_damage_mark(&self.disk, &log_folder(topic, index))
    }

    /// The registration under which the last run closed all its logs.
    pub(super) fn clean_shutdown_of(&self) -> Option<BrokerEpoch> {
        self.clean_shutdown_of
    }

    /// Opens a log. `always_flushed` if its topic has forced each record to the disk; `is_new` if it came while this
    /// process ran.
    pub(super) fn open_log(
        &mut self,
        (topic, topic_id, index): (&TopicName, TopicId, i32),
        settings: &TopicSettings,
        always_flushed: bool,
        is_new: bool,
        now_ms: Timestamp,
    ) -> Result<OpenedLog, LogError> {
        let at = TopicPartition { topic: topic.clone(), partition: index };
        let dir = log_folder(topic, index);
        let was_there =
            [&self.high_watermarks, &self.recovery_points, &self.log_starts].iter().any(|o| o.contains_key(&at));
        let is_new_here = is_new || read_topic_id(&self.disk, &dir)? != Some(topic_id);
        if is_new_here {
            self.high_watermarks.remove(&at);
            self.recovery_points.remove(&at);
            self.log_starts.remove(&at);
        }
        if is_new {
            self.set_aside(topic, index)?;
        }
        let recovery_point = self.recovery_points.get(&at).copied().unwrap_or(0);
        let high_watermark = self.high_watermarks.get(&at).copied().unwrap_or(0);
        let expected = ExpectedLog {
            was_there,
            end_offset: high_watermark.max(recovery_point),
            is_kept: self.is_kept,
            is_forced: always_flushed,
        };
        let options = LogOptions {
            dir,
            topic_id,
            settings: LogSettings::new(settings),
            clean: self.clean_shutdown_of.is_some() || is_new,
            recovery_point,
            log_start_offset: self.log_starts.get(&at).copied().unwrap_or(0),
            expected: (!is_new).then_some(expected),
        };
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let (log, report) = Log::open(disk, Arc::clone(&self.cache), options, now_ms, &mut |_| {})?;
        let is_misstated = is_new_here && self.written.iter().any(|written| written.contains_key(&at))
            || recovery_point > log.log_end_offset();
        Ok(OpenedLog { log, high_watermark, is_misstated, is_damaged: report.damage.is_some() })
    }

    /// Removes the folders of partitions that are not wanted here any more.
    pub(super) fn remove_strays(
        &mut self,
        is_wanted: impl Fn(&TopicName, TopicId, i32) -> bool,
    ) -> Result<(), DiskError> {
        for entry in self.disk.list(Path::new(DATA))?.into_iter().filter(|entry| entry.is_dir) {
            if entry.name.ends_with("-delete") {
                self.disk.remove_dir_all(&Path::new(DATA).join(entry.name))?;
                continue;
            }
            let Some((topic, index)) = entry.name.rsplit_once('-') else { continue };
            let (Ok(topic), Ok(index)) = (TopicName::new(topic), index.parse()) else { continue };
            let Some(id) = read_topic_id(&self.disk, &Path::new(DATA).join(&entry.name))? else { continue };
            if !is_wanted(&topic, id, index) {
                self.set_aside(&topic, index)?;
            }
        }
        Ok(())
    }

    /// Removes a partition's folder, if there is one: first its name, then what is in it.
    pub(super) fn set_aside(&mut self, topic: &TopicName, index: i32) -> Result<(), DiskError> {
        let folder = log_folder(topic, index);
        if !self.disk.exists(&folder)? {
            return Ok(());
        }
        self.removed += 1;
        let aside = Path::new(DATA).join(format!("{topic}-{index}.{}-delete", self.removed));
        if self.disk.exists(&aside)? {
            self.disk.remove_dir_all(&aside)?;
        }
        self.disk.rename(&folder, &aside)?;
        self.disk.sync_dir(Path::new(DATA))?;
        self.disk.remove_dir_all(&aside)
    }

    /// Writes high watermarks, recovery points and log starts, if they have moved.
    pub(super) fn checkpoint(
        &mut self,
        high_watermarks: PartitionOffsets,
        recovery_points: PartitionOffsets,
        log_starts: PartitionOffsets,
    ) -> Result<(), DiskError> {
        let names = [HIGH_WATERMARK_CHECKPOINT, RECOVERY_POINT_CHECKPOINT, LOG_START_CHECKPOINT];
        // The recovery points first: a log that was cut must not be trusted beyond its end.
        for (place, offsets) in [(1, recovery_points), (2, log_starts), (0, high_watermarks)] {
            if self.written[place] != offsets {
                write_offset_checkpoint(&self.disk, &checkpoint(names[place]), &offsets)?;
                self.written[place] = offsets;
            }
        }
        Ok(())
    }

    /// Says that all logs were closed under this registration.
    pub(super) fn mark_clean(&self, epoch: BrokerEpoch) -> Result<(), DiskError> {
        write_file_durably(&self.disk, Path::new(CLEAN_MARKER), epoch.to_string().as_bytes())
    }
}
