// SPDX-License-Identifier: Apache-2.0
//! Reads what there is for a Cluster. Only I/O: it judges nothing.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{Api, ListParams, ObjectMeta};
use kube::{Client, ResourceExt};
use odradek_crds::{Cluster, names};

use super::build::ONLY_BROKER;
use crate::calls::{CallError, bounded};

/// What there is for a Cluster.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The volume of the broker, by its name.
    pub volume_claim: Option<PersistentVolumeClaim>,
    /// Metadata of every claim that is labelled as this Cluster's: more than one broker's, if an
    /// earlier Cluster of the name had more.
    pub labelled_claims: Vec<ObjectMeta>,
    /// The broker's StatefulSet.
    pub stateful_set: Option<StatefulSet>,
    /// The broker's pod.
    pub pod: Option<Pod>,
}

/// Most claims read: 200 brokers with one volume each, and as many retired ones.
const CLAIMS_MAX: u32 = 400;

/// Reads what there is for a Cluster.
pub async fn fetch(cluster: &Cluster, client: &Client) -> Result<Observed, CallError> {
    let namespace = cluster.namespace().unwrap_or_default();
    let name = cluster.name_any();
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &namespace);
    let stateful_sets: Api<StatefulSet> = Api::namespaced(client.clone(), &namespace);
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let claim_name = names::volume_claim(&name, ONLY_BROKER);
    let stateful_set_name = names::broker(&name, ONLY_BROKER);
    let pod_name = names::pod(&name, ONLY_BROKER);
    let labelled = ListParams::default().labels(&format!("{}={name}", names::CLUSTER_LABEL)).limit(CLAIMS_MAX);

    // In this order, because decisions rest on it: a StatefulSet that is seen was made after its volume, so
    // the volume must be there; and to a pod that is not on a node after its volume was seen to be going,
    // no node is given any more.
    let stateful_set =
        bounded(format!("get StatefulSet {stateful_set_name}"), stateful_sets.get_opt(&stateful_set_name)).await?;
    let (volume_claim, labelled_claims) = futures::try_join!(
        bounded(format!("get PersistentVolumeClaim {claim_name}"), claims.get_opt(&claim_name)),
        bounded(format!("list PersistentVolumeClaims of {name}"), claims.list_metadata(&labelled)),
    )?;
    let pod = bounded(format!("get Pod {pod_name}"), pods.get_opt(&pod_name)).await?;
    Ok(Observed {
        volume_claim,
        labelled_claims: labelled_claims.items.into_iter().map(|claim| claim.metadata).collect(),
        stateful_set,
        pod,
    })
}
