// SPDX-License-Identifier: Apache-2.0
//! What the loss asks of one surviving broker's replicas: real logs on the real disk, told to lead or to follow. Only the
//! replicas that change are there; the others cost nothing.

use anyhow::{Result, ensure};
use odradek_disk::{Disk, RealDisk};
use odradek_log::{Log, LogOptions, LogSettings, SegmentCache};
use odradek_metadata::{Image, PartitionImage, PartitionKey};
use odradek_model::{BrokerId, TopicDefaults, TopicIdPartition, TopicOverrides, TopicPartition, TopicSettings};
use odradek_partition::{Followership, Leadership, LocalBroker, MonotonicTime, Partition, PartitionSettings};
use std::path::Path;
use std::sync::Arc;

/// Threads of a broker that tell its replicas what an image decides (`broker/server/src/broker.rs`).
const DISK_THREADS: usize = 8;

/// Replicas of one broker.
pub(crate) struct Replicas {
    broker: BrokerId,
    partitions: Vec<(PartitionKey, Partition)>,
}

impl Replicas {
    /// The broker's replicas of these partitions, as `image` has them: each leads or follows.
    pub(crate) fn open(folder: &Path, broker: BrokerId, keys: &[PartitionKey], image: &Image) -> Result<Self> {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let cache = Arc::new(SegmentCache::default());
        let settings =
            TopicSettings::resolve(&TopicOverrides::new(), &TopicDefaults { overrides: TopicOverrides::new() })?;
        let mut replicas = Self { broker, partitions: Vec::new() };
        for key in keys {
            let Some(topic) = image.topic_by_id(key.topic) else { continue };
            let options = LogOptions {
                dir: folder.join(format!("{}-{}", topic.name, key.partition)),
                topic_id: key.topic,
                settings: LogSettings::new(&settings),
                clean: true,
                recovery_point: 0,
                log_start_offset: 0,
                expected: None,
            };
            let (log, _) = Log::open(Arc::clone(&disk), Arc::clone(&cache), options, 0, &mut |_| {})?;
            let topic_partition = TopicPartition { topic: topic.name.clone(), partition: key.partition };
            let id = TopicIdPartition { id: key.topic, topic_partition };
            let (local, rules) = (LocalBroker::alone(broker), PartitionSettings::new(&settings));
            replicas.partitions.push((*key, Partition::new(id, local, rules, Box::new(log), 0)));
        }
        replicas.tell(image, 0)?;
        Ok(replicas)
    }

    /// Tells each replica what the image says of it, as many at a time as a broker does; how many of them lead now that
    /// did not.
    pub(crate) fn tell(&mut self, image: &Image, now_ms: i64) -> Result<usize> {
        let broker = self.broker;
        let share = self.partitions.len().div_ceil(DISK_THREADS).max(1);
        std::thread::scope(|scope| {
            let tell_some = |some: &mut [(PartitionKey, Partition)]| -> Result<usize> {
                let mut elected = 0;
                for (key, replica) in some {
                    let Some(partition) = image.partition(*key) else { continue };
                    elected += usize::from(tell(replica, broker, partition, MonotonicTime(now_ms))?);
                }
                Ok(elected)
            };
            let threads: Vec<_> =
                self.partitions.chunks_mut(share).map(|some| scope.spawn(move || tell_some(some))).collect();
            let elected = threads.into_iter().map(|thread| match thread.join() {
                Ok(elected) => elected,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            elected.sum()
        })
    }

    pub(crate) fn count(&self) -> usize {
        self.partitions.len()
    }
}

/// Whether it leads now and did not.
fn tell(replica: &mut Partition, broker: BrokerId, image: &PartitionImage, now: MonotonicTime) -> Result<bool> {
    let led = replica.leadership().is_some();
    let (leader_epoch, partition_epoch) = (image.leader_epoch, image.partition_epoch);
    match image.leader {
        Some(leader) if leader == broker => {
            let (replicas, in_sync) = (image.replicas.clone(), image.isr.clone());
            replica.lead(Leadership { leader_epoch, partition_epoch, replicas, in_sync }, now)?;
            ensure!(replica.leader_epoch() == leader_epoch, "the leader has the epoch of the image");
            Ok(!led)
        }
        Some(leader) => {
            replica.follow(Followership { leader, leader_epoch, partition_epoch }, now);
            Ok(false)
        }
        None => {
            replica.resign();
            Ok(false)
        }
    }
}
