// SPDX-License-Identifier: Apache-2.0
//! What a broker gets from the process it runs in, where a process of its own would just take it: the disk, and sockets
//! that listen already. It must not know what they are used for.
use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use odradek_disk::{Disk, Gate, RealDisk};

/// See the module. The default is a process of its own.
#[derive(Debug)]
pub struct Machine {
    /// Where everything is stored.
    pub disk: Arc<dyn Disk>,
    /// Where threads wait or end that do not pass the disk in each of their steps.
    pub gate: Arc<Gate>,
    /// Sockets bound before, by the name of their listener (`http` for probes and metrics). A listener that is not
    /// here binds its own: who needs to know ports before the broker runs binds them.
    pub sockets: Sockets,
}

impl Default for Machine {
    fn default() -> Self {
        Self { disk: Arc::new(RealDisk), gate: Arc::default(), sockets: Sockets::default() }
    }
}

/// Sockets that listen, by the name of their listener.
#[derive(Debug, Default)]
pub struct Sockets(BTreeMap<String, TcpListener>);

impl Sockets {
    /// Adds one.
    pub fn insert(&mut self, listener: &str, socket: TcpListener) {
        self.0.insert(listener.to_owned(), socket);
    }

    /// The one of a listener, made here from `address` if there is none.
    pub(crate) async fn take(&mut self, listener: &str, address: SocketAddr) -> io::Result<tokio::net::TcpListener> {
        match self.0.remove(listener) {
            Some(socket) => {
                socket.set_nonblocking(true)?;
                tokio::net::TcpListener::from_std(socket)
            }
            None => tokio::net::TcpListener::bind(address).await,
        }
    }
}
