// SPDX-License-Identifier: Apache-2.0
//! Silent cuts of the network: packets of one direction between two of its members are lost, without an answer that
//! would tell either side. It must not know what runs there.
//!
//! The sender is given a wrong hardware address for the receiver, which nobody has: the switch carries the packets
//! nowhere. That needs no packet filter, which a kernel may be built without, and works for open connections too.

use std::net::Ipv4Addr;

use anyhow::Result;

use crate::command::system;
use crate::network;

/// A member of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Member {
    /// This machine itself, with the test and its clients.
    Host,
    /// A node, counted from 1.
    Node(u8),
}

impl Member {
    fn address(self) -> Ipv4Addr {
        match self {
            Self::Host => network::HOST,
            Self::Node(node) => network::node_address(node),
        }
    }

    /// Runs `ip` in the member's namespace.
    async fn ip(self, arguments: &[&str]) -> Result<()> {
        match self {
            Self::Host => system("ip", arguments).await?,
            Self::Node(node) => {
                let namespace = network::node_namespace(node);
                let mut inside = vec!["-n", namespace.file_name().and_then(|name| name.to_str()).unwrap_or_default()];
                inside.extend(arguments);
                system("ip", inside).await?
            }
        };
        Ok(())
    }

    fn interface(self) -> &'static str {
        match self {
            Self::Host => network::HOST_INTERFACE,
            Self::Node(_) => "eth0",
        }
    }
}

/// An address of the locally administered range that no interface has: the kernel draws theirs at random.
const NOBODY: &str = "02:00:00:00:00:01";

/// From now on nothing that `from` sends reaches `to`.
pub async fn cut(from: Member, to: Member) -> Result<()> {
    let address = to.address().to_string();
    from.ip(&["neigh", "replace", &address, "lladdr", NOBODY, "dev", from.interface(), "nud", "permanent"]).await
}

/// From now on nothing passes between the two.
pub async fn cut_both(one: Member, other: Member) -> Result<()> {
    cut(one, other).await?;
    cut(other, one).await
}

/// Takes every cut back.
pub async fn heal(nodes: u8) -> Result<()> {
    for member in std::iter::once(Member::Host).chain((1..=nodes).map(Member::Node)) {
        member.ip(&["neigh", "flush", "dev", member.interface(), "nud", "permanent"]).await?;
    }
    Ok(())
}
