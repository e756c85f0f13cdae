// SPDX-License-Identifier: Apache-2.0
//! The brokers as far as metadata goes: a controller with its log, and another broker that takes in what it appends. Must
//! not know what is measured.

use anyhow::{Context, Result, bail, ensure};
use odradek_disk::{Disk, RealDisk};
use odradek_metadata::records::ControllerChangeRecord;
use odradek_metadata::{
    ActiveController, Command, ControllerSettings, CreateTopics, Effect, Endpoint, Event, Heartbeat, Image,
    MetadataBatch, MetadataLog, NewTopic, Probe, Promise, Record, RegisterBroker, Reply, SESSION_TIMEOUT_MS,
    SUPPORTED_FEATURE_LEVEL, bootstrap,
};
use odradek_model::{BrokerId, ClusterId, DirectoryId, Offset, TopicId};
use std::path::Path;
use std::sync::Arc;
use uuid::Uuid;

/// Of the only controller.
const EPOCH: i64 = 1;
/// The quorum sends and reads so much at once.
const READ_BYTES: usize = 1 << 20;
/// Partitions of each topic, and topics that are created with one request: together what a request may ask for.
const PARTITIONS_OF_A_TOPIC: u32 = 1_000;
const TOPICS_AT_ONCE: usize = 10;

/// A broker's metadata: its log, and the image of what is committed.
pub(crate) struct Metadata {
    log: MetadataLog,
    image: Image,
}

impl Metadata {
    fn new(folder: &Path) -> Result<Self> {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        MetadataLog::format(disk.as_ref(), folder)?;
        let (mut log, _, _) = MetadataLog::open(disk, folder)?;
        let promise = Promise { epoch: EPOCH, holder: "0/controller".to_owned(), voters: Vec::new() };
        ensure!(log.promise(promise)?, "the promise was refused");
        Ok(Self { log, image: Image::empty() })
    }

    /// Appends what the controller decided, durably.
    pub(crate) fn append(&mut self, records: &[Record]) -> Result<()> {
        self.log.append(EPOCH, records)?;
        Ok(())
    }

    /// What another broker's log, which ends at `end`, lacks.
    pub(crate) fn batches_from(&self, end: Offset) -> Result<Vec<MetadataBatch>> {
        let mut batches: Vec<MetadataBatch> = Vec::new();
        while let Some(more) = self.more_from(batches.last().map_or(end, |last| last.end_offset))? {
            batches.extend(more);
        }
        Ok(batches)
    }

    fn more_from(&self, from: Offset) -> Result<Option<Vec<MetadataBatch>>> {
        Ok(Some(self.log.read(from, READ_BYTES)?).filter(|more| !more.is_empty()))
    }

    /// Takes in batches of the controller, durably.
    pub(crate) fn take_in(&mut self, batches: &[MetadataBatch]) -> Result<()> {
        for batch in batches {
            self.log.append_batches(std::slice::from_ref(batch))?;
        }
        Ok(())
    }

    pub(crate) fn end(&self) -> Offset {
        self.log.position().end
    }

    /// Everything in the log is committed: reads and applies it, as a broker's metadata node does.
    pub(crate) fn apply(&mut self) -> Result<()> {
        while self.image.end_offset() < self.end() {
            for batch in self.log.read(self.image.end_offset(), READ_BYTES)? {
                for record in batch.records()? {
                    self.image.apply_mut(batch.epoch, &record)?;
                }
            }
        }
        Ok(())
    }

    /// Whether there was one to write.
    pub(crate) fn snapshot(&mut self) -> Result<bool> {
        let is_due = self.log.snapshot_due();
        if is_due {
            self.log.write_snapshot(&self.image)?;
        }
        Ok(is_due)
    }

    pub(crate) fn image(&self) -> &Image {
        &self.image
    }
}

/// The controller, broker 0, and one broker for all others: each of them does the same with what it gets.
pub(crate) struct Brokers {
    pub(crate) controller: ActiveController,
    pub(crate) own: Metadata,
    pub(crate) other: Metadata,
    ticket: u64,
    now: i64,
}

impl Brokers {
    /// A new cluster in the folder: brokers registered, unfenced, topics created, everything committed everywhere.
    pub(crate) fn new(folder: &Path, brokers: i32, partitions: u32, replicas: i16) -> Result<Self> {
        let (mut own, other) = (Metadata::new(&folder.join("own"))?, Metadata::new(&folder.join("other"))?);
        let mut image = Image::empty();
        let cluster_id = ClusterId::new("Fb3pXaYpTjOBkB1mPZ0u8g")?;
        let epoch = ControllerChangeRecord {
            controller_epoch: EPOCH,
            broker_id: 0,
            incarnation: "controller".to_owned(),
            recovered_without: Vec::new(),
        };
        let mut first: Vec<Record> = vec![epoch.into()];
        first.extend(bootstrap(&image, &cluster_id));
        own.append(&first)?;
        for record in &first {
            image.apply_mut(EPOCH, record)?;
        }
        let settings = ControllerSettings::default();
        let controller = ActiveController::new(EPOCH, image, 0, settings, SESSION_TIMEOUT_MS, 0);
        let mut all = Self { controller, own, other, ticket: 0, now: 0 };
        for id in 0..brokers {
            all.register(id, &cluster_id)?;
        }
        all.create_topics(partitions, replicas)?;
        Ok(all)
    }

    /// Hands an event to the controller, without doing what it wants.
    pub(crate) fn handle(&mut self, event: Event) -> Vec<Effect> {
        self.controller.handle(event, self.now, 0)
    }

    /// The question that the controller asks when a connection with the broker was lost.
    pub(crate) fn suspect(&mut self, broker: BrokerId) -> Result<Probe> {
        match self.handle(Event::ConnectionLost(broker)).as_slice() {
            [Effect::Probe(probe)] => Ok(*probe),
            other => bail!("a suspected broker is probed, not {other:?}"),
        }
    }

    /// Does all that an event wants, everywhere; gives back the replies.
    fn settle(&mut self, event: Event) -> Result<Vec<Reply>> {
        let mut effects = self.handle(event);
        let mut replies = Vec::new();
        loop {
            let mut appended = false;
            for effect in effects {
                match effect {
                    Effect::Append(records) => {
                        self.own.append(&records)?;
                        appended = true;
                    }
                    Effect::Reply(_, reply) => replies.push(reply),
                    Effect::HeartbeatReply(_, reply) => {
                        reply?;
                    }
                    Effect::Busy(_) | Effect::Probe(_) => bail!("nothing is asked of a quiet cluster"),
                }
            }
            if !appended {
                return Ok(replies);
            }
            let batches = self.own.batches_from(self.other.end())?;
            self.other.take_in(&batches)?;
            for metadata in [&mut self.own, &mut self.other] {
                metadata.apply()?;
                metadata.snapshot()?;
            }
            effects = self.handle(Event::Committed(self.own.end()));
        }
    }

    fn command(&mut self, command: Command) -> Result<Reply> {
        self.ticket += 1;
        let replies = self.settle(Event::Command(self.ticket, command))?;
        replies.into_iter().next().context("a command is answered")
    }

    fn register(&mut self, id: i32, cluster_id: &ClusterId) -> Result<()> {
        let registration = RegisterBroker {
            broker_id: BrokerId(id),
            cluster_id: cluster_id.clone(),
            incarnation: Uuid::from_u128(1_000 + id as u128),
            directory_id: DirectoryId(Uuid::from_u128(2_000 + id as u128)),
            endpoints: vec![Endpoint {
                listener: "PLAIN".to_owned(),
                host: format!("broker-{id}.brokers.default.svc"),
                port: 9092,
                security_protocol: 0,
            }],
            rack: Some(format!("rack-{}", id % 3)),
            boot_id: "boot".to_owned(),
            clean_shutdown_of: None,
            damaged_logs: Vec::new(),
            supported_feature_level: SUPPORTED_FEATURE_LEVEL,
        };
        let broker_epoch = match self.command(Command::RegisterBroker(registration))? {
            Reply::RegisterBroker(epoch) => epoch?,
            other => bail!("a registration is answered by one, not {other:?}"),
        };
        self.ticket += 1;
        let heartbeat = Heartbeat {
            broker_id: BrokerId(id),
            broker_epoch,
            metadata_end: self.own.end(),
            wants_fence: false,
            wants_shutdown: false,
        };
        self.settle(Event::Heartbeat(self.ticket, heartbeat))?;
        ensure!(
            self.own.image().broker(BrokerId(id)).is_some_and(|broker| broker.is_active()),
            "broker {id} is fenced"
        );
        Ok(())
    }

    fn create_topics(&mut self, partitions: u32, replication_factor: i16) -> Result<()> {
        let mut sizes = vec![PARTITIONS_OF_A_TOPIC; (partitions / PARTITIONS_OF_A_TOPIC) as usize];
        sizes.extend(Some(partitions % PARTITIONS_OF_A_TOPIC).filter(|rest| *rest > 0));
        let topics: Vec<NewTopic> = (1..)
            .zip(sizes)
            .map(|(number, partitions)| NewTopic {
                name: format!("orders-of-customer-{number}"),
                id: TopicId(Uuid::from_u128(number << 64)),
                partitions: partitions as i32,
                replication_factor,
                assignments: Vec::new(),
                settings: Vec::new(),
            })
            .collect();
        for (seed, topics) in (0..).zip(topics.chunks(TOPICS_AT_ONCE)) {
            let command = CreateTopics { topics: topics.to_vec(), validate_only: false, placement_seed: seed };
            let Reply::CreateTopics(created) = self.command(Command::CreateTopics(command))? else {
                bail!("a creation is answered by one");
            };
            for (_, topic) in created {
                topic?;
            }
        }
        ensure!(self.other.image().partition_count() == partitions as usize, "all partitions are there");
        Ok(())
    }
}
