// SPDX-License-Identifier: Apache-2.0
//! The port to Kafka over its own protocol, on the brokers' private listener. One connection is kept
//! per Cluster; a call that breaks it is tried once more on a new one. Brokers that cannot be reached are
//! left alone for a moment, so that many Topics of one Cluster do not wait one after another. Knows no
//! Kubernetes objects.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use odradek_wire::client::{ClientError, ClientOptions, Connection};
use odradek_wire::messages::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, DeleteTopicState, DeleteTopicsRequest,
    DescribeConfigsRequest, DescribeConfigsResource, MetadataRequest, MetadataRequestTopic,
};
use odradek_wire::{ErrorCode, Request, Text};

use super::{Answer, ClusterKey, ClusterView, Kafka, KafkaError, NewTopic, OFFLINE_NAMED_MAX, TopicView};

/// How long connecting may take: within a cluster it takes milliseconds.
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);
/// How long one request may take.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
/// After a failure, further calls fail at once for this long: shorter than the shortest wait of a resource
/// before it is looked at again, so that each look of a Cluster really asks.
const LEFT_ALONE: Duration = Duration::from_millis(1500);
/// How long a call may wait for the ones before it: as long as one that fails may take.
const TURN_DEADLINE: Duration = Duration::from_secs(15);
/// How long the brokers may take to create or delete a topic, told to them in the request.
const TOPIC_DEADLINE: Duration = Duration::from_secs(8);
/// Largest answer taken: Metadata of 100,000 partitions is about 5 MB.
const RESPONSE_SIZE_MAX: usize = 16 * 1024 * 1024;
/// `ConfigResource.Type.TOPIC`.
const TOPIC_RESOURCE: i8 = 2;
/// `DescribeConfigsResponse.ConfigSource.TOPIC_CONFIG`: set for the topic itself.
const FROM_THE_TOPIC: i8 = 1;

/// Where a Cluster's private listener is reached.
pub type Address = dyn Fn(&ClusterKey) -> String + Send + Sync;

/// What is kept for one Cluster.
#[derive(Default)]
struct Kept {
    connection: Option<Connection>,
    /// When the brokers could last not be reached, and why; gone with the next success.
    failed: Option<(Instant, String)>,
}

type Slot = Arc<tokio::sync::Mutex<Kept>>;

/// The port over Kafka's protocol.
pub struct WireKafka {
    address: Box<Address>,
    /// One slot for each Cluster that exists; dropped by `forget`.
    connections: Mutex<HashMap<ClusterKey, Slot>>,
}

impl WireKafka {
    /// Connects where `address` says.
    pub fn new(address: Box<Address>) -> Self {
        Self { address, connections: Mutex::default() }
    }

    /// Connects through each Cluster's bootstrap Service.
    pub fn through_services() -> Self {
        Self::new(Box::new(|cluster| {
            format!(
                "{}:{}",
                odradek_crds::names::bootstrap_host(&cluster.name, &cluster.namespace),
                odradek_crds::names::PRIVATE_PORT
            )
        }))
    }

    async fn call<R: Request + Clone>(&self, cluster: &ClusterKey, request: R) -> Result<R::Response, KafkaError> {
        let slot = {
            let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(connections.entry(cluster.clone()).or_default())
        };
        let address = (self.address)(cluster);
        let unreachable = |reason: String| KafkaError::Unreachable { address: address.clone(), reason };
        let mut kept = tokio::time::timeout(TURN_DEADLINE, slot.lock())
            .await
            .map_err(|_| unreachable(format!("earlier requests took more than {} s", TURN_DEADLINE.as_secs())))?;
        if let Some((when, reason)) = &kept.failed
            && when.elapsed() < LEFT_ALONE
        {
            return Err(unreachable(reason.clone()));
        }
        let response = exchange(&mut kept.connection, address.as_str(), request).await;
        kept.failed = response.as_ref().err().map(|error| (Instant::now(), error.to_string()));
        response.map_err(|error| unreachable(error.to_string()))
    }

    async fn topic_settings(&self, cluster: &ClusterKey, name: &str) -> Result<BTreeMap<String, String>, KafkaError> {
        let request = DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type: TOPIC_RESOURCE,
                resource_name: Text::from(name),
                configuration_keys: None,
            }],
            ..DescribeConfigsRequest::default()
        };
        let mut settings = BTreeMap::new();
        for result in self.call(cluster, request).await?.results {
            refused(result.error_code, result.error_message.as_deref())?;
            for setting in result.configs {
                if setting.config_source == FROM_THE_TOPIC
                    && let Some(value) = setting.value
                {
                    settings.insert(setting.name.as_str().to_owned(), value.as_str().to_owned());
                }
            }
        }
        Ok(settings)
    }
}

/// One request on the kept connection, or on a new one.
async fn exchange<R: Request + Clone>(
    kept: &mut Option<Connection>,
    address: &str,
    request: R,
) -> Result<R::Response, ClientError> {
    // A kept connection may have ended with the pod behind it; that is no answer yet.
    if let Some(mut connection) = kept.take()
        && let Ok(response) = connection.call(request.clone()).await
    {
        *kept = Some(connection);
        return Ok(response);
    }
    let options = ClientOptions {
        client_id: Text::from_static(crate::OPERATOR),
        connect_timeout: CONNECT_DEADLINE,
        request_timeout: REQUEST_DEADLINE,
        max_response_size: RESPONSE_SIZE_MAX,
    };
    let mut connection = Connection::connect(address, options).await?;
    let response = connection.call(request).await?;
    *kept = Some(connection);
    Ok(response)
}

fn refused(code: i16, message: Option<&str>) -> Result<(), KafkaError> {
    if code == ErrorCode::None as i16 {
        return Ok(());
    }
    let known = ErrorCode::from_code(code);
    Err(KafkaError::Refused {
        code: known.map_or_else(|| format!("error {code}"), |known| known.name().to_owned()),
        message: message.map(str::to_owned),
        retriable: known.is_some_and(ErrorCode::is_retriable),
    })
}

fn milliseconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

impl Kafka for WireKafka {
    fn view<'a>(&'a self, cluster: &'a ClusterKey) -> Answer<'a, ClusterView> {
        Box::pin(async move {
            let request =
                MetadataRequest { topics: None, allow_auto_topic_creation: false, ..MetadataRequest::default() };
            let metadata = self.call(cluster, request).await?;
            refused(metadata.error_code, None)?;
            let offline_partitions = metadata
                .topics
                .iter()
                .flat_map(|topic| topic.partitions.iter().map(move |partition| (topic, partition)))
                .filter(|(_, partition)| partition.leader_id < 0)
                .take(OFFLINE_NAMED_MAX)
                .map(|(topic, partition)| {
                    format!("{}-{}", topic.name.as_deref().unwrap_or("?"), partition.partition_index)
                })
                .collect();
            Ok(ClusterView {
                cluster_id: metadata.cluster_id.as_deref().unwrap_or_default().to_owned(),
                brokers: metadata.brokers.iter().map(|broker| broker.node_id).collect(),
                offline_partitions,
            })
        })
    }

    fn topic<'a>(&'a self, cluster: &'a ClusterKey, name: &'a str) -> Answer<'a, Option<TopicView>> {
        Box::pin(async move {
            let request = MetadataRequest {
                topics: Some(vec![MetadataRequestTopic {
                    name: Some(Text::from(name)),
                    ..MetadataRequestTopic::default()
                }]),
                allow_auto_topic_creation: false,
                ..MetadataRequest::default()
            };
            let metadata = self.call(cluster, request).await?;
            refused(metadata.error_code, None)?;
            let Some(topic) = metadata.topics.into_iter().next() else { return Ok(None) };
            if topic.error_code == ErrorCode::UnknownTopicOrPartition as i16 {
                return Ok(None);
            }
            refused(topic.error_code, None)?;
            let config = self.topic_settings(cluster, name).await?;
            Ok(Some(TopicView {
                id: kafka_id(topic.topic_id),
                partitions: i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX),
                replicas: topic
                    .partitions
                    .first()
                    .map_or(0, |partition| i32::try_from(partition.replica_nodes.len()).unwrap_or(i32::MAX)),
                config,
            }))
        })
    }

    fn create_topic<'a>(&'a self, cluster: &'a ClusterKey, topic: &'a NewTopic) -> Answer<'a, ()> {
        Box::pin(async move {
            let replication_factor = topic.replicas.map_or(-1, |count| i16::try_from(count).unwrap_or(i16::MAX));
            let request = CreateTopicsRequest {
                topics: vec![CreatableTopic {
                    name: Text::from(topic.name.as_str()),
                    // -1 asks for the brokers' default.
                    num_partitions: topic.partitions.unwrap_or(-1),
                    replication_factor,
                    configs: topic
                        .config
                        .iter()
                        .map(|(name, value)| CreatableTopicConfig {
                            name: Text::from(name.as_str()),
                            value: Some(Text::from(value.as_str())),
                        })
                        .collect(),
                    ..CreatableTopic::default()
                }],
                timeout_ms: milliseconds(TOPIC_DEADLINE),
                ..CreateTopicsRequest::default()
            };
            for result in self.call(cluster, request).await?.topics {
                refused(result.error_code, result.error_message.as_deref())?;
            }
            Ok(())
        })
    }

    fn delete_topic<'a>(&'a self, cluster: &'a ClusterKey, id: &'a str) -> Answer<'a, bool> {
        Box::pin(async move {
            // What is no id belongs to no topic.
            let Some(topic_id) = uuid_of(id) else { return Ok(false) };
            let request = DeleteTopicsRequest {
                topics: vec![DeleteTopicState { topic_id, ..DeleteTopicState::default() }],
                timeout_ms: milliseconds(TOPIC_DEADLINE),
                ..DeleteTopicsRequest::default()
            };
            let mut deleted = false;
            for result in self.call(cluster, request).await?.responses {
                if result.error_code == ErrorCode::UnknownTopicId as i16 {
                    continue;
                }
                refused(result.error_code, result.error_message.as_deref())?;
                deleted = true;
            }
            Ok(deleted)
        })
    }

    fn forget(&self, cluster: &ClusterKey) {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).remove(cluster);
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A uuid in Kafka's form of ids: URL-safe base64 without padding.
pub fn kafka_id(id: uuid::Uuid) -> String {
    let mut text = String::with_capacity(22);
    for chunk in id.as_bytes().chunks(3) {
        let mut bytes = [0_u8; 3];
        bytes[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
        for position in 0..=chunk.len() {
            text.push(char::from(ALPHABET[(bits >> (18 - 6 * position)) as usize & 63]));
        }
    }
    text
}

/// The uuid of an id in Kafka's form.
pub fn uuid_of(id: &str) -> Option<uuid::Uuid> {
    if id.len() != 22 {
        return None;
    }
    let mut bits: u128 = 0;
    for (position, byte) in id.bytes().enumerate() {
        let value = ALPHABET.iter().position(|letter| *letter == byte)? as u128;
        // 22 letters carry 132 bits; the last four are empty.
        bits = if position == 21 { (bits << 2) | (value >> 4) } else { (bits << 6) | value };
    }
    let uuid = uuid::Uuid::from_u128(bits);
    (kafka_id(uuid) == id).then_some(uuid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written() {
        for number in [0, 1, u128::MAX, 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef, 1 << 127] {
            let uuid = uuid::Uuid::from_u128(number);
            assert_eq!(uuid_of(&kafka_id(uuid)), Some(uuid));
        }
        for wrong in [
            "",
            "id1",
            "ASNFZ4mrze8BI0VniavN7",
            "ASNFZ4mrze8BI0VniavN7/",
            "ASNFZ4mrze8BI0VniavN7wx",
            "ASNFZ4mrze8BI0VniavN7é",
        ] {
            assert_eq!(uuid_of(wrong), None, "{wrong}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn many_calls_to_brokers_that_do_not_answer_end_together() {
        // It takes connections and says nothing.
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = silent.local_addr().unwrap().to_string();
        let kafka = Arc::new(WireKafka::new(Box::new(move |_| address.clone())));
        let key = ClusterKey { namespace: "shop".into(), name: "events".into() };
        let begun = Instant::now();
        let calls = (0..50).map(|_| {
            let (kafka, key) = (Arc::clone(&kafka), key.clone());
            tokio::spawn(async move { kafka.topic(&key, "orders").await })
        });
        for call in futures::future::join_all(calls).await {
            assert!(matches!(call.unwrap(), Err(KafkaError::Unreachable { .. })));
        }
        // One after another they would take 50 times as long.
        assert!(begun.elapsed() < CONNECT_DEADLINE * 3, "{:?}", begun.elapsed());
    }
}
