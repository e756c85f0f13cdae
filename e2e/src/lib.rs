// SPDX-License-Identifier: Apache-2.0
//! A real Kubernetes for tests, on one machine and without pulling an image.
//!
//! [`control_plane::ControlPlane`] is a kube-apiserver and its etcd: enough for what an operator
//! writes and reads. [`cluster::Cluster`] adds nodes that run pods. Both stop and remove all that
//! they started, also when the test process is killed.
//!
//! **Invariant**: nothing here knows the operator's or the brokers' code. Scenarios see the product
//! as a user does: charts, resources, pods and Kafka clients.

pub mod certificates;
pub mod cgroups;
pub mod clients;
pub mod cluster;
pub mod command;
pub mod control_plane;
pub mod daemon;
pub mod diagnosis;
pub mod ending;
pub mod given;
pub mod kind;
pub mod kubeconfig;
pub mod leftovers;
pub mod machine;
pub mod network;
pub mod node;
pub mod ports;
pub mod product;
pub mod provisioner;
pub mod tools;
pub mod wait;
pub mod workspace;
