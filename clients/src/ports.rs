// SPDX-License-Identifier: Apache-2.0
//! Ports of this machine that nothing listens on. Knows nothing of who will.

use crate::workload::Random;
use anyhow::{Result, bail};
use std::net::TcpListener;

/// So many different ports that nothing listens on, below those that the kernel gives to outgoing connections: one of
/// these could be taken by any client in the moment in which a broker is away.
///
/// Each is held until all are known, so that they differ. Another process may take one before the broker does; the
/// broker then fails to start, and says so.
pub(crate) fn free_ports(count: usize) -> Result<Vec<u16>> {
    const PORTS: std::ops::Range<u64> = 20_000..32_000;
    const TRIES: usize = 1_000;
    let mut random =
        Random::new(std::time::UNIX_EPOCH.elapsed()?.as_nanos() as u64 ^ u64::from(std::process::id()) << 32);
    let mut held: Vec<TcpListener> = Vec::new();
    for _ in 0..TRIES {
        if held.len() == count {
            break;
        }
        let port = u16::try_from(random.between(PORTS.start, PORTS.end))?;
        held.extend(TcpListener::bind(("127.0.0.1", port)));
    }
    if held.len() < count {
        bail!("not {count} free ports among {TRIES} tried of {PORTS:?}");
    }
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}
