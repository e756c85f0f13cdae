// SPDX-License-Identifier: Apache-2.0
//! How brokers prove to each other who they are: each shows that it knows the cluster secret, by a proof over what it
//! says and what the other has just made up, so that the secret never travels and no proof serves twice. It must not
//! know connections.
//!
//! What follows on the connection is neither encrypted nor signed: who can change packets between brokers, or pass them
//! on, can speak as either. That takes TLS (decision 6).
use std::fmt;

use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use odradek_coordination::Holder;
use odradek_model::{BrokerId, ClusterId, DirectoryId};
use odradek_wire::private::IntroduceRequest;
use odradek_wire::{ErrorCode, Message as _, Text};
use sha2::Sha256;
use uuid::Uuid;

use crate::clock::Random;
use crate::net::introduction::Introduced;

/// Shortest secret: 128 bits, which nobody guesses.
const SHORTEST_SECRET: usize = 16;

/// What begins each proof, so that one of a kind is never one of another.
const INTRODUCTION: &[u8] = b"odradek: introduction, version 0";
const ACCEPTANCE: &[u8] = b"odradek: acceptance, version 0";

/// The secret that the brokers of a cluster share. It is never shown.
#[derive(Clone)]
pub struct ClusterSecret(Box<[u8]>);

/// The secret is too short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cluster secret has {0} bytes, at least {SHORTEST_SECRET} are needed")]
pub struct ClusterSecretError(usize);

impl ClusterSecret {
    /// Takes the bytes of the secret, all of them.
    pub fn new(bytes: &[u8]) -> Result<Self, ClusterSecretError> {
        if bytes.len() < SHORTEST_SECRET {
            return Err(ClusterSecretError(bytes.len()));
        }
        Ok(Self(bytes.into()))
    }

    /// A new secret, for brokers of one process.
    pub fn generate(random: &dyn Random) -> Self {
        Self([random.bytes(), random.bytes()].concat().into())
    }

    /// A proof over the parts; each is preceded by its length, so that none can run into the next.
    fn prove(&self, kind: &[u8], parts: [&[u8]; 2]) -> Hmac<Sha256> {
        let mut hmac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        for part in [kind].into_iter().chain(parts) {
            hmac.update(&(part.len() as u64).to_be_bytes());
            hmac.update(part);
        }
        hmac
    }
}

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecret")
    }
}

/// Who this broker is to others, and what it proves it with.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its cluster.
    pub cluster_id: ClusterId,
    /// The broker and its process.
    pub holder: Holder,
    /// Its data folder.
    pub directory_id: DirectoryId,
    /// Without one it neither introduces itself nor accepts an introduction: it is alone.
    pub secret: Option<ClusterSecret>,
}

/// Why an introduction is not accepted: Kafka's code, and words for the log of the other broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
}

impl Identity {
    /// What to say to a broker that gave this challenge; `None` without a secret. `own_challenge` is random.
    pub(crate) fn introduce(
        &self,
        intended: BrokerId,
        challenge: Uuid,
        own_challenge: Uuid,
    ) -> Option<IntroduceRequest> {
        let secret = self.secret.as_ref()?;
        let mut request = IntroduceRequest {
            cluster_id: self.cluster_id.as_str().into(),
            broker_id: self.holder.broker_id.0,
            incarnation: Text::from(&self.holder.incarnation),
            directory_id: self.directory_id.0,
            intended_broker_id: intended.0,
            challenge: own_challenge,
            proof: Bytes::new(),
        };
        let proof = secret.prove(INTRODUCTION, [challenge.as_bytes(), &unproven(&request)?]);
        request.proof = Bytes::copy_from_slice(&proof.finalize().into_bytes());
        Some(request)
    }

    /// Judges an introduction that answers this challenge; with it, what to prove ourselves with.
    pub(crate) fn judge(&self, request: &IntroduceRequest, challenge: Uuid) -> Result<(Introduced, Bytes), Refusal> {
        let refuse = |code, message: String| Err(Refusal { code, message });
        let Some(secret) = &self.secret else {
            return refuse(ErrorCode::SaslAuthenticationFailed, "this broker has no cluster secret".to_owned());
        };
        // The cluster comes first, as another one has another secret: "wrong secret" would mislead.
        if request.cluster_id != self.cluster_id.as_str() {
            return refuse(ErrorCode::InconsistentClusterId, format!("this is cluster {}", self.cluster_id));
        }
        let Some(covered) = unproven(request) else {
            return refuse(ErrorCode::InvalidRequest, "the introduction cannot be encoded again".to_owned());
        };
        let proof = secret.prove(INTRODUCTION, [challenge.as_bytes(), &covered]);
        // In constant time: how long it takes says nothing about the right proof.
        if proof.verify_slice(&request.proof).is_err() {
            return refuse(ErrorCode::SaslAuthenticationFailed, "the proof does not fit the cluster secret".to_owned());
        }
        let here = self.holder.broker_id;
        if request.intended_broker_id != here.0 {
            let message = format!("this is broker {here}, not {}", request.intended_broker_id);
            return refuse(ErrorCode::InvalidRequest, message);
        }
        let Ok(holder) = format!("{}/{}", request.broker_id, request.incarnation).parse::<Holder>() else {
            return refuse(ErrorCode::InvalidRequest, "broker id and incarnation name no broker".to_owned());
        };
        if holder.broker_id == here {
            return refuse(ErrorCode::InvalidRequest, format!("broker {here} is here, and speaks to others only"));
        }
        let acceptance = secret.prove(ACCEPTANCE, [request.challenge.as_bytes(), &request.proof]);
        let directory_id = DirectoryId(request.directory_id);
        Ok((Introduced { holder, directory_id }, Bytes::copy_from_slice(&acceptance.finalize().into_bytes())))
    }

    /// Whether the answer to our introduction comes from one who knows the secret.
    pub(crate) fn is_accepted_by(&self, request: &IntroduceRequest, acceptance: &[u8]) -> bool {
        self.secret.as_ref().is_some_and(|secret| {
            let proof = secret.prove(ACCEPTANCE, [request.challenge.as_bytes(), &request.proof]);
            proof.verify_slice(acceptance).is_ok()
        })
    }
}

/// The introduction without its proof, as the proof covers it.
fn unproven(request: &IntroduceRequest) -> Option<Bytes> {
    IntroduceRequest { proof: Bytes::new(), ..request.clone() }.to_bytes(0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(id: i32, cluster: &str, secret: &[u8]) -> Identity {
        Identity {
            cluster_id: ClusterId::new(cluster).unwrap(),
            holder: Holder { broker_id: BrokerId(id), incarnation: format!("process-{id}") },
            directory_id: DirectoryId(Uuid::from_u128(id as u128 + 1)),
            secret: Some(ClusterSecret::new(secret).unwrap()),
        }
    }

    const SECRET: &[u8] = b"sixteen bytes or more";

    #[test]
    fn both_sides_prove_themselves() {
        let (one, two) = (identity(1, "c", SECRET), identity(2, "c", SECRET));
        let (challenge, own) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let request = one.introduce(BrokerId(2), challenge, own).unwrap();
        let (introduced, acceptance) = two.judge(&request, challenge).unwrap();
        assert_eq!(introduced, Introduced { holder: one.holder.clone(), directory_id: one.directory_id });
        assert!(one.is_accepted_by(&request, &acceptance));
        // Not with another secret, nor for another introduction.
        assert!(!identity(1, "c", b"another secret of length").is_accepted_by(&request, &acceptance));
        let other = one.introduce(BrokerId(2), challenge, Uuid::from_u128(3)).unwrap();
        assert!(!one.is_accepted_by(&other, &acceptance));
        assert!(!one.is_accepted_by(&request, &request.proof), "a proof sent back is none");
        assert!(!one.is_accepted_by(&request, &[]));
    }

    #[test]
    fn what_is_not_right_is_refused_by_name() {
        let two = identity(2, "c", SECRET);
        let challenge = Uuid::from_u128(1);
        let judge = |from: &Identity, intended: i32, change: fn(&mut IntroduceRequest)| {
            let mut request = from.introduce(BrokerId(intended), challenge, Uuid::from_u128(2)).unwrap();
            change(&mut request);
            two.judge(&request, challenge).map(|_| ()).map_err(|refusal| refusal.code)
        };
        let one = identity(1, "c", SECRET);
        assert_eq!(judge(&one, 2, |_| {}), Ok(()));
        assert_eq!(judge(&identity(1, "d", SECRET), 2, |_| {}), Err(ErrorCode::InconsistentClusterId));
        assert_eq!(judge(&one, 3, |_| {}), Err(ErrorCode::InvalidRequest));
        assert_eq!(judge(&two, 2, |_| {}), Err(ErrorCode::InvalidRequest));
        let wrong = ErrorCode::SaslAuthenticationFailed;
        assert_eq!(judge(&identity(1, "c", b"another secret of length"), 2, |_| {}), Err(wrong));
        // Every field is covered by the proof.
        let changes: [fn(&mut IntroduceRequest); 6] = [
            |request| request.broker_id = 3,
            |request| request.incarnation = "x".into(),
            |request| request.directory_id = Uuid::nil(),
            |request| request.intended_broker_id = 7,
            |request| request.challenge = Uuid::nil(),
            |request| request.proof = request.proof.slice(..31),
        ];
        for change in changes {
            assert_eq!(judge(&one, 2, change), Err(wrong));
        }
        let request = one.introduce(BrokerId(2), challenge, Uuid::from_u128(2)).unwrap();
        assert!(two.judge(&request, Uuid::from_u128(9)).is_err(), "the proof was for another challenge");
        let alone = Identity { secret: None, ..two.clone() };
        assert_eq!(alone.judge(&request, challenge).unwrap_err().code, wrong);
        assert_eq!(alone.introduce(BrokerId(1), challenge, challenge), None);
    }

    #[test]
    fn a_secret_is_long_enough_and_never_shown() {
        assert_eq!(ClusterSecret::new(&[7; 15]).unwrap_err(), ClusterSecretError(15));
        assert_eq!(format!("{:?}", ClusterSecret::new(SECRET).unwrap()), "ClusterSecret");
    }
}
