// SPDX-License-Identifier: Apache-2.0
//! Structs that more than one response carries: who leads a partition, and where that broker is (KIP-951).
//! They have all their fields in every version that carries them.

use odradek_wire_derive::Wire;

use crate::text::Text;

/// The leader of a partition, as far as the answering broker knows.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct LeaderIdAndEpoch {
    /// Broker id of the leader, or -1.
    #[wire(default = -1)]
    pub leader_id: i32,
    /// Leader epoch, or -1.
    #[wire(default = -1)]
    pub leader_epoch: i32,
}

/// Address of a broker that is named as a leader in the same response.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct NodeEndpoint {
    /// Id of the broker.
    pub node_id: i32,
    /// Host name or address for clients.
    pub host: Text,
    /// Port for clients.
    pub port: i32,
    /// Rack of the broker, or null.
    #[wire(nullable = "0+", default = None)]
    pub rack: Option<Text>,
}
