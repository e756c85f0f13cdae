// SPDX-License-Identifier: Apache-2.0
//! What an error of a request says about the request: whether it can have been carried out. Pure.

use std::time::Duration;

use kube::Error;
use kube::core::Status;

/// What became of a request that failed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// There is no such Lease; said by the API server itself, not by something in between.
    NotFound,
    /// The Lease is not what the request was based on, or exists already.
    Conflict,
    /// Refused before it was looked at. The time is what the body asks for, as it stands: [`Pause`](crate::pause::Pause)
    /// has the bounds.
    Throttled(Duration, String),
    /// Not made: the API server asked for a pause of this time, of which more is left than the request may take.
    Paused(Duration),
    /// The watch is too old to be continued.
    Expired,
    /// Not carried out, and it will not be.
    NotDone(String),
    /// It may have been carried out, or may be later.
    Unclear(String),
}

/// Reads the error of a request for the Lease `name`.
pub(crate) fn classify(error: &Error, name: &str) -> Failure {
    match error {
        Error::Api(status) => classify_status(status, name),
        Error::BuildRequest(_) | Error::Auth(_) | Error::HttpError(_) => Failure::NotDone(shown(error)),
        // Connections refused are among these: the same error comes when one breaks after the request was sent.
        _ => Failure::Unclear(shown(error)),
    }
}

/// Reads an answer that is an error.
pub(crate) fn classify_status(status: &Status, name: &str) -> Failure {
    let text = || {
        let message: String = status.message.chars().take(300).collect();
        format!("{} {}: {message}", status.code, status.reason)
    };
    let about_lease = status.details.as_ref().is_some_and(|details| details.kind == "leases" && details.name == name);
    match status.code {
        // Without its subject it is a proxy's, or that of an API server that does not serve Leases yet: unclear, below.
        404 if status.reason == "NotFound" && about_lease => Failure::NotFound,
        409 if status.reason == "Conflict" || status.reason == "AlreadyExists" => Failure::Conflict,
        410 => Failure::Expired,
        // A PUT that creates meets a Lease: Leases take no update without resourceVersion.
        422 if status
            .details
            .as_ref()
            .is_some_and(|details| details.causes.iter().any(|cause| cause.field == "metadata.resourceVersion")) =>
        {
            Failure::Conflict
        }
        429 => {
            let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
            Failure::Throttled(Duration::from_secs(u64::from(seconds)), text())
        }
        400 | 401 | 403 | 405 | 413 | 415 | 422 => Failure::NotDone(text()),
        _ => Failure::Unclear(text()),
    }
}

/// The error with its causes, which kube's texts leave out, in bounded length.
fn shown(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    text.chars().take(500).collect()
}

#[cfg(test)]
mod tests {
    use kube::core::response::{StatusCause, StatusDetails};

    use super::*;

    fn status(code: u16, reason: &str, details: Option<StatusDetails>) -> Status {
        Status { status: None, code, message: "m".into(), metadata: None, reason: reason.into(), details }
    }

    fn about(name: &str) -> StatusDetails {
        StatusDetails {
            name: name.into(),
            group: "coordination.k8s.io".into(),
            kind: "leases".into(),
            uid: String::new(),
            causes: Vec::new(),
            retry_after_seconds: 0,
        }
    }

    #[test]
    fn only_the_api_server_says_that_a_lease_is_missing() {
        assert_eq!(classify_status(&status(404, "NotFound", Some(about("c"))), "c"), Failure::NotFound);
        let unclear = |status: &Status| matches!(classify_status(status, "c"), Failure::Unclear(_));
        assert!(unclear(&status(404, "NotFound", Some(about("other")))));
        assert!(unclear(&status(404, "NotFound", None)));
        assert!(unclear(&status(404, "Failed to parse error data", None)));
    }

    #[test]
    fn what_can_have_been_carried_out_is_unclear() {
        for code in [0, 408, 500, 502, 503, 504] {
            let failure = classify_status(&status(code, "", Some(about("c"))), "c");
            assert!(matches!(failure, Failure::Unclear(_)), "{code}: {failure:?}");
        }
        // A proxy's 409 is not the API server's word.
        assert!(matches!(classify_status(&status(409, "", None), "c"), Failure::Unclear(_)));
        for code in [400, 401, 403, 413, 422] {
            let failure = classify_status(&status(code, "", Some(about("c"))), "c");
            assert!(matches!(failure, Failure::NotDone(_)), "{code}: {failure:?}");
        }
    }

    #[test]
    fn conflicts_throttling_and_age_are_told_apart() {
        assert_eq!(classify_status(&status(409, "Conflict", None), "c"), Failure::Conflict);
        assert_eq!(classify_status(&status(409, "AlreadyExists", None), "c"), Failure::Conflict);
        assert_eq!(classify_status(&status(410, "Expired", None), "c"), Failure::Expired);
        let cause = StatusCause {
            reason: "FieldValueInvalid".into(),
            message: "must be specified for an update".into(),
            field: "metadata.resourceVersion".into(),
        };
        let details = StatusDetails { causes: vec![cause], ..about("c") };
        assert_eq!(classify_status(&status(422, "Invalid", Some(details)), "c"), Failure::Conflict);
        for seconds in [0, 7, u32::MAX] {
            let details = StatusDetails { retry_after_seconds: seconds, ..about("c") };
            let Failure::Throttled(wait, _) = classify_status(&status(429, "", Some(details)), "c") else { panic!() };
            assert_eq!(wait, Duration::from_secs(u64::from(seconds)));
        }
    }
}
