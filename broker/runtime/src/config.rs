// SPDX-License-Identifier: Apache-2.0
//! The broker's configuration file: one YAML document with typed keys, plus `config:` with Kafka's names.
//! It only reads and checks; it must not open folders or sockets.
//!
//! ```yaml
//! clusterId: Fb3pXaYpTjOBkB1mPZ0u8g      # required; 1 to 64 of [A-Za-z0-9_-]
//! brokerId: 0                            # required; 0 or above
//! dataFolder: /var/lib/odradek           # required; one folder of one broker
//! listeners:                             # required; map by name
//! - {name: plain, bind: "0.0.0.0:9092", advertised: "c-0.ns.svc:9092"}
//! - {name: private, bind: "0.0.0.0:9090", advertised: "c-0.ns.svc:9090"}
//! http: "0.0.0.0:9404"                   # optional; no probes and metrics without it
//! rack: zone-a                           # optional
//! brokers:                               # optional; needed for more than one: all brokers of the cluster, and where
//! - {id: 0, host: c-0.ns.svc, port: 9090, rack: zone-a}    # the private listener of each is
//! clusterSecretFile: /etc/odradek/secret # by which brokers know each other; required with several brokers
//! coordination:                          # optional; one of these; default: this broker is alone
//!   kubernetes: {clusterName: c}         # Leases c-controller and c-broker-0 in the pod's namespace
//!   local: {leaseFile: /srv/c/lease}     # a file that the brokers of one machine share; beside it each locks its id
//! memoryLimitBytes: 536870912            # optional; default: the cgroup's limit, else the machine's memory
//! workerThreads: 2                       # optional; default: the cores this process may use
//! log: {format: json, level: info}       # optional; format text or json, level as in RUST_LOG
//! config:                                # optional; Kafka's names; values text, number or boolean
//!   auto.create.topics.enable: false
//! ```
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use odradek_coordination::ControllerLease;
use odradek_model::ClusterId;
use odradek_server::peers::ClusterSecret;
use odradek_server::settings::{BrokerSettings, SettingsError};
use serde::Deserialize;

/// Longest configuration file: a thousand times a usual one.
pub const LARGEST_FILE: usize = 1024 * 1024;

/// Why a configuration was refused: one line for the user.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not YAML, an unknown key, a missing key or a wrong type.
    #[error("{0}")]
    Syntax(String),
    /// A setting under `config:`.
    #[error("config: {0}")]
    Setting(#[from] SettingsError),
    /// A value that is not allowed.
    #[error("{key}: {problem}")]
    Value {
        /// Path of the key.
        key: String,
        /// What is wrong with it and what is allowed.
        problem: String,
    },
}

/// A broker's configuration, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The cluster that the data folder must belong to; `None`: whatever it belongs to, a new one if it is empty.
    pub cluster_id: Option<ClusterId>,
    /// This broker's id.
    pub broker_id: i32,
    /// Its data folder.
    pub data_folder: PathBuf,
    /// Kafka listeners.
    pub listeners: Vec<ListenerConfig>,
    /// Probes and metrics.
    pub http: Option<SocketAddr>,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// All brokers of the cluster, this one included; none: it is alone.
    pub brokers: Vec<BrokerAddress>,
    /// Where the secret is by which the brokers of the cluster know each other.
    pub cluster_secret_file: Option<PathBuf>,
    /// The secret itself, if all brokers are in this process; counts before the file.
    pub cluster_secret: Option<ClusterSecret>,
    /// Where the controller Lease is.
    pub coordination: Coordination,
    /// Memory to derive budgets from; `None`: ask the system.
    pub memory_limit_bytes: Option<u64>,
    /// Threads that serve; `None`: one per core.
    pub worker_threads: Option<usize>,
    /// Log output.
    pub log: LogConfig,
    /// Settings by Kafka's names.
    pub settings: BrokerSettings,
}

/// A broker of the cluster, as the configuration knows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BrokerAddress {
    /// Its id.
    pub id: i32,
    /// Where its private listener is reached.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// `broker.rack`.
    pub rack: Option<String>,
}

/// Where the controller Lease is.
#[derive(Debug, Clone, Default)]
pub enum Coordination {
    /// In the data folder of a broker that is alone.
    #[default]
    Alone,
    /// Shared by the brokers of this process.
    InProcess(Arc<dyn ControllerLease>),
    /// In a file that the brokers of this machine share.
    File(PathBuf),
    /// On Kubernetes, in the pod's namespace.
    Kubernetes {
        /// Of the `Cluster`.
        cluster_name: String,
    },
}

/// One Kafka listener.
#[derive(Debug, Clone)]
pub struct ListenerConfig {
    /// Its name; unique.
    pub name: String,
    /// Where it listens; port 0 takes a free one.
    pub bind: SocketAddr,
    /// Host and port that clients of this listener are told; `None`: where it listens.
    pub advertised: Option<(String, u16)>,
}

/// Form and detail of log output.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LogConfig {
    /// Form of a line.
    #[serde(default)]
    pub format: LogFormat,
    /// Filter as in RUST_LOG; `None`: info.
    pub level: Option<String>,
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For collectors.
    Json,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "named as the keys are")]
struct File {
    cluster_id: String,
    broker_id: i32,
    data_folder: PathBuf,
    listeners: Vec<FileListener>,
    http: Option<String>,
    rack: Option<String>,
    #[serde(default)]
    brokers: Vec<BrokerAddress>,
    cluster_secret_file: Option<PathBuf>,
    coordination: Option<FileCoordination>,
    memory_limit_bytes: Option<u64>,
    worker_threads: Option<usize>,
    #[serde(default)]
    log: LogConfig,
    #[serde(default)]
    config: BTreeMap<String, Scalar>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileListener {
    name: String,
    bind: String,
    advertised: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileCoordination {
    kubernetes: Option<FileKubernetes>,
    local: Option<FileLocal>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileKubernetes {
    cluster_name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileLocal {
    lease_file: PathBuf,
}

/// A value under `config:`: whatever YAML makes of it, it becomes the text that Kafka would have read.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Scalar {
    Boolean(bool),
    Number(i64),
    Fraction(f64),
    Text(String),
}

impl Config {
    /// Reads a configuration from a file of at most [`LARGEST_FILE`] bytes.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let bytes = odradek_disk::read_small_file(&odradek_disk::RealDisk, path, LARGEST_FILE)
            .map_err(|error| ConfigError::Syntax(error.to_string()))?
            .ok_or_else(|| ConfigError::Syntax("no such file".to_owned()))?;
        let text = std::str::from_utf8(&bytes).map_err(|_| ConfigError::Syntax("not UTF-8".to_owned()))?;
        Self::parse(text)
    }

    /// Reads a configuration from YAML text.
    pub fn parse(yaml: &str) -> Result<Self, ConfigError> {
        let file: File = serde_yaml::from_str(yaml)
            .map_err(|error| ConfigError::Syntax(error.to_string().lines().next().unwrap_or_default().to_owned()))?;
        let refuse = |key: &str, problem: String| ConfigError::Value { key: key.to_owned(), problem };
        let cluster_id = ClusterId::new(&file.cluster_id).map_err(|error| refuse("clusterId", error.to_string()))?;
        if file.broker_id < 0 {
            return Err(refuse("brokerId", format!("{} is not 0 or above", file.broker_id)));
        }
        if file.listeners.is_empty() || file.listeners.len() > 16 {
            return Err(refuse("listeners", format!("{} listeners; 1 to 16 are allowed", file.listeners.len())));
        }
        let mut listeners: Vec<ListenerConfig> = Vec::new();
        for (i, listener) in file.listeners.into_iter().enumerate() {
            let key = |part: &str| format!("listeners[{i}].{part}");
            if listener.name.is_empty() || listeners.iter().any(|l| l.name == listener.name) {
                return Err(refuse(&key("name"), format!("{:?} is empty or not unique", listener.name)));
            }
            let bind = address(&key("bind"), &listener.bind)?;
            let advertised = match &listener.advertised {
                Some(text) => Some(host_and_port(&key("advertised"), text)?),
                None if bind.ip().is_unspecified() => {
                    let problem = format!("required, as clients cannot connect to {}", bind.ip());
                    return Err(refuse(&key("advertised"), problem));
                }
                None => None,
            };
            listeners.push(ListenerConfig { name: listener.name, bind, advertised });
        }
        let http = file.http.map(|text| address("http", &text)).transpose()?;
        if file.worker_threads.is_some_and(|n| !(1..=1024).contains(&n)) {
            return Err(refuse("workerThreads", "1 to 1024 are allowed".to_owned()));
        }
        let coordination = match file.coordination {
            None => Coordination::Alone,
            Some(FileCoordination { kubernetes: Some(FileKubernetes { cluster_name }), local: None }) => {
                Coordination::Kubernetes { cluster_name }
            }
            Some(FileCoordination { kubernetes: None, local: Some(FileLocal { lease_file }) }) => {
                Coordination::File(lease_file)
            }
            Some(_) => return Err(refuse("coordination", "exactly one of kubernetes and local".to_owned())),
        };
        check_brokers(&file.brokers, file.broker_id).map_err(|problem| refuse("brokers", problem))?;
        if file.brokers.len() > 1 && matches!(coordination, Coordination::Alone) {
            return Err(refuse(
                "coordination",
                "required with several brokers: who leads has to be decided".to_owned(),
            ));
        }
        if file.brokers.len() > 1 && file.cluster_secret_file.is_none() {
            return Err(refuse("clusterSecretFile", "required with several brokers".to_owned()));
        }
        let given = file.config.into_iter().map(|(name, value)| (name, value.into_text())).collect();
        Ok(Self {
            cluster_id: Some(cluster_id),
            broker_id: file.broker_id,
            data_folder: file.data_folder,
            listeners,
            http,
            rack: file.rack,
            brokers: file.brokers,
            cluster_secret_file: file.cluster_secret_file,
            cluster_secret: None,
            coordination,
            memory_limit_bytes: file.memory_limit_bytes,
            worker_threads: file.worker_threads,
            log: file.log,
            settings: BrokerSettings::parse(given)?,
        })
    }
}

/// Brokers of one cluster: more would not know each other by a file.
const MOST_BROKERS: usize = 1000;

fn check_brokers(brokers: &[BrokerAddress], own: i32) -> Result<(), String> {
    if brokers.len() > MOST_BROKERS {
        return Err(format!("{} brokers; at most {MOST_BROKERS} are allowed", brokers.len()));
    }
    let mut ids: Vec<_> = brokers.iter().map(|broker| broker.id).collect();
    ids.sort_unstable();
    if let Some([twice, _]) = ids.array_windows().find(|[one, next]| one == next) {
        return Err(format!("broker {twice} is given twice"));
    }
    if let Some(broker) = brokers.iter().find(|b| b.id < 0 || b.host.is_empty() || b.host.len() > 253 || b.port == 0) {
        return Err(format!("broker {} needs an id of 0 or above, a host and a port", broker.id));
    }
    if !brokers.is_empty() && !ids.contains(&own) {
        return Err(format!("broker {own} itself is missing"));
    }
    Ok(())
}

impl Scalar {
    fn into_text(self) -> String {
        match self {
            Self::Boolean(value) => value.to_string(),
            Self::Number(value) => value.to_string(),
            Self::Fraction(value) => value.to_string(),
            Self::Text(value) => value,
        }
    }
}

/// Parses settings given by Kafka's names, as under `config:`.
pub fn settings(given: impl IntoIterator<Item = (String, String)>) -> Result<BrokerSettings, ConfigError> {
    Ok(BrokerSettings::parse(given.into_iter().collect())?)
}

fn address(key: &str, text: &str) -> Result<SocketAddr, ConfigError> {
    text.parse().map_err(|_| ConfigError::Value {
        key: key.to_owned(),
        problem: format!("{text:?} is not an address and port such as 0.0.0.0:9092 or [::]:9092"),
    })
}

/// Parses `host:port`; `key` is named in the error.
pub fn host_and_port(key: &str, text: &str) -> Result<(String, u16), ConfigError> {
    let refuse = || ConfigError::Value {
        key: key.to_owned(),
        problem: format!("{text:?} is not a host and port such as c-0.ns.svc:9092"),
    };
    let (host, port) = text.rsplit_once(':').ok_or_else(refuse)?;
    let port: u16 = port.parse().map_err(|_| refuse())?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() || host.len() > 253 || port == 0 {
        return Err(refuse());
    }
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "
clusterId: Fb3pXaYpTjOBkB1mPZ0u8g
brokerId: 3
dataFolder: /var/lib/odradek
listeners:
- {name: plain, bind: '0.0.0.0:9092', advertised: 'c-3.ns.svc:9092'}
- {name: private, bind: '127.0.0.1:9090'}
http: 0.0.0.0:9404
log: {format: json}
config:
  num.partitions: 6
  auto.create.topics.enable: false
  log.retention.ms: '-1'
";

    #[test]
    fn a_full_file_is_read() {
        let config = Config::parse(GOOD).unwrap();
        assert_eq!(config.broker_id, 3);
        assert_eq!(config.listeners[0].advertised, Some(("c-3.ns.svc".to_owned(), 9092)));
        assert_eq!(config.listeners[1].advertised, None);
        assert_eq!(config.log.format, LogFormat::Json);
        assert_eq!(config.settings.number("num.partitions"), 6);
        assert!(!config.settings.auto_create_topics());
    }

    #[test]
    fn several_brokers_are_read() {
        let yaml = format!(
            "{GOOD}brokers:\n- {{id: 3, host: c-3, port: 9090}}\n- {{id: 4, host: c-4, port: 9090, rack: b}}\n\
             clusterSecretFile: /s\ncoordination:\n  kubernetes: {{clusterName: c}}\n"
        );
        let config = Config::parse(&yaml).unwrap();
        assert_eq!(config.brokers[1].rack.as_deref(), Some("b"));
        assert!(matches!(config.coordination, Coordination::Kubernetes { cluster_name } if cluster_name == "c"));
        let local = yaml.replace("kubernetes: {clusterName: c}", "local: {leaseFile: /l}");
        let path = Path::new("/l");
        assert!(matches!(Config::parse(&local).unwrap().coordination, Coordination::File(file) if file == path));
        let error = Config::parse(&yaml.replace("clusterSecretFile: /s", "")).unwrap_err().to_string();
        assert!(error.contains("clusterSecretFile"), "{error}");
    }

    #[test]
    fn mistakes_are_named() {
        let cases = [
            (GOOD.replace("brokerId", "brokerID"), "brokerID"),
            (GOOD.replace("brokerId: 3", "brokerId: -1"), "brokerId"),
            (GOOD.replace("dataFolder: /var/lib/odradek", ""), "dataFolder"),
            (GOOD.replace("num.partitions", "num.partition"), "num.partition"),
            (GOOD.replace("c-3.ns.svc:9092", "c-3.ns.svc"), "listeners[0].advertised"),
            (GOOD.replace(", advertised: 'c-3.ns.svc:9092'", ""), "listeners[0].advertised"),
            (GOOD.replace("name: private", "name: plain"), "listeners[1].name"),
            (GOOD.replace("http: 0.0.0.0:9404", "http: here"), "http"),
            (format!("{GOOD}brokers: [{{id: 0, host: a, port: 1}}]"), "brokers: broker 3 itself"),
            (format!("{GOOD}brokers: [{{id: 3, host: a, port: 1}}, {{id: 3, host: b, port: 1}}]"), "twice"),
            (format!("{GOOD}brokers: [{{id: 3, host: a, port: 1}}, {{id: 4, host: b, port: 1}}]"), "coordination"),
            (format!("{GOOD}coordination: {{}}"), "coordination: exactly one"),
            (GOOD.replace("clusterId: F", "clusterId: F/"), "clusterId"),
        ];
        for (yaml, word) in cases {
            let error = Config::parse(&yaml).unwrap_err().to_string();
            assert!(error.contains(word), "{word}: {error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
}
