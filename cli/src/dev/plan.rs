// SPDX-License-Identifier: Apache-2.0
//! From options to the brokers that are to run: their ids, addresses, folders, racks and settings. Reads the names in the
//! data folder, binds ports, and opens what several brokers share; nothing else.
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use odradek_runtime::config::{
    BrokerAddress, Config, Coordination, ListenerConfig, LogConfig, host_and_port, settings,
};
use odradek_runtime::{PRIVATE_LISTENER, SharedCluster, Sockets};

use super::{Options, ports};

/// The listener for clients.
const CLIENTS: &str = "plain";
/// The name that the runtime gives to the socket of probes and metrics.
const HTTP: &str = "http";
/// Where brokers talk with each other: on this machine, each on a free port.
const PRIVATE_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// What a broker's folder is called in a data folder of several.
const FOLDER: &str = "broker-";
/// The file by which a folder is known to be a broker's own.
const IDENTITY: &str = "odradek-meta.json";
/// Threads that serve, of each broker of several: more than these would only take turns on a laptop's cores.
const MOST_WORKERS: usize = 4;

/// What is to run.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) brokers: Vec<BrokerPlan>,
    /// The folder of all.
    pub(super) folder: PathBuf,
}

/// One broker.
#[derive(Debug, Clone)]
pub(super) struct BrokerPlan {
    /// Its configuration, with the ports that it has from its first start on.
    pub(super) config: Config,
    /// Where clients reach it, as they are told.
    pub(super) advertised: String,
}

impl Plan {
    /// Binds the ports, and plans with what was given. Sockets are in the order of the brokers.
    pub(super) async fn new(options: &Options, folder: &Path) -> anyhow::Result<(Self, Vec<Sockets>)> {
        let settings = settings(given_settings(&options.set)?)?;
        let advertised = advertised(options)?;
        ensure!(options.racks.iter().all(|rack| !rack.is_empty()), "--racks: a rack without a name");
        let count = options.brokers;
        let clients = ports::bind(options.listen, count).await?;
        let mut http = match options.http {
            Some(address) => ports::bind(address, count).await?.into_iter().map(Some).collect(),
            None => Vec::new(),
        };
        http.resize_with(usize::from(count), || None);
        let several = count > 1;
        // One that is alone talks with nobody.
        let mut private = if several {
            ports::bind(PRIVATE_ADDRESS, count).await?.into_iter().map(Some).collect()
        } else {
            Vec::new()
        };
        private.resize_with(usize::from(count), || None);
        let shared = several.then(|| SharedCluster::open(folder, &folder.join(format!("{FOLDER}0")))).transpose()?;
        let rack = |i: u16| options.racks.get(usize::from(i) % options.racks.len().max(1)).cloned();
        let all: Vec<BrokerAddress> = (0..count)
            .zip(private.iter().flatten())
            .map(|(i, private)| BrokerAddress {
                id: i32::from(i),
                host: private.address.ip().to_string(),
                port: private.address.port(),
                rack: rack(i),
            })
            .collect();
        let (mut brokers, mut sockets) = (Vec::new(), Vec::new());
        for (((i, clients), http), private) in (0..count).zip(clients).zip(http).zip(private) {
            let advertised = match &advertised {
                // Port 0 was asked for: the one that was given is told.
                Some((host, 0)) => Some((host.clone(), clients.address.port())),
                Some((host, port)) => {
                    let port = port.checked_add(i).with_context(|| format!("--advertise: no port {port} + {i}"))?;
                    Some((host.clone(), port))
                }
                None => None,
            };
            let told = match &advertised {
                Some((host, port)) if host.contains(':') => format!("[{host}]:{port}"),
                Some((host, port)) => format!("{host}:{port}"),
                None => clients.address.to_string(),
            };
            let mut listeners = vec![ListenerConfig { name: CLIENTS.to_owned(), bind: clients.address, advertised }];
            listeners.extend(private.as_ref().map(|private| ListenerConfig {
                name: PRIVATE_LISTENER.to_owned(),
                bind: private.address,
                advertised: None,
            }));
            let config = Config {
                cluster_id: shared.as_ref().map(|shared| shared.cluster_id.clone()),
                broker_id: i32::from(i),
                data_folder: if several { folder.join(format!("{FOLDER}{i}")) } else { folder.to_owned() },
                listeners,
                http: http.as_ref().map(|http| http.address),
                rack: rack(i),
                brokers: all.clone(),
                cluster_secret_file: None,
                cluster_secret: shared.as_ref().map(|shared| shared.secret.clone()),
                coordination: shared.as_ref().map_or(Coordination::Alone, |shared| {
                    Coordination::InProcess(std::sync::Arc::clone(&shared.lease))
                }),
                memory_limit_bytes: None,
                worker_threads: several
                    .then(|| std::thread::available_parallelism().map_or(1, |cores| cores.get().min(MOST_WORKERS))),
                log: LogConfig::default(),
                settings: settings.clone(),
            };
            let mut bound = Sockets::default();
            bound.insert(CLIENTS, clients.socket);
            if let Some(http) = http {
                bound.insert(HTTP, http.socket);
            }
            if let Some(private) = private {
                bound.insert(PRIVATE_LISTENER, private.socket);
            }
            brokers.push(BrokerPlan { config, advertised: told });
            sockets.push(bound);
        }
        Ok((Self { brokers, folder: folder.to_owned() }, sockets))
    }

    /// What a client is given to reach any of them.
    pub(super) fn bootstrap(&self) -> String {
        let all: Vec<&str> = self.brokers.iter().map(|broker| broker.advertised.as_str()).collect();
        all.join(",")
    }
}

impl BrokerPlan {
    /// Where clients connect to.
    pub(super) fn address(&self) -> SocketAddr {
        self.config.listeners[0].bind
    }
}

fn given_settings(set: &[String]) -> anyhow::Result<Vec<(String, String)>> {
    // A developer waits for the first rebalance of every test: the pause that gathers a fleet's members is short, yet
    // long enough that members started together share the first generation.
    let mut given = vec![("group.initial.rebalance.delay.ms".to_owned(), "100".to_owned())];
    for pair in set {
        let (name, value) = pair.split_once('=').with_context(|| format!("--set {pair}: not NAME=VALUE"))?;
        given.push((name.to_owned(), value.to_owned()));
    }
    Ok(given)
}

/// Host and port that clients are told of the first broker; `None`: its address. Port 0: the one it listens on.
fn advertised(options: &Options) -> anyhow::Result<Option<(String, u16)>> {
    Ok(match &options.advertise {
        Some(text) => Some(host_and_port("--advertise", text)?),
        None if options.listen.ip().is_unspecified() => Some(("127.0.0.1".to_owned(), 0)),
        None => None,
    })
}

/// Refuses a folder whose brokers are others than those that are to run in it. Brokers may only be added.
pub(super) fn check_folder(folder: &Path, brokers: u16) -> anyhow::Result<()> {
    let names = match std::fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.file_name())).collect::<std::io::Result<Vec<_>>>(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => Err(error),
    };
    let names = names.with_context(|| format!("--data-dir {}", folder.display()))?;
    let names: Vec<&str> = names.iter().filter_map(|name| name.to_str()).collect();
    let highest = names.iter().filter_map(|name| name.strip_prefix(FOLDER)?.parse::<u16>().ok()).max();
    let folder = folder.display();
    match highest {
        None if brokers > 1 && names.contains(&IDENTITY) => {
            bail!(
                "--data-dir {folder} holds the data of one broker that ran alone: leave --brokers out, or take another folder"
            )
        }
        Some(highest) if brokers == 1 || highest >= brokers => {
            bail!(
                "--data-dir {folder} holds the data of {} brokers: --brokers has to be at least that",
                u32::from(highest) + 1
            )
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev::Arguments;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    /// In a folder that is gone afterwards: brokers that share something keep it there.
    async fn plan(line: &[&str]) -> anyhow::Result<Plan> {
        let line = Line::try_parse_from([&["dev"], line].concat())?;
        let folder = tempfile::tempdir()?;
        Ok(Plan::new(&line.arguments.options, folder.path()).await?.0)
    }

    #[tokio::test]
    async fn racks_are_taken_by_turns_and_folders_by_id() {
        let plan = plan(&["--brokers", "4", "--racks", "a,b,c", "--listen", "127.0.0.1:0"]).await.unwrap();
        let racks: Vec<&str> = plan.brokers.iter().map(|broker| broker.config.rack.as_deref().unwrap()).collect();
        assert_eq!(racks, ["a", "b", "c", "a"]);
        assert_eq!(plan.brokers[3].config.data_folder, plan.folder.join("broker-3"));
        let addresses: Vec<String> = plan.brokers.iter().map(|broker| broker.address().to_string()).collect();
        assert_eq!(plan.bootstrap(), addresses.join(","));
    }

    #[tokio::test]
    async fn all_know_where_the_private_listener_of_each_is() {
        let plan = plan(&["--brokers", "3", "--listen", "127.0.0.1:0"]).await.unwrap();
        let ids = |broker: &BrokerPlan| broker.config.cluster_id.clone().unwrap();
        for broker in &plan.brokers {
            for (other, known) in plan.brokers.iter().zip(&broker.config.brokers) {
                let private = other.config.listeners.iter().find(|l| l.name == PRIVATE_LISTENER).unwrap();
                assert_eq!((known.id, known.port), (other.config.broker_id, private.bind.port()));
            }
            assert_eq!((broker.config.brokers.len(), ids(broker)), (3, ids(&plan.brokers[0])));
            assert!(matches!(broker.config.coordination, Coordination::InProcess(_)));
        }
    }

    #[tokio::test]
    async fn one_broker_has_the_folder_itself_and_no_rack() {
        let plan = plan(&["--listen", "0.0.0.0:0"]).await.unwrap();
        let broker = &plan.brokers[0];
        assert_eq!((&broker.config.data_folder, &broker.config.rack), (&plan.folder, &None));
        assert!(broker.config.brokers.is_empty() && broker.config.listeners.len() == 1, "{broker:?}");
        assert_eq!(broker.advertised, format!("127.0.0.1:{}", broker.address().port()));
    }

    #[tokio::test]
    async fn advertised_ports_are_consecutive() {
        let plan = plan(&["--brokers", "2", "--listen", "127.0.0.1:0", "--advertise", "[::1]:9000"]).await.unwrap();
        assert_eq!(plan.bootstrap(), "[::1]:9000,[::1]:9001");
    }

    #[tokio::test]
    async fn what_cannot_be_is_refused() {
        for (line, word) in [
            (vec!["--brokers", "0"], "--brokers"),
            (vec!["--brokers", "17"], "--brokers"),
            (vec!["--brokers", "3", "--listen", "127.0.0.1:65534"], "65534"),
            (vec!["--listen", "127.0.0.1:0", "--racks", "a,,b"], "--racks"),
            (vec!["--listen", "127.0.0.1:0", "--set", "x"], "--set x"),
            (vec!["--brokers", "3", "--output", "json", "broker", "list"], "broker"),
        ] {
            let error = plan(&line).await.unwrap_err();
            assert!(format!("{error:#}").contains(word), "{line:?}: {error:#}");
        }
    }

    #[test]
    fn a_folder_of_other_brokers_is_refused_unless_some_are_added() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let check = |brokers| check_folder(path, brokers).map_err(|error| error.to_string());
        assert_eq!((check(1), check(3)), (Ok(()), Ok(())));
        std::fs::write(path.join(IDENTITY), "{}").unwrap();
        assert_eq!(check(1), Ok(()));
        assert!(check(3).unwrap_err().contains("ran alone"));
        std::fs::remove_file(path.join(IDENTITY)).unwrap();
        for id in 0..3 {
            std::fs::create_dir(path.join(format!("broker-{id}"))).unwrap();
        }
        assert_eq!((check(3), check(5)), (Ok(()), Ok(())));
        assert!(check(2).unwrap_err().contains("3 brokers"));
        assert!(check(1).unwrap_err().contains("3 brokers"));
        assert_eq!(check_folder(&path.join("missing"), 3).map_err(|error| error.to_string()), Ok(()));
    }
}
