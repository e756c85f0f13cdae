// SPDX-License-Identifier: Apache-2.0
//! The one list of APIs and versions that a broker offers, and the ApiVersions answers made from it.
//! What is not in it is not advertised. It must not know how a request is served.

use crate::error_code::ErrorCode;
use crate::messages::{ApiKey, ApiVersion, ApiVersionsResponse};

/// What is offered of one API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfferedApi {
    /// The API.
    pub key: ApiKey,
    /// Lowest version that ApiVersions names. It may lie below what is served: see [`advertised_from`].
    pub advertised_min: i16,
    /// Lowest version that is served.
    pub min: i16,
    /// Highest version that is served and advertised.
    pub max: i16,
}

/// Every API that a broker offers, by key.
pub const TABLE: [OfferedApi; ApiKey::ALL.len()] = {
    let mut table = [offered(ApiKey::ApiVersions); ApiKey::ALL.len()];
    let mut index = 0;
    while index < table.len() {
        table[index] = offered(ApiKey::ALL[index]);
        index += 1;
    }
    table
};

const fn offered(key: ApiKey) -> OfferedApi {
    OfferedApi { key, advertised_min: advertised_from(key), min: key.min_version(), max: key.max_version() }
}

/// Lowest version that is advertised.
///
/// Produce is advertised from 0 although 0 to 2 are rejected, because librdkafka compresses only if it
/// sees version 0 (KAFKA-18659; Kafka's `ApiKeys`).
const fn advertised_from(key: ApiKey) -> i16 {
    match key {
        ApiKey::Produce => 0,
        key => key.min_version(),
    }
}

/// Whether a request of this version is served. One that is not ends the connection, but for ApiVersions:
/// see [`unsupported_version_response`].
pub fn is_supported(key: ApiKey, version: i16) -> bool {
    key.has_version(version)
}

/// The answer to ApiVersions. No features are finalized or supported yet, so the feature fields stay at
/// their defaults and are not sent.
pub fn response() -> ApiVersionsResponse {
    ApiVersionsResponse { api_keys: TABLE.iter().copied().map(api_version).collect(), ..ApiVersionsResponse::default() }
}

/// The answer to ApiVersions of a version that we do not have: error 35 and the versions of ApiVersions
/// itself, so that the client can ask again. To be encoded in **version 0**, whatever version was asked
/// (KIP-511; Kafka's `ApiVersionsRequest.getErrorResponse`).
pub fn unsupported_version_response() -> ApiVersionsResponse {
    ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion.code(),
        api_keys: TABLE.iter().filter(|api| api.key == ApiKey::ApiVersions).copied().map(api_version).collect(),
        ..ApiVersionsResponse::default()
    }
}

fn api_version(api: OfferedApi) -> ApiVersion {
    ApiVersion { api_key: api.key.code(), min_version: api.advertised_min, max_version: api.max }
}
