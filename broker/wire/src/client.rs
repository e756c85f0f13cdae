// SPDX-License-Identifier: Apache-2.0
//! A client connection to one broker, for the operator, for tests and for brokers among themselves.
//! One request at a time; every step has a deadline. It must not know metadata, retries or leaders.

use std::io::{self, IoSlice};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, ToSocketAddrs};
use tokio::time::timeout;

use crate::decode::{DecodeError, Decoder};
use crate::encode::EncodeError;
use crate::error_code::ErrorCode;
use crate::frame::{self, FrameError, SIZE_LENGTH};
use crate::header::{RequestHeader, ResponseHeader};
use crate::message::{Message as _, Request};
use crate::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse};
use crate::private::PeerRequest;
use crate::text::Text;

/// Why a call failed. After any but [`ClientError::NoCommonVersion`] and [`ClientError::Encode`] the
/// connection is not usable any more; further calls give [`ClientError::Closed`].
#[derive(Debug, Error)]
pub enum ClientError {
    /// The connection could not be made, or broke.
    #[error("connection: {0}")]
    Io(#[from] io::Error),
    /// The deadline passed.
    #[error("no {step} within {limit:?}")]
    TimedOut {
        /// What was waited for.
        step: &'static str,
        /// The deadline.
        limit: Duration,
    },
    /// The broker announced a frame that we do not take.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The broker's bytes are not the response.
    #[error("response: {0}")]
    Decode(#[from] DecodeError),
    /// Our request cannot be written in the version agreed on.
    #[error("request: {0}")]
    Encode(#[from] EncodeError),
    /// The broker does not offer the API, or no version of it that we have.
    #[error("{} is not offered in a version between {} and {}", key.name(), key.min_version(), key.max_version())]
    NoCommonVersion {
        /// The API.
        key: ApiKey,
    },
    /// The answer is to another request.
    #[error("answer to request {received}, expected {expected}")]
    CorrelationId {
        /// Correlation id of our request.
        expected: i32,
        /// That of the response.
        received: i32,
    },
    /// The broker refused to tell its versions.
    #[error("ApiVersions failed with error code {0}")]
    ApiVersions(i16),
    /// An earlier call failed.
    #[error("the connection is closed")]
    Closed,
}

/// Limits of a connection.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Name that we give ourselves.
    pub client_id: Text,
    /// Deadline of connecting, ApiVersions included.
    pub connect_timeout: Duration,
    /// Deadline of a request, from its first byte written to the last byte of the response.
    pub request_timeout: Duration,
    /// Largest response taken in, in bytes.
    pub max_response_size: usize,
}

impl Default for ClientOptions {
    /// 5 s to connect, 30 s for a request (Kafka's client default), responses to 100 MiB.
    fn default() -> Self {
        Self {
            client_id: Text::from_static("odradek"),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            max_response_size: frame::MAX_REQUEST_SIZE,
        }
    }
}

/// Room for a response before any of it has arrived: a buffer grows with what arrives, not with what a broker announces.
const FIRST_ROOM: usize = 64 << 10;

/// Room while not even the size has arrived: most answers but those with records are shorter.
const SHORT_ROOM: usize = 4 << 10;

/// A connection whose versions are agreed on.
#[derive(Debug)]
pub struct Connection {
    /// `None` once a call has failed half-way: what would arrive next is unknown.
    stream: Option<TcpStream>,
    options: ClientOptions,
    next_correlation_id: i32,
    versions: ApiVersionsResponse,
}

impl Connection {
    /// Connects and learns the broker's versions. A broker that does not know our version of ApiVersions is
    /// asked again with the one it names.
    pub async fn connect(address: impl ToSocketAddrs, options: ClientOptions) -> Result<Self, ClientError> {
        let limit = options.connect_timeout;
        timeout(limit, Self::connect_now(address, options))
            .await
            .unwrap_or(Err(ClientError::TimedOut { step: "connection", limit }))
    }

    async fn connect_now(address: impl ToSocketAddrs, options: ClientOptions) -> Result<Self, ClientError> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut connection =
            Self { stream: Some(stream), options, next_correlation_id: 0, versions: ApiVersionsResponse::default() };
        let request = ApiVersionsRequest {
            client_software_name: Text::from_static("odradek"),
            client_software_version: Text::from_static(env!("CARGO_PKG_VERSION")),
            ..ApiVersionsRequest::default()
        };
        let newest = ApiVersionsRequest::MAX_VERSION;
        let mut answer = connection.exchange_api_versions(&request, newest).await?;
        if answer.error_code == ErrorCode::UnsupportedVersion.code() {
            let offered = answer.api_keys.iter().find(|api| api.api_key == ApiKey::ApiVersions.code());
            // A broker that names none is one of 0.10, which has version 0 only.
            let version = offered.map_or(0, |api| api.max_version.min(newest));
            if version >= newest || !ApiVersionsRequest::has_version(version) {
                return Err(ClientError::NoCommonVersion { key: ApiKey::ApiVersions });
            }
            answer = connection.exchange_api_versions(&request, version).await?;
        }
        if answer.error_code != ErrorCode::None.code() {
            return Err(ClientError::ApiVersions(answer.error_code));
        }
        connection.versions = answer;
        Ok(connection)
    }

    /// What the broker said that it speaks.
    pub fn broker_versions(&self) -> &ApiVersionsResponse {
        &self.versions
    }

    /// Highest version of an API that both sides have.
    pub fn version(&self, key: ApiKey) -> Option<i16> {
        let offered = self.versions.api_keys.iter().find(|api| api.api_key == key.code())?;
        let version = offered.max_version.min(key.max_version());
        (version >= offered.min_version && version >= key.min_version()).then_some(version)
    }

    /// Sends a request in the highest common version and awaits its response, within the request deadline.
    /// An error code inside the response is the caller's to look at.
    pub async fn call<R: Request>(&mut self, request: R) -> Result<R::Response, ClientError> {
        let version = self.version(R::KEY).ok_or(ClientError::NoCommonVersion { key: R::KEY })?;
        self.call_version(&request, version).await
    }

    /// As [`Connection::call`], in a version of the caller's choice.
    pub async fn call_version<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response, ClientError> {
        let (limit, max) = (self.options.request_timeout, self.options.max_response_size);
        self.call_within(request, version, limit, max).await
    }

    /// Sends another broker a request of Kafka's or a private one, with a deadline and a limit for the response (in
    /// bytes) of its own. Kafka's are sent in the highest common version, private ones in ours.
    pub async fn call_peer<R: PeerRequest>(
        &mut self,
        request: &R,
        limit: Duration,
        max_response_size: usize,
    ) -> Result<R::Response, ClientError> {
        let version = match R::KAFKA_API {
            Some(key) => self.version(key).ok_or(ClientError::NoCommonVersion { key })?,
            None => R::MAX_VERSION,
        };
        self.call_within(request, version, limit, max_response_size).await
    }

    async fn call_within<R: PeerRequest>(
        &mut self,
        request: &R,
        version: i16,
        limit: Duration,
        max_response_size: usize,
    ) -> Result<R::Response, ClientError> {
        let expected = self.next_correlation_id;
        let segments = request.encode_frame(version, expected, &self.options.client_id)?;
        self.next_correlation_id = expected.wrapping_add(1);
        let frame = self.exchange(R::API, segments, limit, max_response_size).await?;
        let opened = R::decode_frame(frame, version).map_err(ClientError::from).and_then(|(received, response)| {
            check_correlation(expected, received)?;
            Ok(response)
        });
        self.settle(opened)
    }

    /// Whether another call can be tried: no call has failed, and the broker is not known to have closed.
    pub fn is_open(&self) -> bool {
        let Some(stream) = &self.stream else { return false };
        // Between calls nothing is to be read: bytes, an end and a failure are all the connection's end.
        matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The socket, to go on without answers; `None` once a call has failed.
    pub fn into_stream(self) -> Option<TcpStream> {
        self.stream
    }

    /// Sends a request to which no response comes (Produce with `acks` 0).
    pub async fn send<R: Request>(&mut self, request: R) -> Result<(), ClientError> {
        let version = self.version(R::KEY).ok_or(ClientError::NoCommonVersion { key: R::KEY })?;
        let (_, segments) = self.prepare(&request, version)?;
        let limit = self.options.request_timeout;
        // Taken out, and put back only after success: also a call that is dropped half-way closes it.
        let mut stream = self.stream.take().ok_or(ClientError::Closed)?;
        timeout(limit, write_segments(&mut stream, segments))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        self.stream = Some(stream);
        Ok(())
    }

    fn prepare<R: Request>(&mut self, request: &R, version: i16) -> Result<(RequestHeader, Vec<Bytes>), ClientError> {
        let header = RequestHeader {
            key: R::KEY,
            version,
            correlation_id: self.next_correlation_id,
            client_id: Some(self.options.client_id.clone()),
        };
        let segments = frame::encode_request(&header, request)?;
        self.next_correlation_id = self.next_correlation_id.wrapping_add(1);
        Ok((header, segments))
    }

    /// Writes a request and reads the frame that answers it.
    async fn exchange(
        &mut self,
        step: &'static str,
        segments: Vec<Bytes>,
        limit: Duration,
        max: usize,
    ) -> Result<Bytes, ClientError> {
        // Taken out, and put back only after success: also a call that is dropped half-way closes it.
        let mut stream = self.stream.take().ok_or(ClientError::Closed)?;
        let exchanged = timeout(limit, async {
            write_segments(&mut stream, segments).await?;
            read_frame(&mut stream, max).await
        });
        let frame = exchanged.await.unwrap_or(Err(ClientError::TimedOut { step, limit }))?;
        self.stream = Some(stream);
        Ok(frame)
    }

    /// Closes the connection if its bytes made no sense.
    fn settle<T>(&mut self, result: Result<T, ClientError>) -> Result<T, ClientError> {
        if result.is_err() {
            self.stream = None;
        }
        result
    }

    /// ApiVersions, whose answer may be in version 0 whatever was asked (KIP-511).
    async fn exchange_api_versions(
        &mut self,
        request: &ApiVersionsRequest,
        version: i16,
    ) -> Result<ApiVersionsResponse, ClientError> {
        let (header, segments) = self.prepare(request, version)?;
        let (limit, max) = (self.options.request_timeout, self.options.max_response_size);
        let frame = self.exchange(header.key.name(), segments, limit, max).await?;
        let opened = Self::open_api_versions(frame, &header);
        self.settle(opened)
    }

    fn open_api_versions(frame: Bytes, request: &RequestHeader) -> Result<ApiVersionsResponse, ClientError> {
        let mut decoder = Decoder::new(frame.clone());
        let header = ResponseHeader::decode(&mut decoder, request.key, request.version)?;
        check_correlation(request.correlation_id, header.correlation_id)?;
        // The error code comes first in every version.
        let version = match decoder.read_i16()? {
            code if code == ErrorCode::UnsupportedVersion.code() => 0,
            _ => request.version,
        };
        let (_, body) = frame::decode_response(frame, request.key, version)?;
        Ok(body)
    }
}

fn check_correlation(expected: i32, received: i32) -> Result<(), ClientError> {
    if received == expected { Ok(()) } else { Err(ClientError::CorrelationId { expected, received }) }
}

/// Writes all segments with as few system calls as the kernel allows.
pub async fn write_segments(stream: &mut TcpStream, segments: Vec<Bytes>) -> io::Result<()> {
    /// Segments offered to one system call; Linux takes 1,024 at most, and so many fill a socket buffer.
    const AT_ONCE: usize = 64;
    let mut segments = std::collections::VecDeque::from(segments);
    while !segments.is_empty() {
        let slices: Vec<IoSlice<'_>> = segments.iter().take(AT_ONCE).map(|segment| IoSlice::new(segment)).collect();
        let mut written = stream.write_vectored(&slices).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while let Some(first) = segments.front_mut() {
            if written < first.len() {
                first.advance(written);
                break;
            }
            written -= first.len();
            segments.pop_front();
        }
    }
    Ok(())
}

/// Reads one frame of at most `max` bytes. Memory grows with the bytes received. A short frame takes one call: its size
/// is read with it.
async fn read_frame(stream: &mut TcpStream, max: usize) -> Result<Bytes, ClientError> {
    // Nothing is held while the answer is waited for.
    stream.readable().await?;
    let mut frame = BytesMut::with_capacity(SHORT_ROOM);
    while frame.len() < SIZE_LENGTH {
        read_more(stream, &mut frame).await?;
    }
    let size = frame::check_size([frame[0], frame[1], frame[2], frame[3]], max)?;
    frame.advance(SIZE_LENGTH);
    while frame.len() < size {
        // Four times what has arrived: large responses of another broker are copied little while the buffer grows.
        let room = size.min(frame.len().saturating_mul(4).max(FIRST_ROOM));
        if frame.capacity() < room {
            frame.reserve(room - frame.len());
        }
        read_more(stream, &mut frame).await?;
    }
    if frame.len() > size {
        // Only answers are read, one to each request.
        return Err(io::Error::new(io::ErrorKind::InvalidData, "more bytes than the answer has").into());
    }
    Ok(frame.freeze())
}

async fn read_more(stream: &mut TcpStream, frame: &mut BytesMut) -> io::Result<()> {
    if stream.read_buf(frame).await? == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}
