// SPDX-License-Identifier: Apache-2.0
//! Ports of this machine that nothing listens on. It must not know who will.
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below those that the kernel gives to outgoing connections, of which one could have the port in the moment in which a
/// broker starts, or starts again; and below those of the checks with clients.
const FIRST: u16 = 10_000;
const COUNT: u16 = 10_000;

/// So many different ports. Those that tests of one process are given differ, and processes that run at the same time
/// begin at different ones.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    // Far apart for neighbours: a process of tests needs some dozens.
    let begin = (std::process::id() % 100) as u16 * 97;
    [(); N].map(|()| {
        loop {
            let given = GIVEN.fetch_add(1, Ordering::Relaxed);
            assert!(given < COUNT, "no free port from {FIRST} on");
            let port = FIRST + (begin + given) % COUNT;
            if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                return port;
            }
        }
    })
}
