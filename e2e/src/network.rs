// SPDX-License-Identifier: Apache-2.0
//! The network of a test cluster: a switch and the nodes, each a network namespace of its own, so that
//! neither the machine's firewall rules nor its routes take part. Names and addresses are fixed, since
//! one cluster runs on a machine at a time; so a later run can remove what a killed run left.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::command::{system, system_blocking};

/// What every namespace, cgroup and folder of a test cluster starts with.
pub const PREFIX: &str = "odradek-e2e";
/// The machine's own address on the cluster's network: kube-apiserver listens here.
pub const HOST: Ipv4Addr = Ipv4Addr::new(10, 90, 0, 1);
/// The switch's address: the cluster's DNS server listens here.
pub const DNS: Ipv4Addr = Ipv4Addr::new(10, 90, 0, 2);
/// The addresses of all pods.
pub const POD_RANGE: &str = "10.91.0.0/16";
/// The name of the pods' network, which is also in the names of files that outlive a killed node.
pub const POD_NETWORK: &str = "odradek-e2e-pods";
/// All addresses that [`HOST`], the nodes and the pods have, as one range.
const ALL_RANGE: &str = "10.90.0.0/15";

/// A node's name; nodes are counted from 1.
pub fn node_name(node: u8) -> String {
    format!("node-{node}")
}

/// A node's address.
pub fn node_address(node: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 90, 0, 10 + node)
}

/// The addresses of a node's pods.
pub fn pod_subnet(node: u8) -> String {
    format!("10.91.{node}.0/24")
}

/// The path of a node's network namespace.
pub fn node_namespace(node: u8) -> PathBuf {
    namespace_path(&namespace(node))
}

/// The path of the network namespace of the switch.
pub fn switch_namespace() -> PathBuf {
    namespace_path(&switch())
}

fn namespace(node: u8) -> String {
    format!("{PREFIX}-node-{node}")
}

fn switch() -> String {
    format!("{PREFIX}-switch")
}

fn namespace_path(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name)
}

/// The name of the machine's own end of the network.
pub const HOST_INTERFACE: &str = "odradek-e2e";

/// Builds the switch, `nodes` nodes and all routes between them, their pods and the machine.
pub async fn create(nodes: u8) -> Result<()> {
    let routes = system("ip", ["-4", "route", "show", "root", ALL_RANGE]).await?;
    ensure!(
        routes.trim().is_empty(),
        "the test cluster uses the addresses {ALL_RANGE}, and this machine has routes to some of them:\n{routes}"
    );
    let switch = switch();
    ip(&["netns", "add", &switch]).await?;
    ip(&["-n", &switch, "link", "add", "br0", "type", "bridge", "forward_delay", "0"]).await?;
    ip(&["-n", &switch, "address", "add", &format!("{DNS}/24"), "dev", "br0"]).await?;
    up(&switch, &["lo", "br0"]).await?;

    ip(&["link", "add", HOST_INTERFACE, "type", "veth", "peer", "name", "host", "netns", &switch]).await?;
    ip(&["-n", &switch, "link", "set", "host", "master", "br0"]).await?;
    up(&switch, &["host"]).await?;
    ip(&["address", "add", &format!("{HOST}/24"), "dev", HOST_INTERFACE]).await?;
    ip(&["link", "set", HOST_INTERFACE, "up"]).await?;

    for node in 1..=nodes {
        create_node(node).await?;
    }
    for node in 1..=nodes {
        let subnet = pod_subnet(node);
        let address = node_address(node).to_string();
        ip(&["route", "add", &subnet, "via", &address]).await?;
        ip(&["-n", &switch, "route", "add", &subnet, "via", &address]).await?;
        for other in (1..=nodes).filter(|other| *other != node) {
            ip(&["-n", &namespace(other), "route", "add", &subnet, "via", &address]).await?;
        }
    }
    Ok(())
}

async fn create_node(node: u8) -> Result<()> {
    let (switch, namespace) = (switch(), namespace(node));
    let port = format!("port{node}");
    ip(&["netns", "add", &namespace]).await?;
    ip(&["-n", &namespace, "link", "add", "eth0", "type", "veth", "peer", "name", &port, "netns", &switch]).await?;
    ip(&["-n", &switch, "link", "set", &port, "master", "br0"]).await?;
    up(&switch, &[&port]).await?;
    ip(&["-n", &namespace, "address", "add", &format!("{}/24", node_address(node)), "dev", "eth0"]).await?;
    up(&namespace, &["lo", "eth0"]).await?;
    ip(&["-n", &namespace, "route", "add", "default", "via", &HOST.to_string()]).await?;
    // Pods of one node reach each other over its bridge: only with the first setting do the answers pass
    // the rules that turn a Service's address back. The second lets the node route for its pods.
    let settings = "for s in net/bridge/bridge-nf-call-iptables net/ipv4/ip_forward; do \
                    if [ -e /proc/sys/$s ]; then echo 1 > /proc/sys/$s; fi; done";
    ip(&["netns", "exec", &namespace, "sh", "-ec", settings]).await
}

/// Cuts a node from the network, or connects it again.
pub async fn set_node_connected(node: u8, connected: bool) -> Result<()> {
    let state = if connected { "up" } else { "down" };
    ip(&["-n", &switch(), "link", "set", &format!("port{node}"), state]).await
}

/// Removes all that [`create`] made, whoever made it.
pub fn remove() {
    // Each of them may be there or not.
    if let Some(interface) = host_interface() {
        let _ = system_blocking("ip", ["link", "del", interface]);
    }
    for name in namespaces() {
        let _ = system_blocking("ip", ["netns", "del", &name]);
    }
}

/// The machine's own end of the cluster's network, if it exists now.
pub fn host_interface() -> Option<&'static str> {
    Path::new("/sys/class/net").join(HOST_INTERFACE).exists().then_some(HOST_INTERFACE)
}

/// The namespaces of a test cluster that exist now.
pub fn namespaces() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with(PREFIX))
        .collect()
}

async fn up(namespace: &str, interfaces: &[&str]) -> Result<()> {
    for interface in interfaces {
        ip(&["-n", namespace, "link", "set", interface, "up"]).await?;
    }
    Ok(())
}

async fn ip(arguments: &[&str]) -> Result<()> {
    system("ip", arguments).await?;
    Ok(())
}
