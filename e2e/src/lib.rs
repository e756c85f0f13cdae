// SPDX-License-Identifier: Apache-2.0
//! A real Kubernetes for tests, on one machine and without pulling an image.
//!
//! [`control_plane::ControlPlane`] is a kube-apiserver and its etcd: enough for what an operator
//! writes and reads. [`cluster::Cluster`] adds nodes that run pods. [`site::Site`] has no nodes: three
//! networks in which brokers run as plain processes, and one with a control plane, so that each process
//! and each direction of the network between them can be taken away alone. All of them stop and remove
//! what they started, also when the test process is killed.
//!
//! **Invariant**: nothing here knows the operator's or the brokers' code. Scenarios see the product
//! as a user does: charts, resources, pods and Kafka clients.

pub mod broker_processes;
pub mod certificates;
pub mod cgroups;
pub mod clients;
pub mod cluster;
pub mod command;
pub mod control_plane;
pub mod cuts;
pub mod daemon;
pub mod diagnosis;
pub mod ending;
pub mod given;
pub mod kind;
pub mod kubeconfig;
pub mod leadership;
pub mod lease_history;
pub mod leftovers;
pub mod machine;
pub mod network;
pub mod node;
pub mod pod_identity;
pub mod ports;
pub mod product;
pub mod provisioner;
pub mod site;
pub mod tools;
pub mod wait;
pub mod workspace;
