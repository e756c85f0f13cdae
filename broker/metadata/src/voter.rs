// SPDX-License-Identifier: Apache-2.0
//! Log, image and decisions together: the controller of a cluster with one voter.
//!
//! With one voter the commit quorum is this broker alone, so what is fsynced is committed and a reply is due at once.
//! Replication to further voters comes in between append and reply; the parts do not change.

use std::path::Path;
use std::sync::Arc;

use odradek_disk::Disk;
use odradek_model::{BrokerId, ClusterId, ControllerEpoch, Timestamp};
use thiserror::Error;
use tracing::{info, warn};

use crate::records::ControllerChangeRecord;
use crate::{
    ApplyError, Command, ControllerSettings, Image, LogPosition, MetadataLog, MetadataLogError, Promise, Record,
    RecoveryReport, Reply, bootstrap, decide,
};

/// Why a command was not carried out.
#[derive(Debug, Error)]
pub enum ControllerError {
    /// The log; see [`MetadataLogError::is_fatal`].
    #[error(transparent)]
    Log(#[from] MetadataLogError),
    /// This broker does not lead (`NOT_CONTROLLER`).
    #[error("this broker is not the controller")]
    NotController,
    /// The folder belongs to another cluster.
    #[error("the metadata log belongs to cluster {found}, not to {expected}")]
    OtherCluster {
        /// The log's.
        found: ClusterId,
        /// The caller's.
        expected: ClusterId,
    },
}

/// The metadata log with its image; once it leads, the controller. Calls block on the disk.
#[derive(Debug)]
pub struct Controller {
    log: MetadataLog,
    image: Arc<Image>,
    settings: ControllerSettings,
    leading: Option<ControllerEpoch>,
}

impl Controller {
    /// Opens a formatted log ([`MetadataLog::format`]) and replays it. It does not lead yet.
    ///
    /// # Errors
    /// As [`MetadataLog::open`].
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        settings: ControllerSettings,
    ) -> Result<(Self, RecoveryReport), MetadataLogError> {
        let (log, image, report) = MetadataLog::open(disk, dir)?;
        info!(end = image.end_offset(), replayed = report.replayed_records, "metadata loaded");
        Ok((Self { log, image: Arc::new(image), settings, leading: None }, report))
    }

    /// The image of everything committed. Cheap; take it anew after each command.
    pub fn image(&self) -> Arc<Image> {
        Arc::clone(&self.image)
    }

    /// How far the log reaches.
    pub fn position(&self) -> LogPosition {
        self.log.position()
    }

    /// The highest epoch promised and to whom.
    pub fn promised(&self) -> &Promise {
        self.log.promised()
    }

    /// Promises the epoch to the holder, durably; `Ok(false)` if something higher, or the same to another, is promised
    /// (coordination rule 2).
    ///
    /// # Errors
    /// As [`MetadataLog::promise`].
    pub fn promise(&mut self, epoch: ControllerEpoch, holder: &str) -> Result<bool, MetadataLogError> {
        let kept = self.log.promise(Promise { epoch, holder: holder.to_owned(), voters: Vec::new() })?;
        if kept && self.leading.is_some_and(|leading| leading < epoch) {
            self.leading = None;
        }
        Ok(kept)
    }

    /// Begins to lead under the epoch, which this broker holds the Lease for and has promised itself: appends the epoch
    /// record and, in a new log, the cluster's identity (rule 4). With one voter that commits them.
    ///
    /// # Errors
    /// [`ControllerError`]
    ///
    /// # Panics
    /// If the epoch is not the promised one.
    pub fn lead(
        &mut self,
        epoch: ControllerEpoch,
        broker_id: BrokerId,
        incarnation: &str,
        cluster_id: &ClusterId,
    ) -> Result<(), ControllerError> {
        assert_eq!(epoch, self.log.promised().epoch, "a controller first promises itself");
        if let Some(found) = self.image.cluster_id()
            && found != cluster_id
        {
            return Err(ControllerError::OtherCluster { found: found.clone(), expected: cluster_id.clone() });
        }
        let record = ControllerChangeRecord {
            controller_epoch: epoch,
            broker_id: broker_id.0,
            incarnation: incarnation.to_owned(),
        };
        let mut records: Vec<Record> = vec![record.into()];
        records.extend(bootstrap(&self.image, cluster_id));
        self.append(epoch, &records)?;
        self.leading = Some(epoch);
        info!(epoch, broker = broker_id.0, "leading the metadata");
        Ok(())
    }

    /// Stops leading, e.g. because the Lease is another's (rule 8).
    pub fn step_down(&mut self) {
        self.leading = None;
    }

    /// The epoch under which this broker leads.
    pub fn leading(&self) -> Option<ControllerEpoch> {
        self.leading
    }

    /// Decides the command and commits what follows; the reply may be sent when this returns.
    ///
    /// # Errors
    /// [`ControllerError::NotController`]; errors of the log, after which nothing has changed unless they are fatal.
    pub fn execute(&mut self, command: &Command, now_ms: Timestamp) -> Result<Reply, ControllerError> {
        let epoch = self.leading.ok_or(ControllerError::NotController)?;
        let decision = decide(&self.image, &self.settings, command, now_ms);
        if !decision.records.is_empty() {
            self.append(epoch, &decision.records)?;
        }
        Ok(decision.reply)
    }

    fn append(&mut self, epoch: ControllerEpoch, records: &[Record]) -> Result<(), ControllerError> {
        let mut next = Image::clone(&self.image);
        // Applied before it is written: a decision that does not fit the image must not reach the log.
        let applied: Result<(), ApplyError> = records.iter().try_for_each(|record| next.apply_mut(epoch, record));
        if let Err(error) = applied {
            panic!("a decision does not fit the image it was made on: {error}");
        }
        if let Err(error) = self.log.append(epoch, records) {
            if error.is_fatal() {
                self.leading = None;
            }
            return Err(error.into());
        }
        assert_eq!(next.end_offset(), self.log.position().end, "image and log are at one offset");
        self.image = Arc::new(next);
        if self.log.snapshot_due()
            && let Err(error) = self.log.write_snapshot(&self.image)
        {
            if error.is_fatal() {
                self.leading = None;
                return Err(error.into());
            }
            warn!(%error, "no snapshot of the metadata could be written; the log goes on growing");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
