// SPDX-License-Identifier: Apache-2.0
//! ApiVersions (18): what we speak. Rules 1, 3 and 4 of Kafka's behaviour.
use std::sync::Arc;

use odradek_wire::ErrorCode;
use odradek_wire::api_versions as table;
use odradek_wire::messages::{ApiVersionsRequest, ApiVersionsResponse};

use crate::broker::Broker;
use crate::dispatch::{Answer, Call};

/// Answers with the table; no features are finalized or supported, so there are none to leave out (rule 4).
pub(crate) fn handle(
    broker: &Arc<Broker>,
    call: &Call<'_>,
    request: ApiVersionsRequest,
) -> Answer<ApiVersionsResponse> {
    let mut response = table::response();
    if call.version >= 5 {
        // Rule 3 (KIP-1242): a client that says whom it means is told when it has reached somebody else.
        let code = match (&request.cluster_id, request.node_id) {
            (None, -1) => ErrorCode::None,
            (Some(_), -1) | (None, _) => ErrorCode::InvalidRequest,
            (Some(cluster), node) if **cluster == *broker.cluster_id.as_str() && node == broker.id.0 => ErrorCode::None,
            (Some(_), _) => ErrorCode::RebootstrapRequired,
        };
        if code != ErrorCode::None {
            response = ApiVersionsResponse { error_code: code.code(), ..ApiVersionsResponse::default() };
        }
    }
    if call.version >= 3 && !valid_software(&request) {
        response =
            ApiVersionsResponse { error_code: ErrorCode::InvalidRequest.code(), ..ApiVersionsResponse::default() };
    }
    Answer::now(response)
}

/// Names and versions of client software start and end with a letter or digit and hold `.` and `-` between
/// (`ApiVersionsRequest.isValid`): they end up in metrics and logs.
fn valid_software(request: &ApiVersionsRequest) -> bool {
    [&request.client_software_name, &request.client_software_version].into_iter().all(|text| {
        let bytes = text.as_bytes();
        let ends = [bytes.first(), bytes.last()];
        ends.iter().all(|b| b.is_some_and(u8::is_ascii_alphanumeric))
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'))
    })
}
