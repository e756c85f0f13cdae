// SPDX-License-Identifier: Apache-2.0
//! One connection to another broker, opened when it is needed and again when it has failed. It must not know what is
//! asked by it.
use std::time::Duration;

use odradek_model::BrokerId;
use odradek_wire::client::{ClientError, ClientOptions, Connection};
use odradek_wire::private::ChallengeRequest;
use odradek_wire::{ErrorCode, Text, frame};
use tokio::time::{Instant, sleep_until};

use super::{PeerError, Peers};

/// Opening a connection, the introduction included: four round trips, and a name to look up.
pub(super) const CONNECT_TIME: Duration = Duration::from_secs(2);

/// Pause after the first failed attempt (`reconnect.backoff.ms`), doubled with each to a second: soon enough for a
/// broker that comes back, seldom enough for one that does not.
const FIRST_BACK_OFF: Duration = Duration::from_millis(50);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(1);

/// Answers to Challenge and Introduce are short.
const SHORT_ANSWER: usize = 4096;

/// A host and port.
pub(super) type Address = (String, u16);

/// When the next attempt may be made.
#[derive(Debug)]
pub(super) struct BackOff {
    pause: Duration,
    until: Option<Instant>,
}

impl Default for BackOff {
    fn default() -> Self {
        Self { pause: FIRST_BACK_OFF, until: None }
    }
}

impl BackOff {
    pub(super) async fn wait(&self) {
        if let Some(until) = self.until {
            sleep_until(until).await;
        }
    }

    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    pub(super) fn failed(&mut self) {
        self.until = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(LONGEST_BACK_OFF);
    }
}

/// The connection of a lane, if there is one.
#[derive(Debug, Default)]
pub(super) struct LaneConnection {
    open: Option<(Address, Connection)>,
    back_off: BackOff,
}

impl LaneConnection {
    /// The connection, opened if need be; after a failure not before its back-off is over.
    pub(super) async fn ready(&mut self, peers: &Peers, to: BrokerId) -> Result<&mut Connection, PeerError> {
        let address = peers.address(to).ok_or(PeerError::NoAddress(to))?;
        if self.open.as_ref().is_none_or(|(known, connection)| *known != address || !connection.is_open()) {
            self.open = None;
            self.back_off.wait().await;
            match open(peers, to, &address).await {
                Ok(connection) => {
                    self.back_off.succeeded();
                    self.open = Some((address, connection));
                }
                Err(error) => {
                    self.back_off.failed();
                    return Err(error);
                }
            }
        }
        let (_, connection) = self.open.as_mut().expect("it is open or was opened");
        Ok(connection)
    }
}

/// A new connection to the broker on which both sides have proved who they are, within [`CONNECT_TIME`]. Tells of a loss.
pub(super) async fn open(peers: &Peers, to: BrokerId, address: &Address) -> Result<Connection, PeerError> {
    let opened = tokio::time::timeout(CONNECT_TIME, introduce(peers, to, address)).await;
    let outcome = opened.unwrap_or(Err(PeerError::TimedOut { may_have_arrived: false }));
    if let Err(PeerError::Connect(error)) = &outcome {
        peers.tell_if_lost(to, error);
    }
    outcome
}

pub(super) async fn introduce(peers: &Peers, to: BrokerId, address: &Address) -> Result<Connection, PeerError> {
    let options = ClientOptions {
        client_id: Text::from(format!("broker-{}", peers.identity().holder.broker_id)),
        connect_timeout: CONNECT_TIME,
        request_timeout: CONNECT_TIME,
        max_response_size: frame::MAX_REQUEST_SIZE,
    };
    let failed = PeerError::Connect;
    let mut connection = Connection::connect((address.0.as_str(), address.1), options).await.map_err(failed)?;
    let challenge = connection.call_peer(&ChallengeRequest {}, CONNECT_TIME, SHORT_ANSWER).await.map_err(failed)?;
    let own_challenge = peers.random().uuid();
    let request = peers.identity().introduce(to, challenge.challenge, own_challenge).ok_or(PeerError::NoSecret)?;
    let answer = connection.call_peer(&request, CONNECT_TIME, SHORT_ANSWER).await.map_err(failed)?;
    if answer.error_code != ErrorCode::None.code() {
        let message = answer.error_message.map_or_else(String::new, String::from);
        let code = ErrorCode::from_code(answer.error_code).unwrap_or(ErrorCode::UnknownServerError);
        return Err(PeerError::Refused { broker: to, code, message });
    }
    if !peers.identity().is_accepted_by(&request, &answer.proof) {
        return Err(PeerError::Impostor(to));
    }
    peers.losses.reached(to);
    peers.pulses.reached(to);
    Ok(connection)
}

/// Whether the failure says that the other process, or its machine, ended the connection: a reason to look whether it
/// still lives. Silence is none; the sessions judge it.
pub(super) fn is_loss(error: &ClientError) -> bool {
    matches!(error, ClientError::Io(error) if is_io_loss(error))
}

pub(super) fn is_io_loss(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::UnexpectedEof
    )
}
