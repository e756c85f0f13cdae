// SPDX-License-Identifier: Apache-2.0
//! The operator and a real broker in one process: the broker reads the configuration that the operator
//! writes, answers what the operator asks, and obeys the settings that the operator lets through.

#![allow(clippy::unwrap_used)]

use odradek_crds::Cluster;
use odradek_operator::cluster::fetch::Observed;
use odradek_operator::cluster::{build, settings, validate};
use odradek_operator::context::BrokerImages;
use odradek_operator::kafka::wire::WireKafka;
use odradek_operator::kafka::{ClusterKey, Kafka, KafkaError, NewTopic};
use odradek_runtime::Broker;
use odradek_runtime::config::Config;

fn key() -> ClusterKey {
    ClusterKey { namespace: "shop".into(), name: "full".into() }
}

/// The configuration that the operator writes, moved to this machine's loopback and a folder of the test's own.
fn configuration(folder: &std::path::Path) -> String {
    let fixture = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/full.yaml");
    let cluster: Cluster = serde_yaml::from_str(&std::fs::read_to_string(fixture).unwrap()).unwrap();
    let images = BrokerImages { repository: "odradek-broker".into(), pull_policy: None };
    let valid = validate::validate(&cluster, &Observed::default(), &images).unwrap();
    let config_map = build::build(&valid).config_map;
    let mut yaml = config_map.data.unwrap()["broker.yaml"].replace("/var/lib/odradek", &folder.display().to_string());
    for port in [9092, 19092, 9090, 9404] {
        yaml = yaml.replace(&format!("0.0.0.0:{port}"), "127.0.0.1:0");
    }
    yaml
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_speaks_with_a_broker_that_runs_its_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::parse(&configuration(folder.path())).unwrap();
    let broker = Broker::start(config).await.unwrap();
    let address = broker.address("PRIVATE").unwrap().to_string();
    let kafka = WireKafka::new(Box::new(move |_| address.clone()));

    let view = kafka.view(&key()).await.unwrap();
    assert_eq!(view.cluster_id, "ChssPU5fSmuMfZ4PGis8TQ");
    assert_eq!(view.brokers, [0]);
    assert!(view.offline_partitions.is_empty());

    assert_eq!(kafka.topic(&key(), "orders").await.unwrap(), None);
    let orders = NewTopic {
        name: "orders".into(),
        partitions: Some(3),
        replicas: Some(1),
        config: [("retention.ms".to_owned(), "60000".to_owned())].into(),
    };
    kafka.create_topic(&key(), &orders).await.unwrap();
    let made = kafka.topic(&key(), "orders").await.unwrap().unwrap();
    assert_eq!((made.partitions, made.replicas), (3, 1));
    assert_eq!(made.config, orders.config, "only the topic's own settings are read back");
    assert_eq!(made.id.len(), 22);

    // Defaults are the brokers': num.partitions of the fixture is 6.
    let plain = NewTopic { name: "plain".into(), ..NewTopic::default() };
    kafka.create_topic(&key(), &plain).await.unwrap();
    let made = kafka.topic(&key(), "plain").await.unwrap().unwrap();
    assert_eq!((made.partitions, made.config.len()), (6, 0));

    let again = kafka.create_topic(&key(), &orders).await.unwrap_err();
    assert!(matches!(again, KafkaError::Refused { ref code, .. } if code == "TOPIC_ALREADY_EXISTS"), "{again}");
    let made = kafka.topic(&key(), "orders").await.unwrap().unwrap();
    assert!(kafka.delete_topic(&key(), &made.id).await.unwrap());
    assert!(!kafka.delete_topic(&key(), &made.id).await.unwrap(), "deleted already");
    assert_eq!(kafka.topic(&key(), "orders").await.unwrap(), None);
    // A later topic of the same name is another one.
    kafka.create_topic(&key(), &orders).await.unwrap();
    assert!(!kafka.delete_topic(&key(), &made.id).await.unwrap());
    assert!(!kafka.delete_topic(&key(), "orders").await.unwrap(), "a name is no id");
    assert!(kafka.topic(&key(), "orders").await.unwrap().is_some());

    broker.shutdown().await;
    assert!(matches!(kafka.view(&key()).await, Err(KafkaError::Unreachable { .. })));
}

#[test]
fn the_operator_lets_through_what_the_broker_obeys_and_nothing_else() {
    let obeyed: Vec<&str> = odradek_server::settings::BROKER_SETTINGS.iter().map(|setting| setting.name).collect();
    assert_eq!(settings::BROKER_SETTINGS, obeyed);
}
