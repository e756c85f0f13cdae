// SPDX-License-Identifier: Apache-2.0
//! The data folder as replicas need it: opening logs, what must be in them, checkpoints of offsets, the clean-shutdown
//! marker, deleted folders. All of it blocks. It must not know requests.
//!
//! Deleting is renaming to `<topic>-<partition>.<unique>-delete`, which frees the name at once; the files go after
//! log.segment.delete.delay.ms. A folder whose topic id the metadata does not have, or whose partition has its replicas
//! elsewhere, is a stray and goes the same way.
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use odradek_disk::{Disk, DiskError, read_small_file, write_file_durably};
use odradek_log::{
    ExpectedLog, HIGH_WATERMARK_CHECKPOINT, LOG_START_CHECKPOINT, Log, LogError, LogOptions, LogSettings,
    PartitionOffsets, RECOVERY_POINT_CHECKPOINT, RecoveryProgress, RecoveryReport, SegmentCache,
    read_offset_checkpoint, read_topic_id, remove_damage_mark, write_offset_checkpoint,
};
use odradek_model::{
    BrokerEpoch, Offset, Timestamp, TopicId, TopicIdPartition, TopicName, TopicPartition, TopicSettings,
};
use odradek_partition::{LocalBroker, Partition, PartitionSettings};
use uuid::Uuid;

use crate::health::LogRecovery;
use crate::replicas::Replicas;

/// Kafka's name for the marker of a clean stop.
const CLEAN_MARKER: &str = ".kafka_cleanshutdown";
/// Longest marker: the version and a number.
const CLEAN_MARKER_BYTES: usize = 1024;
/// The boot id of the kernel that has all that the last run wrote.
const KERNEL_FILE: &str = "boot-id";
/// Longest boot id: a UUID in words.
const KERNEL_BYTES: usize = 256;
/// What a marker says before the broker epoch, which only a brace follows.
const MARKED_EPOCH: &str = "{\"version\":0,\"brokerEpoch\":";
/// Ends the name of a folder that is to be removed.
const DELETED_SUFFIX: &str = "-delete";
/// A file name has at most 255 bytes.
const FILE_NAME_MAX: usize = 255;

/// The data folder.
#[derive(Debug)]
pub struct ReplicaFolder {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    cache: Arc<SegmentCache>,
    /// Whether the last run closed all its logs.
    clean: bool,
    /// Under which registration it did.
    clean_shutdown_of: Option<BrokerEpoch>,
    /// Whether nothing that the last run wrote can be lost: it was clean, or the same kernel still has all of it.
    is_kept: bool,
    /// The kernel that is to be recorded once all logs are recovered.
    unrecorded_kernel: Mutex<Option<String>>,
    /// What the last run left. Of a replica that cannot be opened it is all that is known.
    past: Mutex<Checkpoints>,
    /// What lies on the disk, so that an idle broker writes nothing.
    written: Mutex<Checkpoints>,
}

/// The checkpoints, by topics' names.
#[derive(Debug, Default, Clone)]
struct Checkpoints {
    high_watermarks: PartitionOffsets,
    recovery_points: PartitionOffsets,
    log_starts: PartitionOffsets,
}

/// The volume that the folder is on, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumeSpace {
    /// Its size.
    pub total_bytes: u64,
    /// What this process can still write.
    pub free_bytes: u64,
}

/// Which log to open.
#[derive(Debug)]
pub struct WantedLog<'a> {
    /// Its topic's name.
    pub topic: &'a TopicName,
    /// Its topic's id.
    pub topic_id: TopicId,
    /// Its index.
    pub index: i32,
    /// Its topic's settings.
    pub settings: &'a TopicSettings,
    /// Whether the topic has forced each record to the disk since it was made.
    pub always_flushed: bool,
    /// producer.id.expiration.ms.
    pub producer_id_expiration_ms: i64,
    /// This broker, as its replicas see it.
    pub local: LocalBroker,
    /// Whether the replica came while this process ran: what the last run left is not of it. What comes to a broker that
    /// was away is found out by its folder.
    pub is_new: bool,
}

/// A log that was opened.
#[derive(Debug)]
pub struct OpenedLog {
    /// The partition around it.
    pub partition: Partition,
    /// What opening it found and did.
    pub report: RecoveryReport,
    /// Whether the checkpoints on the disk say what does not hold for it: they are of another topic of its name, or
    /// call bytes synced that are yet to be written. They are to be written before anything is appended.
    pub is_misstated: bool,
}

impl ReplicaFolder {
    /// Reads what the last run left and removes its clean marker: from here on a crash is a crash.
    pub fn open(disk: Arc<dyn Disk>, path: PathBuf) -> Result<Self, DiskError> {
        let marker = path.join(CLEAN_MARKER);
        let marked = read_small_file(disk.as_ref(), &marker, CLEAN_MARKER_BYTES)?;
        let clean = marked.is_some();
        let clean_shutdown_of = marked.as_deref().and_then(marked_epoch);
        if clean {
            disk.remove_file(&marker)?;
            disk.sync_dir(&path)?;
        }
        let read = |name: &str| -> Result<PartitionOffsets, DiskError> {
            let (offsets, damaged) = read_offset_checkpoint(disk.as_ref(), &path.join(name))?;
            if damaged {
                tracing::warn!(checkpoint = name, "a damaged checkpoint is ignored; recovery takes longer");
            }
            Ok(offsets)
        };
        let past = Checkpoints {
            high_watermarks: read(HIGH_WATERMARK_CHECKPOINT)?,
            recovery_points: read(RECOVERY_POINT_CHECKPOINT)?,
            log_starts: read(LOG_START_CHECKPOINT)?,
        };
        let (cache, written) = (Arc::default(), Mutex::new(past.clone()));
        let past = Mutex::new(past);
        let (is_kept, unrecorded_kernel) = (clean, Mutex::default());
        Ok(Self { disk, path, cache, clean, clean_shutdown_of, is_kept, unrecorded_kernel, past, written })
    }

    /// Says which kernel runs, by its boot id (empty if unknown). It is recorded for the next start: at once if everything
    /// that was written is there; else only by [`recovered`](Self::recovered), since what a loss of power has left of a
    /// log that no start has come to yet is no damage.
    pub fn set_kernel(&mut self, boot_id: &str) -> Result<(), DiskError> {
        let before = read_small_file(self.disk.as_ref(), &self.path.join(KERNEL_FILE), KERNEL_BYTES)?;
        let is_same = before.as_deref() == Some(boot_id.as_bytes());
        self.is_kept |= is_same && !boot_id.is_empty();
        self.unrecorded_kernel = Mutex::new((!is_same).then(|| boot_id.to_owned()));
        if self.is_kept { self.recovered() } else { Ok(()) }
    }

    /// Says that all logs are as the kernel that runs has them.
    pub fn recovered(&self) -> Result<(), DiskError> {
        let mut unrecorded = self.unrecorded_kernel.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(boot_id) = &*unrecorded {
            write_file_durably(self.disk.as_ref(), &self.path.join(KERNEL_FILE), boot_id.as_bytes())?;
            *unrecorded = None;
        }
        Ok(())
    }

    /// The controller knows that the log was damaged: the next start does not say it again.
    pub fn damage_is_told(&self, at: &TopicPartition) -> Result<(), DiskError> {
        remove_damage_mark(self.disk.as_ref(), &self.dir(&at.topic, at.partition))
    }

    /// The registration under which the last run closed all its logs, if it said so.
    pub fn clean_shutdown_of(&self) -> Option<BrokerEpoch> {
        self.clean_shutdown_of
    }

    /// Opens (or makes) a log and puts a partition around it; `recovery` counts how far it has come.
    pub fn open_partition(
        &self,
        wanted: &WantedLog<'_>,
        now_ms: Timestamp,
        recovery: &mut LogRecovery<'_>,
    ) -> Result<OpenedLog, LogError> {
        let at = TopicPartition { topic: wanted.topic.clone(), partition: wanted.index };
        let dir = self.dir(wanted.topic, wanted.index);
        // The checkpoints know names only. A topic may have been deleted and made anew while this broker was away: the
        // log start of the one before would hide the records of the new one, its high watermark would commit them.
        let is_new = wanted.is_new || read_topic_id(self.disk.as_ref(), &dir)? != Some(wanted.topic_id);
        let (was_there, (high_watermark, recovery_point, log_start_offset)) = {
            let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
            let was_there = past.know(&at);
            if is_new {
                past.forget(&at);
            }
            (was_there, past.of(&at))
        };
        let expected = ExpectedLog {
            was_there,
            end_offset: high_watermark.max(recovery_point),
            is_kept: self.is_kept,
            is_forced: wanted.always_flushed,
        };
        let options = LogOptions {
            dir,
            topic_id: wanted.topic_id,
            settings: LogSettings {
                producer_id_expiration_ms: wanted.producer_id_expiration_ms,
                ..LogSettings::new(wanted.settings)
            },
            clean: self.clean || wanted.is_new,
            recovery_point,
            log_start_offset,
            expected: (!wanted.is_new).then_some(expected),
        };
        let mut progress = |progress: RecoveryProgress| recovery.advance(progress.done);
        let (log, report) = Log::open(Arc::clone(&self.disk), Arc::clone(&self.cache), options, now_ms, &mut progress)?;
        // A process that is killed between the cut of a log and its checkpoint leaves a recovery point beyond the end.
        let is_misstated = (is_new && self.is_checkpointed(&at)) || recovery_point > report.log_end_offset;
        let id = TopicIdPartition { id: wanted.topic_id, topic_partition: at };
        let (local, settings) = (wanted.local.clone(), PartitionSettings::new(wanted.settings));
        let partition = Partition::new(id, local, settings, Box::new(log), high_watermark);
        Ok(OpenedLog { partition, report, is_misstated })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How large the volume is that it is on, and how much is free.
    pub fn space(&self) -> Result<VolumeSpace, DiskError> {
        let free_bytes = self.disk.free_bytes(&self.path)?;
        Ok(VolumeSpace { total_bytes: self.disk.total_bytes(&self.path)?, free_bytes })
    }

    /// Bytes in a partition's folder, for the progress of recovery.
    pub fn bytes_of(&self, topic: &TopicName, index: i32) -> u64 {
        let dir = self.dir(topic, index);
        self.disk.list(&dir).map_or(0, |entries| entries.iter().map(|entry| entry.len).sum())
    }

    /// Whether there is a folder of this name.
    pub fn has_partition(&self, topic: &TopicName, index: i32) -> Result<bool, DiskError> {
        self.disk.exists(&self.dir(topic, index))
    }

    /// Renames a deleted partition's folder; the new path is to be removed later.
    pub fn rename_deleted(&self, topic: &TopicName, index: i32, unique: Uuid) -> Result<PathBuf, DiskError> {
        let suffix = format!(".{}{DELETED_SUFFIX}", unique.simple());
        let mut name = format!("{topic}-{index}");
        name.truncate(FILE_NAME_MAX - suffix.len());
        name.push_str(&suffix);
        let to = self.path.join(name);
        self.disk.rename(&self.dir(topic, index), &to)?;
        self.disk.sync_dir(&self.path)?;
        Ok(to)
    }

    /// Removes a folder that was renamed before.
    pub fn remove(&self, renamed: &Path) -> Result<(), DiskError> {
        self.disk.remove_dir_all(renamed)
    }

    /// Finds folders of partitions that are not wanted here any more, renames them, and returns what is to be removed.
    pub fn find_deleted(
        &self,
        is_wanted: impl Fn(&TopicName, TopicId, i32) -> bool,
        mut unique: impl FnMut() -> Uuid,
    ) -> Result<Vec<PathBuf>, DiskError> {
        let mut deleted = Vec::new();
        for entry in self.disk.list(&self.path)?.iter().filter(|entry| entry.is_dir) {
            if entry.name.ends_with(DELETED_SUFFIX) {
                deleted.push(self.path.join(&entry.name));
                continue;
            }
            let Some((topic, index)) = entry.name.rsplit_once('-') else { continue };
            let (Ok(topic), Ok(index)) = (TopicName::new(topic), index.parse::<i32>()) else { continue };
            let Some(id) = read_topic_id(self.disk.as_ref(), &self.path.join(&entry.name))? else { continue };
            if !is_wanted(&topic, id, index) {
                // The checkpoints speak of it, not of one that has its name now.
                let at = TopicPartition { topic: topic.clone(), partition: index };
                self.past.lock().unwrap_or_else(PoisonError::into_inner).forget(&at);
                tracing::warn!(folder = %entry.name, topic_id = %id, "a folder of no replica is set aside and removed");
                deleted.push(self.rename_deleted(&topic, index, unique())?);
            }
        }
        Ok(deleted)
    }

    /// Writes the high watermarks if they have moved. Of replicas that could not be opened what was known stays.
    pub fn checkpoint_high_watermarks(&self, replicas: &Replicas) -> Result<(), DiskError> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.offsets(replicas, |past| &past.high_watermarks, |(high_watermark, _, _)| high_watermark);
        if now != written.high_watermarks {
            write_offset_checkpoint(self.disk.as_ref(), &self.path.join(HIGH_WATERMARK_CHECKPOINT), &now)?;
            written.high_watermarks = now;
        }
        Ok(())
    }

    /// Writes recovery points and log starts if they have moved. Of replicas that could not be opened what was known
    /// stays.
    pub fn checkpoint_logs(&self, replicas: &Replicas) -> Result<(), DiskError> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let recovery_points = self.offsets(replicas, |past| &past.recovery_points, |(_, point, _)| point);
        let log_starts = self.offsets(replicas, |past| &past.log_starts, |(_, _, start)| start);
        if recovery_points != written.recovery_points {
            let path = self.path.join(RECOVERY_POINT_CHECKPOINT);
            write_offset_checkpoint(self.disk.as_ref(), &path, &recovery_points)?;
            written.recovery_points = recovery_points;
        }
        if log_starts != written.log_starts {
            write_offset_checkpoint(self.disk.as_ref(), &self.path.join(LOG_START_CHECKPOINT), &log_starts)?;
            written.log_starts = log_starts;
        }
        Ok(())
    }

    /// Whether the checkpoints on the disk say anything of a partition.
    pub fn is_checkpointed(&self, at: &TopicPartition) -> bool {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).know(at)
    }

    /// Taken while no other checkpoint is written: an older picture, written last, would bring back what was known of
    /// a topic that is gone.
    fn offsets(
        &self,
        replicas: &Replicas,
        of_past: impl Fn(&Checkpoints) -> &PartitionOffsets,
        of_log: impl Fn((Offset, Offset, Offset)) -> Offset,
    ) -> PartitionOffsets {
        let past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |at: TopicPartition| of_past(&past).get(&at).map(|offset| (at, *offset));
        let mut offsets: PartitionOffsets = replicas.offline_partitions().into_iter().filter_map(known).collect();
        offsets.extend(replicas.all().iter().map(|replica| {
            let at = TopicPartition { topic: replica.topic.clone(), partition: replica.index };
            (at, of_log(replica.checkpoints()))
        }));
        offsets
    }

    /// Says that every log was closed: the next start trusts them. After the checkpoints only. With the registration, if
    /// there is one, as Kafka writes it (KIP-966): the controller then knows that nothing was lost since.
    pub fn mark_clean(&self, epoch: Option<BrokerEpoch>) -> Result<(), DiskError> {
        let text = epoch.map(|epoch| format!("{MARKED_EPOCH}{epoch}}}")).unwrap_or_default();
        write_file_durably(self.disk.as_ref(), &self.path.join(CLEAN_MARKER), text.as_bytes())
    }

    fn dir(&self, topic: &TopicName, index: i32) -> PathBuf {
        self.path.join(format!("{topic}-{index}"))
    }
}

/// A marker of another form says nothing: then the stop is clean, but nobody knows of which registration.
fn marked_epoch(marker: &[u8]) -> Option<BrokerEpoch> {
    let text = std::str::from_utf8(marker).ok()?;
    text.trim().strip_prefix(MARKED_EPOCH)?.strip_suffix('}')?.parse().ok()
}

impl Checkpoints {
    /// High watermark, recovery point and log start; 0 where nothing is known.
    fn of(&self, at: &TopicPartition) -> (Offset, Offset, Offset) {
        let of = |offsets: &PartitionOffsets| offsets.get(at).copied().unwrap_or(0);
        (of(&self.high_watermarks), of(&self.recovery_points), of(&self.log_starts))
    }

    fn know(&self, at: &TopicPartition) -> bool {
        [&self.high_watermarks, &self.recovery_points, &self.log_starts].iter().any(|offsets| offsets.contains_key(at))
    }

    fn forget(&mut self, at: &TopicPartition) {
        for offsets in [&mut self.high_watermarks, &mut self.recovery_points, &mut self.log_starts] {
            offsets.remove(at);
        }
    }
}
