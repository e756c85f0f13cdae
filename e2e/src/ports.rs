// SPDX-License-Identifier: Apache-2.0
//! TCP ports of loopback that nobody listens on.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// `N` different free ports of 127.0.0.1. Another process could take one before it is used; with the
/// kernel's 28,000 ephemeral ports that is rare, and the daemon that was to listen then says so.
pub fn free<const N: usize>() -> io::Result<[u16; N]> {
    let mut listeners = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        *port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(ports)
}
