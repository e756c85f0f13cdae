// SPDX-License-Identifier: Apache-2.0
//! Ports for the brokers of a dev cluster: all are bound before any broker runs, so that each can be told of the others.
//! It must not know what listens there.
use std::hash::{BuildHasher as _, RandomState};
use std::net::{SocketAddr, TcpListener};

use anyhow::{Context as _, bail};

/// Where free ports are looked for: below those that systems give to outgoing connections, one of which could otherwise
/// take the port of a broker that is stopped for a moment.
const FREE_PORTS: std::ops::Range<u16> = 20_000..32_000;
/// Ports tried before giving up. Even with half of them in use all tries fail once in 2^100 times.
const TRIES: u32 = 100;

/// A bound socket and where it listens.
pub(super) struct Bound {
    pub(super) address: SocketAddr,
    pub(super) socket: TcpListener,
}

/// `count` sockets from `first` on, on consecutive ports; each on a free port of its own if that is port 0.
pub(super) async fn bind(first: SocketAddr, count: u16) -> anyhow::Result<Vec<Bound>> {
    let mut bound = Vec::new();
    for address in consecutive(first, count)? {
        bound.push(if address.port() == 0 { bind_free(address).await? } else { bind_one(address).await? });
    }
    Ok(bound)
}

fn consecutive(first: SocketAddr, count: u16) -> anyhow::Result<Vec<SocketAddr>> {
    let address = |i: u16| {
        let mut address = first;
        if first.port() != 0 {
            address.set_port(first.port().checked_add(i)?);
        }
        Some(address)
    };
    (0..count)
        .map(|i| address(i).with_context(|| format!("{first}: there are not {count} ports from there on")))
        .collect()
}

async fn bind_one(address: SocketAddr) -> anyhow::Result<Bound> {
    let socket = tokio::net::TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    Ok(Bound { address: socket.local_addr()?, socket: socket.into_std()? })
}

async fn bind_free(mut address: SocketAddr) -> anyhow::Result<Bound> {
    let random = RandomState::new();
    let span = u64::from(FREE_PORTS.end - FREE_PORTS.start);
    for attempt in 0..TRIES {
        let port = FREE_PORTS.start + u16::try_from(random.hash_one(attempt) % span)?;
        address.set_port(port);
        match bind_one(address).await {
            Ok(bound) => return Ok(bound),
            // The address itself may be wrong: then no port helps.
            Err(error) if is_taken(&error) => {}
            Err(error) => return Err(error),
        }
    }
    bail!("no free port for {} among {TRIES} tried of {FREE_PORTS:?}", address.ip())
}

fn is_taken(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_consecutive_or_free() {
        let ports = |first: &str, count| {
            consecutive(first.parse().unwrap(), count)
                .map(|all| all.iter().map(SocketAddr::port).collect::<Vec<_>>())
                .map_err(|error| error.to_string())
        };
        assert_eq!(ports("127.0.0.1:9092", 3).unwrap(), [9092, 9093, 9094]);
        assert_eq!(ports("[::1]:0", 2).unwrap(), [0, 0]);
        assert_eq!(ports("127.0.0.1:65534", 2).unwrap(), [65_534, 65_535]);
        assert!(ports("127.0.0.1:65534", 3).unwrap_err().contains("65534"));
    }

    #[tokio::test]
    async fn free_ports_differ_and_lie_below_those_of_outgoing_connections() {
        let bound = bind("127.0.0.1:0".parse().unwrap(), 5).await.unwrap();
        let ports: std::collections::BTreeSet<u16> = bound.iter().map(|one| one.address.port()).collect();
        assert_eq!(ports.len(), 5);
        assert!(ports.iter().all(|port| FREE_PORTS.contains(port)), "{ports:?}");
        let taken = bind(bound[0].address, 1).await.map(drop).unwrap_err();
        assert!(format!("{taken:#}").contains(&bound[0].address.to_string()), "{taken:#}");
    }
}
