// SPDX-License-Identifier: Apache-2.0
//! Calls to the API server, each with a deadline. Knows nothing of what is called.

use std::future::Future;
use std::time::Duration;

use thiserror::Error;

/// How long one call to the API server may take. Its own limit for a request is 60 s; a call of
/// ours that took 10 s is better tried again with fresh data.
pub const CALL_DEADLINE: Duration = Duration::from_secs(10);

/// Why a call failed.
#[derive(Debug, Error)]
pub enum CallError {
    /// No answer in time.
    #[error("{what}: no answer from the API server within {} s", CALL_DEADLINE.as_secs())]
    Deadline {
        /// What was tried.
        what: String,
    },
    /// The API server refused or could not be reached.
    #[error("{what}: {source}")]
    Api {
        /// What was tried.
        what: String,
        /// What the API server said.
        source: Box<kube::Error>,
    },
}

impl CallError {
    /// The HTTP status of the API server's refusal, if it answered.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            Self::Deadline { .. } => None,
        }
    }

    /// The API server's own words, without what was tried.
    pub fn refusal(&self) -> Option<&str> {
        match self {
            Self::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(&status.message),
                _ => None,
            },
            Self::Deadline { .. } => None,
        }
    }
}

/// Waits for a call until its deadline.
pub async fn bounded<T>(
    what: impl Into<String>,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(CALL_DEADLINE, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(CallError::Api { what: what.into(), source: Box::new(source) }),
        Err(_) => Err(CallError::Deadline { what: what.into() }),
    }
}
