// SPDX-License-Identifier: Apache-2.0
//! Decisions, each with the records it makes applied.

use odradek_model::{BrokerId, DirectoryId, SettingError, TopicId};
use uuid::Uuid;

use super::*;
use crate::Endpoint;

struct World {
    image: Image,
    settings: ControllerSettings,
}

impl World {
    /// A cluster with the brokers, which at level 1 are unfenced as soon as they are registered.
    fn new(brokers: &[i32]) -> Self {
        let mut world = Self { image: Image::empty(), settings: ControllerSettings::default() };
        let cluster_id = ClusterId::new("c").expect("an id");
        for record in bootstrap_at_level_1(&cluster_id) {
            world.image.apply_mut(1, &record).expect("fits");
        }
        for broker in brokers {
            world.register(*broker, 1).expect("registers");
        }
        world
    }

    fn decide(&mut self, command: &Command) -> Reply {
        let Decision { records, reply } = decide(&self.image, &self.settings, command, 0);
        for record in records {
            self.image.apply_mut(1, &record).expect("a decision fits its image");
        }
        reply
    }

    fn register(&mut self, id: i32, incarnation: u128) -> Result<BrokerEpoch, RegisterBrokerError> {
        match self.decide(&Command::RegisterBroker(registration(id, incarnation))) {
            Reply::RegisterBroker(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    fn create(&mut self, topics: Vec<NewTopic>) -> Vec<(String, Result<CreatedTopic, CreateTopicError>)> {
        let command = CreateTopics { topics, validate_only: false, placement_seed: 0 };
        match self.decide(&Command::CreateTopics(command)) {
            Reply::CreateTopics(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    fn create_one(&mut self, topic: NewTopic) -> Result<CreatedTopic, CreateTopicError> {
        self.create(vec![topic]).pop().expect("one answer").1
    }

    fn delete(&mut self, topics: Vec<TopicReference>) -> Vec<(TopicReference, Result<DeletedTopic, DeleteTopicError>)> {
        match self.decide(&Command::DeleteTopics(DeleteTopics { topics })) {
            Reply::DeleteTopics(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    fn producer_ids(&mut self, broker: i32, epoch: i64) -> Result<ProducerIdBlock, AllocateProducerIdsError> {
        let command = AllocateProducerIds { broker_id: BrokerId(broker), broker_epoch: epoch };
        match self.decide(&Command::AllocateProducerIds(command)) {
            Reply::AllocateProducerIds(reply) => reply,
            other => panic!("{other:?}"),
        }
    }
}

fn registration(id: i32, incarnation: u128) -> RegisterBroker {
    RegisterBroker {
        broker_id: BrokerId(id),
        cluster_id: ClusterId::new("c").expect("an id"),
        incarnation: Uuid::from_u128(incarnation),
        directory_id: DirectoryId(Uuid::from_u128(5)),
        endpoints: vec![Endpoint { listener: "PLAIN".into(), host: "h".into(), port: 9092, security_protocol: 0 }],
        rack: None,
        boot_id: String::new(),
        clean_shutdown_of: None,
        damaged_logs: vec![],
        supported_feature_level: 2,
    }
}

fn topic(name: &str, partitions: i32, replication_factor: i16) -> NewTopic {
    let sum = name.bytes().fold(7, |sum: u128, byte| sum * 31 + u128::from(byte));
    NewTopic {
        name: name.into(),
        id: TopicId(Uuid::from_u128(sum)),
        partitions,
        replication_factor,
        assignments: vec![],
        settings: vec![],
    }
}

fn by_name(name: &str) -> TopicReference {
    TopicReference::Name(name.into())
}

#[test]
fn broker_epochs_rise_and_the_same_registration_is_answered_again() {
    let mut world = World::new(&[]);
    let first = world.register(1, 1).expect("registers");
    assert_eq!(first, 2, "the offset of the record");
    let end = world.image.end_offset();
    assert_eq!(world.register(1, 1), Ok(first));
    assert_eq!(world.image.end_offset(), end, "nothing was appended");
    let second = world.register(1, 2).expect("registers");
    let other = world.register(2, 1).expect("registers");
    assert!(first < second && second < other);
    assert_eq!(world.image.broker(BrokerId(1)).map(|broker| broker.epoch), Some(second));
}

#[test]
fn registrations_that_make_no_sense_are_refused() {
    let mut world = World::new(&[]);
    let mut refuse = |change: fn(&mut RegisterBroker)| {
        let mut command = registration(1, 1);
        change(&mut command);
        match world.decide(&Command::RegisterBroker(command)) {
            Reply::RegisterBroker(Err(error)) => error.to_string(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        refuse(|r| r.cluster_id = ClusterId::new("d").expect("an id")),
        "the broker belongs to cluster d, this is c"
    );
    assert!(refuse(|r| r.broker_id = BrokerId(-1)).contains("-1"));
    assert!(refuse(|r| r.endpoints.clear()).contains("0 given"));
    assert!(refuse(|r| r.endpoints[0].host.clear()).contains("no host"));
    assert!(refuse(|r| r.endpoints.push(r.endpoints[0].clone())).contains("PLAIN is given twice"));
}

#[test]
fn topics_get_defaults_ids_and_partitions() {
    let mut world = World::new(&[1]);
    world.settings.default_partitions = 3;
    let created = world.create_one(topic("a", -1, -1)).expect("created");
    assert_eq!((created.partitions, created.replication_factor), (3, 1));
    let image = world.image.topic("a").expect("there");
    assert_eq!(image.id, created.id);
    assert!(image.partitions.iter().all(|p| p.leader == Some(BrokerId(1)) && p.leader_epoch == 0));
    // The default replication factor is three as soon as there are as many brokers.
    let mut world = World::new(&[1, 2, 3, 4]);
    assert_eq!(world.create_one(topic("a", 2, -1)).map(|c| c.replication_factor), Ok(3));
    world.settings.default_replication_factor = Some(2);
    assert_eq!(world.create_one(topic("b", 2, -1)).map(|c| c.replication_factor), Ok(2));
}

#[test]
fn validate_only_answers_without_records() {
    let mut world = World::new(&[1]);
    let command = CreateTopics { topics: vec![topic("a", 1, 1)], validate_only: true, placement_seed: 0 };
    let decision = decide(&world.image, &world.settings, &Command::CreateTopics(command), 0);
    assert!(decision.records.is_empty());
    let Reply::CreateTopics(reply) = decision.reply else { panic!("another reply") };
    assert!(reply[0].1.is_ok());
    assert!(world.create_one(topic("a", 1, 1)).is_ok(), "it was not created");
}

#[test]
fn each_refusal_has_its_kind_and_names_the_cause() {
    use CreateTopicError as E;
    let mut world = World::new(&[1]);
    world.create_one(topic("a.b", 1, 1)).expect("created");
    let mut refuse = |topic: NewTopic| {
        let error = world.create_one(topic).expect_err("refused");
        let text = error.to_string();
        (error, text)
    };
    assert!(matches!(refuse(topic("a.b", 1, 1)).0, E::AlreadyExists(_)));
    let (error, text) = refuse(topic("a_b", 1, 1));
    assert!(matches!(error, E::Collides { .. }) && text.contains("a.b"), "{text}");
    assert!(matches!(refuse(topic("bad name", 1, 1)).0, E::InvalidName(_)));
    assert!(matches!(refuse(topic("", 1, 1)).0, E::InvalidName(_)));
    assert!(matches!(refuse(topic("__cluster_metadata", 1, 1)).0, E::InvalidRequest(_)));
    for partitions in [0, -2] {
        assert!(matches!(refuse(topic("x", partitions, 1)).0, E::InvalidPartitions(_)));
    }
    for factor in [0, -2, 2] {
        assert!(matches!(refuse(topic("x", 1, factor)).0, E::InvalidReplicationFactor(_)));
    }
    assert_eq!(refuse(topic("x", 10_001, 1)).0, E::TooManyPartitions);
    let with = |name: &str, value: Option<&str>| NewTopic {
        settings: vec![(name.into(), value.map(Into::into))],
        ..topic("x", 1, 1)
    };
    let (error, text) = refuse(with("retention.msec", Some("1")));
    assert!(matches!(error, E::InvalidSetting(SettingError::Unknown { .. })) && text.contains("retention.msec"));
    let (error, text) = refuse(with("retention.ms", Some("soon")));
    assert!(matches!(error, E::InvalidSetting(SettingError::Value { .. })) && text.contains("retention.ms"));
    assert_eq!(refuse(with("retention.ms", None)).0, E::NullSetting("retention.ms".into()));
    assert_eq!(world.image.topic_count(), 1, "nothing of the refused was made");
}

#[test]
fn manual_assignments_are_checked() {
    use CreateTopicError as E;
    let mut world = World::new(&[1, 2]);
    let manual = |assignments: &[(i32, &[i32])]| NewTopic {
        assignments: assignments.iter().map(|(partition, brokers)| (*partition, brokers.to_vec())).collect(),
        ..topic("m", -1, -1)
    };
    let mut refuse = |topic: NewTopic| world.create_one(topic).expect_err("refused");
    for bad in [
        manual(&[(0, &[])]),
        manual(&[(0, &[1, 1])]),
        manual(&[(0, &[9])]),
        manual(&[(0, &[1]), (0, &[2])]),
        manual(&[(1, &[1])]),
        manual(&[(0, &[1]), (1, &[1, 2])]),
    ] {
        assert!(matches!(refuse(bad), E::InvalidAssignment(_)));
    }
    assert!(matches!(refuse(NewTopic { partitions: 1, ..manual(&[(0, &[1])]) }), E::InvalidRequest(_)));
    assert!(matches!(refuse(NewTopic { replication_factor: 1, ..manual(&[(0, &[1])]) }), E::InvalidRequest(_)));
    let created = world.create_one(manual(&[(1, &[1, 2]), (0, &[2, 1])])).expect("created");
    assert_eq!((created.partitions, created.replication_factor), (2, 2));
    let partitions = &world.image.topic("m").expect("there").partitions;
    assert_eq!(partitions[0].replicas, [BrokerId(2), BrokerId(1)]);
    assert_eq!(partitions[1].leader, Some(BrokerId(1)));
}

#[test]
fn duplicates_in_a_request_are_refused_once_and_the_rest_is_done() {
    let mut world = World::new(&[1]);
    let reply = world.create(vec![
        topic("a", 1, 1),
        topic("b", 1, 1),
        topic("a", 1, 1),
        topic("c.d", 1, 1),
        topic("c_d", 1, 1),
    ]);
    let names: Vec<&str> = reply.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c.d", "c_d"]);
    assert!(matches!(reply[0].1, Err(CreateTopicError::InvalidRequest(_))));
    assert!(reply[1].1.is_ok() && reply[2].1.is_ok());
    assert!(matches!(reply[3].1, Err(CreateTopicError::Collides { .. })), "with its neighbour in the request");
}

#[test]
fn topics_are_deleted_by_name_or_id() {
    let mut world = World::new(&[1]);
    let ids: Vec<TopicId> =
        ["a", "b", "c", "d"].map(|name| world.create_one(topic(name, 1, 1)).expect("created").id).to_vec();
    let unknown = TopicReference::Id(TopicId(Uuid::from_u128(99)));
    let zero = TopicReference::Id(TopicId::ZERO);
    let request = vec![
        by_name("a"),
        TopicReference::Id(ids[1]),
        by_name("none"),
        unknown.clone(),
        zero.clone(),
        by_name("c"),
        TopicReference::Id(ids[2]),
        by_name("d"),
        by_name("d"),
    ];
    let reply = world.delete(request);
    let outcomes: Vec<_> = reply.iter().map(|(_, outcome)| outcome.clone().map(|deleted| deleted.id)).collect();
    assert_eq!(
        outcomes,
        [
            Ok(ids[0]),
            Ok(ids[1]),
            Err(DeleteTopicError::UnknownName),
            Err(DeleteTopicError::UnknownId),
            Err(DeleteTopicError::NoReference),
            Err(DeleteTopicError::Duplicate),
            Err(DeleteTopicError::Duplicate),
            Err(DeleteTopicError::Duplicate),
        ]
    );
    let left: Vec<&str> = world.image.topics().map(|topic| topic.name.as_str()).collect();
    assert_eq!(left, ["c", "d"]);
}

#[test]
fn producer_ids_are_handed_out_in_blocks_once() {
    let mut world = World::new(&[1, 2]);
    let epoch = |world: &World, id| world.image.broker(BrokerId(id)).expect("there").epoch;
    let (one, two) = (epoch(&world, 1), epoch(&world, 2));
    assert_eq!(world.producer_ids(1, one), Ok(ProducerIdBlock { first: 0, len: 1000 }));
    assert_eq!(world.producer_ids(2, two), Ok(ProducerIdBlock { first: 1000, len: 1000 }));
    assert_eq!(world.producer_ids(1, one), Ok(ProducerIdBlock { first: 2000, len: 1000 }));
    assert_eq!(world.producer_ids(3, 1), Err(AllocateProducerIdsError::UnknownBroker(BrokerId(3))));
    let (given, present) = (one - 1, one);
    assert_eq!(world.producer_ids(1, given), Err(AllocateProducerIdsError::StaleBrokerEpoch { given, present }));
}
