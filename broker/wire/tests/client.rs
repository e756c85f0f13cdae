// SPDX-License-Identifier: Apache-2.0
//! The client connection against brokers of a few lines: versions are agreed on, and a broker that lies,
//! stalls or goes away gives an error within the deadline.
#![allow(clippy::single_match_else, reason = "a broker's answers by API key")]
#![allow(clippy::disallowed_methods, reason = "deadlines of a real connection are measured")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use odradek_wire::client::{ClientError, ClientOptions, Connection};
use odradek_wire::messages::{
    ApiVersion, ApiVersionsResponse, MetadataRequest, MetadataResponse, ProduceRequest, ProduceResponse,
};
use odradek_wire::{ApiKey, Decoder, RequestHeader, Text, api_versions, frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

fn options() -> ClientOptions {
    ClientOptions {
        connect_timeout: Duration::from_secs(10),
        request_timeout: Duration::from_secs(10),
        max_response_size: 100_000,
        ..ClientOptions::default()
    }
}

/// Listens, and serves the first connection: `serve` turns each request into the bytes to send back; `None`
/// sends nothing.
async fn broker(mut serve: impl FnMut(RequestHeader, Decoder) -> Option<Vec<u8>> + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("is bound");
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client comes");
        while let Some(request) = read_frame(&mut stream).await {
            let mut decoder = Decoder::new(request);
            let header = RequestHeader::decode(&mut decoder).expect("a header of ours");
            // No bytes at all: the broker closes the connection.
            if let Some(answer) = serve(header, decoder)
                && (answer.is_empty() || stream.write_all(&answer).await.is_err())
            {
                return;
            }
        }
    });
    address
}

async fn read_frame(stream: &mut TcpStream) -> Option<Bytes> {
    let mut size = [0; 4];
    stream.read_exact(&mut size).await.ok()?;
    let mut frame = vec![0; frame::check_size(size, 1 << 20).ok()?];
    stream.read_exact(&mut frame).await.ok()?;
    Some(frame.into())
}

/// The answer to ApiVersions in the version asked for.
fn versions(header: &RequestHeader) -> Vec<u8> {
    respond(header, &api_versions::response())
}

fn respond<M: odradek_wire::Message>(header: &RequestHeader, body: &M) -> Vec<u8> {
    frame::encode_response(header.correlation_id, header.key, header.version, body).expect("encodes").concat()
}

#[tokio::test]
async fn calls_in_the_highest_common_version() {
    let address = broker(|header, mut rest| match header.key {
        ApiKey::ApiVersions => {
            assert_eq!(header.version, 5);
            let api = |key: ApiKey, min, max| ApiVersion { api_key: key.code(), min_version: min, max_version: max };
            let api_keys = vec![api(ApiKey::Metadata, 2, 9), api(ApiKey::Produce, 14, 15), api(ApiKey::Fetch, 0, 3)];
            Some(respond(&header, &ApiVersionsResponse { api_keys, ..ApiVersionsResponse::default() }))
        }
        _ => {
            assert_eq!((header.key, header.version), (ApiKey::Metadata, 9));
            assert_eq!(header.client_id.as_deref(), Some("odradek"));
            let request = <MetadataRequest as odradek_wire::Message>::decode(&mut rest, 9).expect("decodes");
            assert_eq!(request.topics, None);
            let cluster_id = Some(Text::from_static("c"));
            Some(respond(&header, &MetadataResponse { cluster_id, ..MetadataResponse::default() }))
        }
    })
    .await;
    let mut connection = Connection::connect(address, options()).await.expect("connects");
    for _ in 0..3 {
        let request = MetadataRequest { topics: None, ..MetadataRequest::default() };
        let response = connection.call(request).await.expect("answers");
        assert_eq!(response.cluster_id.as_deref(), Some("c"));
    }
    // Offered only above and only below what we have; not offered at all. The connection stays usable.
    for key in [ApiKey::Produce, ApiKey::Fetch, ApiKey::Heartbeat] {
        assert_eq!(connection.version(key), None);
    }
    let refused = connection.call(ProduceRequest::default()).await;
    assert!(matches!(refused, Err(ClientError::NoCommonVersion { key: ApiKey::Produce })), "{refused:?}");
    assert!(connection.call(MetadataRequest { topics: None, ..MetadataRequest::default() }).await.is_ok());
}

#[tokio::test]
async fn asks_an_older_broker_again() {
    let mut asked = Vec::new();
    let address = broker(move |header, _| {
        asked.push(header.version);
        if header.version > 3 {
            let mut refusal = api_versions::unsupported_version_response();
            refusal.api_keys[0].max_version = 3;
            return Some(respond(&RequestHeader { version: 0, ..header }, &refusal));
        }
        assert_eq!(asked, [5, 3]);
        Some(versions(&header))
    })
    .await;
    let connection = Connection::connect(address, options()).await.expect("connects");
    assert_eq!(connection.version(ApiKey::Metadata), Some(13));
}

/// What a broker may do wrong after ApiVersions, and how it shows.
#[tokio::test]
async fn a_broken_answer_closes_the_connection() {
    type Wrong = fn(&RequestHeader) -> Vec<u8>;
    type Expected = fn(&ClientError) -> bool;
    let cases: [(Wrong, Expected); 6] = [
        (
            |header| {
                let header = RequestHeader { correlation_id: header.correlation_id + 1, ..header.clone() };
                respond(&header, &MetadataResponse::default())
            },
            |error| matches!(error, ClientError::CorrelationId { expected: 1, received: 2 }),
        ),
        (|_| vec![0x7f, 0xff, 0xff, 0xff], |error| matches!(error, ClientError::Frame(_))),
        (|_| vec![0xff; 4], |error| matches!(error, ClientError::Frame(_))),
        (|_| vec![0, 0, 0, 6, 0, 0, 0, 1, 0, 9], |error| matches!(error, ClientError::Decode(_))),
        (
            |header| {
                let mut bytes = respond(header, &MetadataResponse::default());
                bytes.push(0);
                bytes[3] += 1;
                bytes
            },
            |error| matches!(error, ClientError::Decode(_)),
        ),
        (|_| Vec::new(), |error| matches!(error, ClientError::Io(_))),
    ];
    for (index, (wrong, expected)) in cases.into_iter().enumerate() {
        let address = broker(move |header, _| match header.key {
            ApiKey::ApiVersions => Some(versions(&header)),
            _ => Some(wrong(&header)),
        })
        .await;
        let mut connection = Connection::connect(address, options()).await.expect("connects");
        let error = connection.call(MetadataRequest::default()).await.expect_err("is wrong");
        assert!(expected(&error), "case {index}: {error:?}");
        let after = connection.call(MetadataRequest::default()).await;
        assert!(matches!(after, Err(ClientError::Closed)), "case {index}: {after:?}");
    }
}

#[tokio::test]
async fn a_silent_broker_meets_the_deadline() {
    let short = Duration::from_millis(200);
    let silent = broker(|_, _| None).await;
    let begun = Instant::now();
    let refused = Connection::connect(silent, ClientOptions { connect_timeout: short, ..options() }).await;
    assert!(matches!(refused, Err(ClientError::TimedOut { .. })), "{refused:?}");

    let stalling = broker(|header, _| (header.key == ApiKey::ApiVersions).then(|| versions(&header))).await;
    // The deadline of a request also bounds ApiVersions, which a loaded machine may take longer for.
    let limits = ClientOptions { request_timeout: short * 5, ..options() };
    let mut connection = Connection::connect(stalling, limits).await.expect("connects");
    let late = connection.call(MetadataRequest::default()).await;
    assert!(matches!(late, Err(ClientError::TimedOut { step: "Metadata", .. })), "{late:?}");
    assert!(matches!(connection.call(MetadataRequest::default()).await, Err(ClientError::Closed)));
    assert!(begun.elapsed() < Duration::from_secs(8));
}

#[tokio::test]
async fn a_request_without_answer_and_one_with() {
    let mut without = 0;
    let address = broker(move |header, mut rest| match header.key {
        ApiKey::ApiVersions => Some(versions(&header)),
        _ => {
            let version = header.version;
            let request = <ProduceRequest as odradek_wire::Message>::decode(&mut rest, version).expect("decodes");
            if request.acks == 0 {
                without += 1;
                return None;
            }
            Some(respond(&header, &ProduceResponse { throttle_time_ms: without, ..ProduceResponse::default() }))
        }
    })
    .await;
    let mut connection = Connection::connect(address, options()).await.expect("connects");
    for _ in 0..2 {
        connection.send(ProduceRequest::default()).await.expect("is sent");
    }
    let answered = connection.call(ProduceRequest { acks: -1, ..ProduceRequest::default() }).await.expect("answers");
    assert_eq!(answered.throttle_time_ms, 2);
}
