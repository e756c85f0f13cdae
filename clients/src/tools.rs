// SPDX-License-Identifier: Apache-2.0
//! The main classes of Apache Kafka's command line tools, each named as its script is. Knows nothing of their arguments.

/// `kafka-topics`.
pub const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
/// `kafka-configs`.
pub const CONFIGS: &str = "kafka.admin.ConfigCommand";
/// `kafka-consumer-groups`.
pub const CONSUMER_GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
/// `kafka-groups`.
pub const GROUPS: &str = "org.apache.kafka.tools.GroupsCommand";
/// `kafka-get-offsets`.
pub const GET_OFFSETS: &str = "org.apache.kafka.tools.GetOffsetShell";
/// `kafka-log-dirs`.
pub const LOG_DIRS: &str = "org.apache.kafka.tools.LogDirsCommand";
/// `kafka-reassign-partitions`.
pub const REASSIGN_PARTITIONS: &str = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand";
/// `kafka-leader-election`.
pub const LEADER_ELECTION: &str = "org.apache.kafka.tools.LeaderElectionCommand";
/// `kafka-cluster`.
pub const CLUSTER: &str = "org.apache.kafka.tools.ClusterTool";
/// `kafka-broker-api-versions`.
pub const BROKER_API_VERSIONS: &str = "org.apache.kafka.tools.BrokerApiVersionsCommand";
/// `kafka-metadata-quorum`.
pub const METADATA_QUORUM: &str = "org.apache.kafka.tools.MetadataQuorumCommand";
/// `kafka-replica-verification`, which Apache Kafka 4.3.1 still has though it is deprecated there.
pub const REPLICA_VERIFICATION: &str = "org.apache.kafka.tools.ReplicaVerificationTool";
/// `kafka-console-producer`.
pub const CONSOLE_PRODUCER: &str = "org.apache.kafka.tools.ConsoleProducer";
/// `kafka-console-consumer`.
pub const CONSOLE_CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";
/// `kafka-dump-log`.
pub const DUMP_LOG: &str = "org.apache.kafka.tools.DumpLogSegments";
