// SPDX-License-Identifier: Apache-2.0
//! Where brokers run as processes: three machines for them and one for kube-apiserver and etcd, each a network
//! namespace on one switch, beside this machine with the clients. What can be taken away from it is in
//! [`crate::control_plane`] and [`crate::cuts`]; [`Site::heal`] gives all of it back.

use std::env;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Result, ensure};

use crate::control_plane::{ControlPlane, ControlPlaneOptions};
use crate::cuts::{self, Member};
use crate::leftovers::Remover;
use crate::machine::Machine;
use crate::workspace::Workspace;
use crate::{leftovers, network};

/// How many brokers a site has room for.
pub const BROKERS: u8 = 3;
/// The node of kube-apiserver and etcd.
const CONTROL_NODE: u8 = BROKERS + 1;

/// The machines and the control plane.
pub struct Site {
    // Dropped in this order: processes before the network they are in, the right to all of it last.
    pub plane: ControlPlane,
    _remover: Remover,
    workspace: Workspace,
    _machine: Machine,
}

impl Site {
    /// Builds the network and starts the control plane.
    pub async fn start() -> Result<Self> {
        let machine = Machine::take().await?;
        if let Some(left) = machine.left_by_a_killed_run() {
            leftovers::remove(left);
        }
        leftovers::remove(&env::temp_dir().join("odradek-site-"));
        let workspace = Workspace::create("site")?;
        machine.note_folder(workspace.path())?;
        let remover = Remover::new(workspace.path());
        network::create(BROKERS + 1).await?;
        let options = ControlPlaneOptions {
            address: IpAddr::V4(network::node_address(CONTROL_NODE)),
            network: Some(network::node_namespace(CONTROL_NODE)),
            ..ControlPlaneOptions::default()
        };
        let plane = ControlPlane::start_with(options).await?;
        Ok(Self { plane, _remover: remover, workspace, _machine: machine })
    }

    /// A folder for the files of brokers; it goes with the site.
    pub fn folder(&self) -> &Path {
        self.workspace.path()
    }

    /// The control plane as a member of the network.
    pub const fn control() -> Member {
        Member::Node(CONTROL_NODE)
    }

    /// The machine of a broker, counted from 0, as a member of the network.
    pub const fn machine_of(broker: u8) -> Member {
        Member::Node(broker + 1)
    }

    /// Takes back whatever was taken away: every cut of the network, and an API server that was stopped.
    pub async fn heal(&mut self) -> Result<()> {
        cuts::heal(CONTROL_NODE).await?;
        for node in 1..=CONTROL_NODE {
            network::set_node_connected(node, true).await?;
        }
        if !self.plane.api_server_runs() {
            self.plane.start_api_server().await?;
        }
        Ok(())
    }

    /// Removes it. An error if anything is left.
    pub fn remove(self) -> Result<()> {
        let folder = self.folder().to_owned();
        drop(self);
        let left = leftovers::find(&folder);
        ensure!(left.is_empty(), "of the site are left:\n{}", left.join("\n"));
        Ok(())
    }
}
