// SPDX-License-Identifier: Apache-2.0
//! What brokers say to each other beside Kafka's own requests: one file per key, in the encoding of Kafka's flexible
//! versions. Their keys begin at 10,000, stand in a table of their own and are never advertised; a broker takes them
//! on its private listener only, and all but the introduction only after it.
//!
//! **Versions**: each message has version 0. A later one may be sent once the cluster's feature level says that every
//! broker has it; a new tagged field needs no version.
//!
//! **Invariant**: what a message carries is known here, what a broker does with it is not.

mod allocate_producer_ids;
mod alter_partition;
mod broker_heartbeat;
mod confirm_leadership;
mod controller_answer;
mod envelope;
mod header;
mod introduce;
mod may_stop;
mod peer_request;
mod quorum;
mod register_broker;

pub use allocate_producer_ids::*;
pub use alter_partition::*;
pub use broker_heartbeat::*;
pub use confirm_leadership::*;
pub use controller_answer::ControllerAnswer;
pub use envelope::*;
pub use header::PrivateHeader;
pub use introduce::*;
pub use may_stop::*;
pub use peer_request::PeerRequest;
pub use quorum::*;
pub use register_broker::*;

use crate::decode::DecodeError;
use crate::message::Message;

/// The lowest private key. Kafka counts from 0 and is at 93.
pub const FIRST_PRIVATE_KEY: i16 = 10_000;

/// From the list of keys: `PrivateApiKey`, and the ties between requests and responses.
macro_rules! private_apis {
    ($($name:ident = $key:literal, $request:ident, $response:ident;)*) => {
        /// The private APIs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum PrivateApiKey {
            /// API key 10000: one-way, [`QuorumMessage`].
            Quorum = FIRST_PRIVATE_KEY,
            $(
                #[doc = concat!("API key ", $key, ".")]
                $name = $key,
            )*
        }

        impl PrivateApiKey {
            /// All of them, by number.
            pub const ALL: &'static [Self] = &[Self::Quorum, $(Self::$name),*];

            /// The name.
            pub const fn name(self) -> &'static str {
                match self {
                    Self::Quorum => "Quorum",
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// Whether we read and write this version of the message.
            pub const fn has_version(self, version: i16) -> bool {
                let (min, max) = match self {
                    Self::Quorum => (QuorumMessage::MIN_VERSION, QuorumMessage::MAX_VERSION),
                    $(Self::$name => (<$request as Message>::MIN_VERSION, <$request as Message>::MAX_VERSION),)*
                };
                version >= min && version <= max
            }

            /// Decodes messages of this key that fill `bytes`, as request and as response, for tests that go through
            /// all of them.
            #[cfg(feature = "generate")]
            pub fn decode_both(self, bytes: &bytes::Bytes) -> [Result<(), DecodeError>; 2] {
                match self {
                    Self::Quorum => {
                        let read = QuorumMessage::decode_whole(bytes.clone(), 0).map(|_| ());
                        [read.clone(), read]
                    }
                    $(Self::$name => [
                        <$request as Message>::decode_whole(bytes.clone(), 0).map(|_| ()),
                        <$response as Message>::decode_whole(bytes.clone(), 0).map(|_| ()),
                    ],)*
                }
            }

            /// A random request and a random response of this key, encoded, after a check that they come back.
            #[cfg(feature = "generate")]
            pub fn generate_both(self, source: &mut crate::generate::Source) -> [bytes::Bytes; 2] {
                match self {
                    Self::Quorum => {
                        [generated::<QuorumMessage>(source), generated::<QuorumMessage>(source)]
                    }
                    $(Self::$name => [generated::<$request>(source), generated::<$response>(source)],)*
                }
            }
        }

        impl TryFrom<i16> for PrivateApiKey {
            type Error = DecodeError;

            fn try_from(key: i16) -> Result<Self, DecodeError> {
                match key {
                    FIRST_PRIVATE_KEY => Ok(Self::Quorum),
                    $($key => Ok(Self::$name),)*
                    key => Err(DecodeError::UnknownApiKey { key }),
                }
            }
        }

        $(peer_request::private_request!($request, $name, $response);)*
    };
}

private_apis! {
    Challenge = 10_001, ChallengeRequest, ChallengeResponse;
    Introduce = 10_002, IntroduceRequest, IntroduceResponse;
    RegisterBroker = 10_003, RegisterBrokerRequest, RegisterBrokerResponse;
    BrokerHeartbeat = 10_004, BrokerHeartbeatRequest, BrokerHeartbeatResponse;
    AlterPartition = 10_005, AlterPartitionRequest, AlterPartitionResponse;
    AllocateProducerIds = 10_006, AllocateProducerIdsRequest, AllocateProducerIdsResponse;
    Envelope = 10_007, EnvelopeRequest, EnvelopeResponse;
    ConfirmLeadership = 10_008, ConfirmLeadershipRequest, ConfirmLeadershipResponse;
    MayStop = 10_009, MayStopRequest, MayStopResponse;
}

impl PrivateApiKey {
    /// Its number.
    pub const fn code(self) -> i16 {
        self as i16
    }
}

/// A random message, encoded.
///
/// # Panics
/// If it does not come back as it was.
#[cfg(feature = "generate")]
fn generated<M: Message + crate::generate::Generate>(source: &mut crate::generate::Source) -> bytes::Bytes {
    let message = M::generate(source, 0);
    let bytes = message.to_bytes(0).expect("a generated message fits its version");
    assert_eq!(M::decode_whole(bytes.clone(), 0).as_ref(), Ok(&message), "{}", M::NAME);
    bytes
}
