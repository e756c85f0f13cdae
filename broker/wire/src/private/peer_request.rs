// SPDX-License-Identifier: Apache-2.0
//! What one broker asks another: one of Kafka's requests, or a private one, as one trait. It must not know connections.

use bytes::Bytes;

use crate::decode::DecodeError;
use crate::encode::EncodeError;
use crate::frame;
use crate::header::RequestHeader;
use crate::message::{Message, Request};
use crate::messages::ApiKey;
use crate::text::Text;

/// A request that a broker can send to another.
pub trait PeerRequest: Message {
    /// What comes back.
    type Response: Message;

    /// The API's name, for errors.
    const API: &'static str;

    /// The API, if it is one of Kafka's: its version is agreed on. Private ones are sent in their newest version.
    const KAFKA_API: Option<ApiKey>;

    /// The frame with its size, as segments for a vectored write.
    fn encode_frame(&self, version: i16, correlation_id: i32, client_id: &Text) -> Result<Vec<Bytes>, EncodeError>;

    /// Correlation id and body of the response that fills `frame` (without its size), which they are slices of.
    fn decode_frame(frame: Bytes, version: i16) -> Result<(i32, Self::Response), DecodeError>;
}

impl<R: Request> PeerRequest for R {
    type Response = <R as Request>::Response;

    const API: &'static str = R::KEY.name();

    const KAFKA_API: Option<ApiKey> = Some(R::KEY);

    fn encode_frame(&self, version: i16, correlation_id: i32, client_id: &Text) -> Result<Vec<Bytes>, EncodeError> {
        let header = RequestHeader { key: R::KEY, version, correlation_id, client_id: Some(client_id.clone()) };
        frame::encode_request(&header, self)
    }

    fn decode_frame(frame: Bytes, version: i16) -> Result<(i32, Self::Response), DecodeError> {
        let (header, body) = frame::decode_response(frame, R::KEY, version)?;
        Ok((header.correlation_id, body))
    }
}

/// Ties a private request to its key and response.
macro_rules! private_request {
    ($request:ident, $key:ident, $response:ident) => {
        impl $crate::private::PeerRequest for $request {
            type Response = $response;

            const API: &'static str = stringify!($key);

            const KAFKA_API: Option<$crate::messages::ApiKey> = None;

            fn encode_frame(
                &self,
                version: i16,
                correlation_id: i32,
                _client_id: &$crate::text::Text,
            ) -> Result<Vec<bytes::Bytes>, $crate::encode::EncodeError> {
                let header = PrivateHeader { key: PrivateApiKey::$key, version, correlation_id };
                header.encode_frame(self)
            }

            fn decode_frame(
                frame: bytes::Bytes,
                version: i16,
            ) -> Result<(i32, Self::Response), $crate::decode::DecodeError> {
                PrivateHeader::decode_response(frame, version)
            }
        }
    };
}

pub(super) use private_request;
