// SPDX-License-Identifier: Apache-2.0
//! Bad input by real sockets: Kafka's own answer or a closed connection, a counted warning, and everybody else is
//! served (rules 1 and 2).
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]
mod support;

use std::time::Duration;

use bytes::{BufMut, BytesMut};
use support::{batch, connect, create, now_ms, produce, start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const SECOND: Duration = Duration::from_secs(1);

/// A request's frame: size, key, version, correlation id, null client id, body.
fn frame(key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let mut frame = BytesMut::new();
    frame.put_i32(10 + body.len() as i32);
    frame.put_i16(key);
    frame.put_i16(version);
    frame.put_i32(7);
    frame.put_i16(-1);
    frame.put_slice(body);
    frame.to_vec()
}

/// Everything the broker sends until it closes.
async fn answer_until_close(address: std::net::SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // A reset is a closed connection too.
    let _ = timeout(5 * SECOND, stream.read_to_end(&mut answer)).await.expect("the broker closes");
    answer
}

async fn metric(http: std::net::SocketAddr, name: &str) -> u64 {
    let mut stream = TcpStream::connect(http).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {text}"));
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_closed_counted_and_hurts_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let (broker, address) = start(folder.path()).await;
    let mut good = connect(address).await;
    create(&mut good, "t", 1, &[]).await;
    let sizes = [-1, 0, 7, 104_857_601, i32::MAX, i32::MIN];
    for size in sizes {
        let mut bytes = size.to_be_bytes().to_vec();
        bytes.extend([0; 64]);
        assert!(answer_until_close(address, &bytes).await.is_empty(), "size {size}");
    }
    assert!(answer_until_close(address, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.is_empty());
    assert!(answer_until_close(address, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await.is_empty());
    let http = broker.http().unwrap();
    let reason = |name: &str| format!("odradek_connections_closed_total{{reason=\"{name}\"}}");
    assert_eq!(metric(http, &reason("bad_size")).await, sizes.len() as u64 + 2);

    for (key, version) in [(999, 0), (-1, 0), (0, 2), (0, 99), (1, 3), (3, 14), (i16::MAX, i16::MAX)] {
        assert!(answer_until_close(address, &frame(key, version, &[0; 8])).await.is_empty(), "key {key} v{version}");
    }
    assert_eq!(metric(http, &reason("unknown_request")).await, 7);

    // Metadata with a count that no frame can hold; a body too short; a name longer than the body.
    for body in [&[0x7f, 0xff, 0xff, 0xff][..], &[0, 0], &[0, 0, 0, 1, 0, 3, 1, 2]] {
        assert!(answer_until_close(address, &frame(3, 1, body)).await.is_empty(), "{body:?}");
    }
    assert_eq!(metric(http, &reason("malformed")).await, 3);

    // A frame cut off by the client.
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&[0, 0, 0, 100, 0, 18]).await.unwrap();
    drop(stream);
    tokio::time::sleep(SECOND / 4).await;
    assert_eq!(metric(http, &reason("truncated")).await, 1);

    assert_eq!(produce(&mut good, "t", batch(&[b"still here"], now_ms())).await.error_code, 0);
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_version_of_api_versions_gets_version_0_with_error_35() {
    let folder = tempfile::tempdir().unwrap();
    let (broker, address) = start(folder.path()).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&frame(18, 99, &[0, 1, 2, 3])).await.unwrap();
    let size = timeout(SECOND, stream.read_i32()).await.unwrap().unwrap();
    let mut answer = vec![0; size as usize];
    stream.read_exact(&mut answer).await.unwrap();
    // Correlation id; error 35; one API: 18 from 0 to 5.
    assert_eq!(answer, [0, 0, 0, 7, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 5]);
    // The connection lives on: the client asks again with a version that it was told.
    stream.write_all(&frame(18, 0, &[])).await.unwrap();
    assert!(timeout(SECOND, stream.read_i32()).await.unwrap().unwrap() > 16);
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_after_a_request_are_let_pass_as_kafka_does() {
    let folder = tempfile::tempdir().unwrap();
    let (broker, address) = start(folder.path()).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    // Metadata 13 for all topics as librdkafka 2.12 sends it: header's tags, null, two flags, tags, three bytes more.
    stream.write_all(&frame(3, 13, &[0, 0, 1, 0, 0, 0, 0, 0])).await.unwrap();
    let size = timeout(5 * SECOND, stream.read_i32()).await.expect("an answer").expect("not closed");
    assert!(size > 8, "an answer of {size} bytes");
    assert_eq!(stream.read_i32().await.unwrap(), 7);
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acks_0_is_never_answered_and_a_failure_closes() {
    let folder = tempfile::tempdir().unwrap();
    let (broker, address) = start(folder.path()).await;
    let mut client = connect(address).await;
    create(&mut client, "t", 1, &[]).await;
    let mut sender = connect(address).await;
    let request = support::produce_request("t", batch(&[b"a"], now_ms()), 0);
    let mut encoder = odradek_wire::Encoder::framed();
    let header = odradek_wire::RequestHeader {
        key: odradek_wire::ApiKey::Produce,
        version: support::BY_NAME,
        correlation_id: 5,
        client_id: None,
    };
    header.encode(&mut encoder).unwrap();
    odradek_wire::Message::encode(&request, &mut encoder, support::BY_NAME).unwrap();
    let bytes: Vec<u8> = encoder.finish().unwrap().concat();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    stream.write_all(&frame(18, 0, &[])).await.unwrap();
    // The first answer is that of the second request.
    let size = timeout(SECOND, stream.read_i32()).await.unwrap().unwrap();
    assert!(size > 0);
    assert_eq!(stream.read_i32().await.unwrap(), 7);
    let fetched = sender.call_version(&support::fetch_request("t", 0, 0, 1 << 20), support::BY_NAME).await.unwrap();
    assert_eq!(fetched.responses[0].partitions[0].high_watermark, 1);

    let missing = support::produce_request("missing", batch(&[b"a"], now_ms()), 0);
    let mut encoder = odradek_wire::Encoder::framed();
    header.encode(&mut encoder).unwrap();
    odradek_wire::Message::encode(&missing, &mut encoder, support::BY_NAME).unwrap();
    assert!(answer_until_close(address, &encoder.finish().unwrap().concat()).await.is_empty());
    broker.shutdown().await;
}

/// The body of the next answer, after its correlation id.
async fn next_answer(stream: &mut TcpStream) -> Vec<u8> {
    let size = timeout(5 * SECOND, stream.read_i32()).await.expect("an answer").expect("not closed");
    assert_eq!(stream.read_i32().await.unwrap(), 7);
    let mut answer = vec![0; size as usize - 4];
    stream.read_exact(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_not_utf8_are_read_as_java_reads_them() {
    let folder = tempfile::tempdir().unwrap();
    let (broker, address) = start(folder.path()).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    // ApiVersions 0 of a client whose id is in Latin-1.
    stream.write_all(&[0, 0, 0, 13, 0, 18, 0, 0, 0, 0, 0, 7, 0, 3, b'm', 0xfc, b'l']).await.unwrap();
    assert_eq!(next_answer(&mut stream).await[..2], [0, 0]);
    // Metadata 1 of a topic: no valid name, and told with the replacement.
    stream.write_all(&frame(3, 1, &[0, 0, 0, 1, 0, 2, b'x', 0xff])).await.unwrap();
    let answer = next_answer(&mut stream).await;
    let topic = &[0, 0, 0, 1, 0, 17, 0, 4, b'x', 0xef, 0xbf, 0xbd, 0, 0, 0, 0, 0][..];
    assert!(answer.ends_with(topic), "{answer:?}");
    // DeleteTopics 1 of it: unknown, as any other name.
    stream.write_all(&frame(20, 1, &[0, 0, 0, 1, 0, 2, b'x', 0xff, 0, 0, 0, 9])).await.unwrap();
    let answer = next_answer(&mut stream).await;
    assert!(answer.ends_with(&[0, 4, b'x', 0xef, 0xbf, 0xbd, 0, 3]), "{answer:?}");
    broker.shutdown().await;
}
