// SPDX-License-Identifier: Apache-2.0
//! TCP ports of loopback that nobody listens on.

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;

/// Below the ports that the kernel gives to outgoing connections: one of these could be taken by any client while a
/// server that a test has stopped is away.
const RANGE: Range<u16> = 20_000..32_000;

/// `N` different free ports of 127.0.0.1. Another process could take one before it is used; that is rare, and the
/// daemon that was to listen then says so.
pub fn free<const N: usize>() -> io::Result<[u16; N]> {
    let mut listeners = Vec::with_capacity(N);
    let mut ports = [0; N];
    // Each process begins somewhere else and looks at every port once.
    let size = RANGE.end - RANGE.start;
    let begin = (RandomState::new().hash_one(0) % u64::from(size)) as u16;
    let mut candidates = (0..size).map(|step| RANGE.start + (begin + step) % size);
    for port in &mut ports {
        let listener =
            candidates.find_map(|candidate| TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, candidate))).ok());
        let listener = listener.ok_or_else(|| io::Error::other("no port is free"))?;
        *port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_differ_and_no_outgoing_connection_takes_them() {
        let [first, second, third] = free().unwrap();
        assert!(first != second && second != third && first != third);
        assert!([first, second, third].iter().all(|port| RANGE.contains(port)));
    }
}
