// SPDX-License-Identifier: Apache-2.0
//! Fields of a Lease object that is read: each is checked, bounded and named in the error.

use k8s_openapi::api::coordination::v1::Lease;
use odradek_coordination::{Holder, LeaseError};
use odradek_model::ClusterId;

/// The cluster that the Lease belongs to.
pub const CLUSTER_ID_ANNOTATION: &str = "odradek.dev/cluster-id";
/// +1 on every write of the Lease.
pub const SEQUENCE_ANNOTATION: &str = "odradek.dev/sequence";
/// The voters of the metadata log, separated by commas.
pub const VOTERS_ANNOTATION: &str = "odradek.dev/voters";
/// The pod that holds a broker's Lease.
pub const POD_UID_ANNOTATION: &str = "odradek.dev/pod-uid";

/// The longest text that is taken from any field: five voters of 33 characters and four commas are 169; uids and
/// versions have fewer than 64 characters, a holder at most 75.
const TEXT_LENGTH_MAX: usize = 256;

/// An error that names the field.
pub(crate) fn malformed(field: &str, what: impl std::fmt::Display) -> LeaseError {
    LeaseError::Malformed(format!("{field}: {what}"))
}

fn bounded<'a>(field: &str, text: Option<&'a String>) -> Result<&'a str, LeaseError> {
    let text = text.ok_or_else(|| malformed(field, "missing"))?;
    if text.len() > TEXT_LENGTH_MAX {
        return Err(malformed(field, format!("{} bytes, more than {TEXT_LENGTH_MAX}", text.len())));
    }
    Ok(text)
}

fn annotation_field(name: &str) -> String {
    format!("metadata.annotations[{name}]")
}

/// The text of an annotation that has to be there.
pub(crate) fn annotation<'a>(lease: &'a Lease, name: &str) -> Result<&'a str, LeaseError> {
    bounded(&annotation_field(name), lease.metadata.annotations.as_ref().and_then(|all| all.get(name)))
}

/// An error that names an annotation.
pub(crate) fn malformed_annotation(name: &str, what: impl std::fmt::Display) -> LeaseError {
    malformed(&annotation_field(name), what)
}

/// The object's uid and resourceVersion.
pub(crate) fn identity(lease: &Lease) -> Result<(&str, &str), LeaseError> {
    let present = |field, text| match bounded(field, text)? {
        "" => Err(malformed(field, "empty")),
        text => Ok(text),
    };
    Ok((
        present("metadata.uid", lease.metadata.uid.as_ref())?,
        present("metadata.resourceVersion", lease.metadata.resource_version.as_ref())?,
    ))
}

/// Refuses the Lease of another cluster, or of nobody that we know.
pub(crate) fn check_cluster(lease: &Lease, cluster_id: &ClusterId) -> Result<(), LeaseError> {
    let found = annotation(lease, CLUSTER_ID_ANNOTATION)?;
    if found == cluster_id.as_str() {
        return Ok(());
    }
    Err(malformed_annotation(CLUSTER_ID_ANNOTATION, format!("{found:?}, but this is cluster {cluster_id}")))
}

/// The holder; `None` if the Lease was never held or was released.
pub(crate) fn holder(lease: &Lease) -> Result<Option<Holder>, LeaseError> {
    const FIELD: &str = "spec.holderIdentity";
    let Some(text) = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_ref()) else { return Ok(None) };
    match bounded(FIELD, Some(text))? {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|error| malformed(FIELD, error)),
    }
}

/// A number as we write it: digits without sign or leading zeros.
pub(crate) fn number(text: &str) -> Option<i64> {
    let number: i64 = text.parse().ok()?;
    (number >= 0 && number.to_string() == text).then_some(number)
}
