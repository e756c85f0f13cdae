// SPDX-License-Identifier: Apache-2.0
//! The controller Lease as an object: read into a view, and made from a view and a change. Pure.

use std::collections::BTreeSet;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use odradek_coordination::{LeaseChange, LeaseError, LeaseView, Voter};
use odradek_model::{ClusterId, ControllerEpoch};

use crate::fields::{
    CLUSTER_ID_ANNOTATION, SEQUENCE_ANNOTATION, VOTERS_ANNOTATION, annotation, check_cluster, holder, identity,
    malformed, malformed_annotation, number,
};
use crate::settings::LeaseSettings;

/// A metadata log has at most five voters.
const VOTERS_MAX: usize = 5;
const TRANSITIONS: &str = "spec.leaseTransitions";

/// The Lease that the operator creates before the first volume: epoch 0, no holder, no voters.
pub fn first_controller_lease(name: &str, cluster_id: &ClusterId) -> Lease {
    Lease {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            annotations: Some(
                [(CLUSTER_ID_ANNOTATION, cluster_id.as_str()), (SEQUENCE_ANNOTATION, "0"), (VOTERS_ANNOTATION, "")]
                    .map(|(name, text)| (name.to_owned(), text.to_owned()))
                    .into(),
            ),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec { lease_transitions: Some(0), ..LeaseSpec::default() }),
    }
}

/// What the object says.
pub(crate) fn view(lease: &Lease, cluster_id: &ClusterId) -> Result<LeaseView, LeaseError> {
    let (uid, version) = identity(lease)?;
    check_cluster(lease, cluster_id)?;
    let spec = lease.spec.as_ref().ok_or_else(|| malformed("spec", "missing"))?;
    if spec.strategy.is_some() {
        return Err(malformed("spec.strategy", "set, so Kubernetes itself would choose the holder"));
    }
    let epoch = spec.lease_transitions.ok_or_else(|| malformed(TRANSITIONS, "missing"))?;
    if epoch < 0 {
        return Err(malformed(TRANSITIONS, format!("{epoch} is negative")));
    }
    let sequence = number(annotation(lease, SEQUENCE_ANNOTATION)?)
        .ok_or_else(|| malformed_annotation(SEQUENCE_ANNOTATION, "not a number of 0 or more"))?;
    Ok(LeaseView {
        uid: uid.to_owned(),
        epoch: ControllerEpoch::from(epoch),
        sequence,
        holder: holder(lease)?,
        voters: voters(annotation(lease, VOTERS_ANNOTATION)?)?,
        cluster_id: cluster_id.clone(),
        version: version.to_owned(),
    })
}

fn voters(text: &str) -> Result<Vec<Voter>, LeaseError> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let wrong = |what: String| malformed_annotation(VOTERS_ANNOTATION, what);
    let mut voters = Vec::with_capacity(VOTERS_MAX);
    for part in text.split(',') {
        if voters.len() == VOTERS_MAX {
            return Err(wrong(format!("more than {VOTERS_MAX} voters")));
        }
        voters.push(part.parse::<Voter>().map_err(|error| wrong(error.to_string()))?);
    }
    let brokers: BTreeSet<_> = voters.iter().map(|voter| voter.broker_id).collect();
    if brokers.len() != voters.len() {
        return Err(wrong("a broker stands twice".to_owned()));
    }
    Ok(voters)
}

/// Writes the change over the object; what others keep in it stays as it is.
pub(crate) fn change(
    mut object: Lease,
    sequence: i64,
    change: &LeaseChange,
    cluster_id: &ClusterId,
    settings: &LeaseSettings,
    now: &MicroTime,
) -> Result<Lease, LeaseError> {
    let epoch = i32::try_from(change.epoch)
        .map_err(|_| malformed(TRANSITIONS, format!("epoch {} has no place there", change.epoch)))?;
    assert!(change.voters.len() <= VOTERS_MAX, "{} voters", change.voters.len());
    let voters: Vec<_> = change.voters.iter().map(Voter::to_string).collect();
    let annotations = object.metadata.annotations.get_or_insert_default();
    for (name, text) in [
        (CLUSTER_ID_ANNOTATION, cluster_id.as_str().to_owned()),
        (SEQUENCE_ANNOTATION, sequence.to_string()),
        (VOTERS_ANNOTATION, voters.join(",")),
    ] {
        annotations.insert(name.to_owned(), text);
    }
    let spec = object.spec.get_or_insert_default();
    let identity = change.holder.as_ref().map(ToString::to_string);
    if spec.holder_identity != identity || spec.lease_transitions != Some(epoch) {
        spec.acquire_time = identity.as_ref().map(|_| now.clone());
    }
    spec.holder_identity = identity;
    spec.lease_transitions = Some(epoch);
    spec.lease_duration_seconds = Some(settings.duration_seconds());
    spec.renew_time = Some(now.clone());
    Ok(object)
}

#[cfg(test)]
mod tests;
