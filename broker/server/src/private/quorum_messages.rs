// SPDX-License-Identifier: Apache-2.0
//! Between the quorum's messages and their form on the wire. Total in one direction; in the other whatever is no
//! message of ours is an error. It must not know connections.
use odradek_coordination::quorum::{
    FetchAnswer, FetchOutcome, FetchPurpose, FetchRequest, LeaseStamp, LogBatch, LogPosition, MAX_VOTERS, Message,
    MessageBody, Promise, PromiseAnswer, SnapshotPart, SnapshotRequest, StatusAnswer, StoredVoterSet, VoterSets,
};
use odradek_coordination::{Holder, LeaseView, Voter};
use odradek_model::{BrokerId, ClusterId, DirectoryId};
use odradek_wire::private::{
    QuorumAskStatus, QuorumBatch, QuorumEpoch, QuorumFetch, QuorumFetchSnapshot, QuorumFetched, QuorumHolder,
    QuorumLease, QuorumMessage, QuorumPosition, QuorumPromise, QuorumPromised, QuorumSnapshotPart, QuorumStatus,
    QuorumVoter, QuorumVoterSet,
};

/// Why a message on the wire is none of the quorum's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QuorumMessageError {
    /// No body, or one of a later version.
    #[error("a quorum message without a body that this version knows")]
    Unknown,
    /// Several bodies, a number that stands for nothing, or a text that names nothing.
    #[error("a quorum message with an impossible {0}")]
    Impossible(&'static str),
}

type Decoded<T> = Result<T, QuorumMessageError>;

const fn impossible<T>(what: &'static str) -> Decoded<T> {
    Err(QuorumMessageError::Impossible(what))
}

pub(crate) fn encode(message: &Message) -> QuorumMessage {
    let mut wire = QuorumMessage {
        sender: holder(&message.sender),
        directory_id: message.directory_id.0,
        request: message.request.cast_signed(),
        ..QuorumMessage::default()
    };
    match &message.body {
        MessageBody::Fetch(body) => {
            wire.fetch = Some(QuorumFetch {
                purpose: purpose(body.purpose),
                accepted: promise(&body.accepted),
                position: position(body.position),
                commit_end: body.commit_end,
            });
        }
        MessageBody::Fetched(body) => wire.fetched = Some(fetched(body)),
        MessageBody::FetchSnapshot(body) => {
            wire.fetch_snapshot = Some(QuorumFetchSnapshot {
                purpose: purpose(body.purpose),
                accepted: promise(&body.accepted),
                position: position(body.position),
                at: body.at.cast_signed(),
            });
        }
        MessageBody::SnapshotPart(body) => {
            wire.snapshot_part = Some(QuorumSnapshotPart {
                controller: promise(&body.controller),
                position: position(body.position),
                at: body.at.cast_signed(),
                part: Some(body.bytes.clone()),
            });
        }
        MessageBody::AskPromise(epoch) => wire.ask_promise = Some(QuorumEpoch { epoch: *epoch }),
        MessageBody::Promised(body) => {
            wire.promised = Some(QuorumPromised {
                epoch: body.epoch,
                granted: body.granted,
                promised: promise(&body.promised),
                position: position(body.position),
            });
        }
        MessageBody::AskStatus => wire.ask_status = Some(QuorumAskStatus {}),
        MessageBody::Status(body) => {
            wire.status = Some(QuorumStatus {
                hears: body.hears.as_ref().map(promise),
                promised: promise(&body.promised),
                position: position(body.position),
                newest: body.voter_sets.newest.as_ref().map(voter_set),
                pending: body.voter_sets.pending.iter().map(voter_set).collect(),
            });
        }
        MessageBody::Announce(epoch) => wire.announce = Some(QuorumEpoch { epoch: *epoch }),
        MessageBody::HandOver(view) => wire.hand_over = Some(lease(view)),
    }
    wire
}

pub(crate) fn decode(wire: QuorumMessage) -> Decoded<Message> {
    let (sender, directory_id) = (read_holder(&wire.sender)?, DirectoryId(wire.directory_id));
    let request = wire.request.cast_unsigned();
    let mut bodies = Vec::with_capacity(1);
    if let Some(body) = wire.fetch {
        bodies.push(MessageBody::Fetch(FetchRequest {
            purpose: read_purpose(body.purpose)?,
            accepted: read_promise(&body.accepted)?,
            position: read_position(&body.position)?,
            commit_end: offset(body.commit_end)?,
        }));
    }
    if let Some(body) = wire.fetched {
        bodies.push(MessageBody::Fetched(read_fetched(body)?));
    }
    if let Some(body) = wire.fetch_snapshot {
        bodies.push(MessageBody::FetchSnapshot(SnapshotRequest {
            purpose: read_purpose(body.purpose)?,
            accepted: read_promise(&body.accepted)?,
            position: read_position(&body.position)?,
            at: length(body.at)?,
        }));
    }
    if let Some(body) = wire.snapshot_part {
        bodies.push(MessageBody::SnapshotPart(SnapshotPart {
            controller: read_promise(&body.controller)?,
            position: read_position(&body.position)?,
            at: length(body.at)?,
            bytes: body.part.unwrap_or_default(),
        }));
    }
    if let Some(body) = wire.ask_promise {
        bodies.push(MessageBody::AskPromise(body.epoch));
    }
    if let Some(body) = wire.promised {
        bodies.push(MessageBody::Promised(PromiseAnswer {
            epoch: body.epoch,
            granted: body.granted,
            promised: read_promise(&body.promised)?,
            position: read_position(&body.position)?,
        }));
    }
    if wire.ask_status.is_some() {
        bodies.push(MessageBody::AskStatus);
    }
    if let Some(body) = wire.status {
        bodies.push(MessageBody::Status(Box::new(StatusAnswer {
            hears: body.hears.as_ref().map(read_promise).transpose()?,
            promised: read_promise(&body.promised)?,
            position: read_position(&body.position)?,
            voter_sets: VoterSets {
                newest: body.newest.as_ref().map(read_voter_set).transpose()?,
                pending: body.pending.iter().map(read_voter_set).collect::<Decoded<_>>()?,
            },
        })));
    }
    if let Some(body) = wire.announce {
        bodies.push(MessageBody::Announce(body.epoch));
    }
    if let Some(body) = wire.hand_over {
        bodies.push(MessageBody::HandOver(read_lease(&body)?));
    }
    match (bodies.pop(), bodies.is_empty()) {
        (Some(body), true) => Ok(Message { sender, directory_id, request, body }),
        (Some(_), false) => impossible("second body"),
        (None, _) => Err(QuorumMessageError::Unknown),
    }
}

fn holder(holder: &Holder) -> QuorumHolder {
    QuorumHolder { broker_id: holder.broker_id.0, incarnation: (&holder.incarnation).into() }
}

fn read_holder(wire: &QuorumHolder) -> Decoded<Holder> {
    // The rules for what a holder's text may be are in one place.
    format!("{}/{}", wire.broker_id, wire.incarnation).parse().or(impossible("holder"))
}

fn promise(promise: &Promise) -> QuorumPromise {
    QuorumPromise { epoch: promise.epoch, holder: promise.holder.as_ref().map(holder) }
}

fn read_promise(wire: &QuorumPromise) -> Decoded<Promise> {
    Ok(Promise { epoch: wire.epoch, holder: wire.holder.as_ref().map(read_holder).transpose()? })
}

fn position(position: LogPosition) -> QuorumPosition {
    QuorumPosition { epoch: position.epoch, end_offset: position.end }
}

fn read_position(wire: &QuorumPosition) -> Decoded<LogPosition> {
    Ok(LogPosition { epoch: wire.epoch, end: offset(wire.end_offset)? })
}

fn offset(wire: i64) -> Decoded<i64> {
    if wire < 0 { impossible("offset") } else { Ok(wire) }
}

fn length(wire: i64) -> Decoded<u64> {
    u64::try_from(wire).or(impossible("length"))
}

const FOLLOW: i8 = 0;
const CATCH_UP: i8 = 1;

fn purpose(purpose: FetchPurpose) -> i8 {
    match purpose {
        FetchPurpose::Follow => FOLLOW,
        FetchPurpose::CatchUp => CATCH_UP,
    }
}

fn read_purpose(wire: i8) -> Decoded<FetchPurpose> {
    match wire {
        FOLLOW => Ok(FetchPurpose::Follow),
        CATCH_UP => Ok(FetchPurpose::CatchUp),
        _ => impossible("purpose"),
    }
}

fn fetched(answer: &FetchAnswer) -> QuorumFetched {
    let wire = QuorumFetched {
        controller: promise(&answer.controller),
        commit_end: answer.commit_end,
        ..QuorumFetched::default()
    };
    match &answer.outcome {
        FetchOutcome::Batches(batches) => {
            let batches = batches.iter().map(|batch| QuorumBatch {
                epoch: batch.epoch,
                base_offset: batch.base_offset,
                end_offset: batch.end_offset,
                records: Some(batch.bytes.clone()),
            });
            QuorumFetched { outcome: 0, batches: batches.collect(), ..wire }
        }
        FetchOutcome::Diverging(end) => QuorumFetched { outcome: 1, position: position(*end), ..wire },
        FetchOutcome::TakeSnapshot { position: end, bytes } => {
            QuorumFetched { outcome: 2, position: position(*end), snapshot_bytes: bytes.cast_signed(), ..wire }
        }
        FetchOutcome::AcceptEpoch => QuorumFetched { outcome: 3, ..wire },
        FetchOutcome::NotYetController => QuorumFetched { outcome: 4, ..wire },
        FetchOutcome::NotController => QuorumFetched { outcome: 5, ..wire },
    }
}

fn read_fetched(wire: QuorumFetched) -> Decoded<FetchAnswer> {
    let outcome = match wire.outcome {
        0 => {
            let batches = wire.batches.into_iter().map(|batch| {
                Ok(LogBatch {
                    epoch: batch.epoch,
                    base_offset: offset(batch.base_offset)?,
                    end_offset: offset(batch.end_offset)?,
                    bytes: batch.records.unwrap_or_default(),
                })
            });
            FetchOutcome::Batches(batches.collect::<Decoded<_>>()?)
        }
        1 => FetchOutcome::Diverging(read_position(&wire.position)?),
        2 => {
            FetchOutcome::TakeSnapshot { position: read_position(&wire.position)?, bytes: length(wire.snapshot_bytes)? }
        }
        3 => FetchOutcome::AcceptEpoch,
        4 => FetchOutcome::NotYetController,
        5 => FetchOutcome::NotController,
        _ => return impossible("outcome"),
    };
    Ok(FetchAnswer { controller: read_promise(&wire.controller)?, commit_end: offset(wire.commit_end)?, outcome })
}

fn voter(voter: &Voter) -> QuorumVoter {
    QuorumVoter { broker_id: voter.broker_id.0, directory_id: voter.directory_id.0 }
}

fn read_voters(wire: &[QuorumVoter]) -> Decoded<Vec<Voter>> {
    if wire.len() > MAX_VOTERS || wire.iter().any(|voter| voter.broker_id < 0) {
        return impossible("voter");
    }
    let read = |voter: &QuorumVoter| Voter {
        broker_id: BrokerId(voter.broker_id),
        directory_id: DirectoryId(voter.directory_id),
    };
    Ok(wire.iter().map(read).collect())
}

fn voter_set(set: &StoredVoterSet) -> QuorumVoterSet {
    let LeaseStamp { uid, epoch, sequence } = &set.stamp;
    let voters = set.voters.iter().map(voter).collect();
    QuorumVoterSet { uid: uid.into(), epoch: *epoch, sequence: *sequence, voters }
}

fn read_voter_set(wire: &QuorumVoterSet) -> Decoded<StoredVoterSet> {
    let stamp = LeaseStamp { uid: (&wire.uid).into(), epoch: wire.epoch, sequence: wire.sequence };
    Ok(StoredVoterSet { stamp, voters: read_voters(&wire.voters)?.into_iter().collect() })
}

fn lease(view: &LeaseView) -> QuorumLease {
    QuorumLease {
        uid: (&view.uid).into(),
        epoch: view.epoch,
        sequence: view.sequence,
        holder: view.holder.as_ref().map(holder),
        voters: view.voters.iter().map(voter).collect(),
        cluster_id: view.cluster_id.as_str().into(),
        version: (&view.version).into(),
    }
}

fn read_lease(wire: &QuorumLease) -> Decoded<LeaseView> {
    Ok(LeaseView {
        uid: (&wire.uid).into(),
        epoch: wire.epoch,
        sequence: wire.sequence,
        holder: wire.holder.as_ref().map(read_holder).transpose()?,
        voters: read_voters(&wire.voters)?,
        cluster_id: ClusterId::new(&wire.cluster_id).or(impossible("cluster id"))?,
        version: (&wire.version).into(),
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use odradek_wire::Message as _;
    use uuid::Uuid;

    use super::*;

    fn messages() -> Vec<Message> {
        let sender = Holder { broker_id: BrokerId(3), incarnation: "abc".into() };
        let directory_id = DirectoryId(Uuid::from_u128(4));
        let given = Promise { epoch: 7, holder: Some(sender.clone()) };
        let end = LogPosition { epoch: 6, end: 99 };
        let voters =
            vec![Voter { broker_id: BrokerId(3), directory_id }, Voter { broker_id: BrokerId(1), directory_id }];
        let set = StoredVoterSet {
            stamp: LeaseStamp { uid: "uid".into(), epoch: 5, sequence: 8 },
            voters: voters.iter().copied().collect(),
        };
        let batch = LogBatch { epoch: 6, base_offset: 10, end_offset: 12, bytes: Bytes::from_static(b"records") };
        let answer = |outcome| MessageBody::Fetched(FetchAnswer { controller: given.clone(), commit_end: 11, outcome });
        let bodies = [
            MessageBody::Fetch(FetchRequest {
                purpose: FetchPurpose::CatchUp,
                accepted: given.clone(),
                position: end,
                commit_end: 98,
            }),
            answer(FetchOutcome::Batches(vec![batch.clone(), batch])),
            answer(FetchOutcome::Batches(Vec::new())),
            answer(FetchOutcome::Diverging(end)),
            answer(FetchOutcome::TakeSnapshot { position: end, bytes: 1 << 29 }),
            answer(FetchOutcome::AcceptEpoch),
            answer(FetchOutcome::NotYetController),
            answer(FetchOutcome::NotController),
            MessageBody::FetchSnapshot(SnapshotRequest {
                purpose: FetchPurpose::Follow,
                accepted: Promise::default(),
                position: end,
                at: 5,
            }),
            MessageBody::SnapshotPart(SnapshotPart {
                controller: given.clone(),
                position: end,
                at: 5,
                bytes: Bytes::from_static(b"part"),
            }),
            MessageBody::AskPromise(8),
            MessageBody::Promised(PromiseAnswer { epoch: 8, granted: true, promised: given.clone(), position: end }),
            MessageBody::AskStatus,
            MessageBody::Status(Box::new(StatusAnswer {
                hears: Some(given.clone()),
                promised: Promise::default(),
                position: end,
                voter_sets: VoterSets { newest: Some(set.clone()), pending: vec![set] },
            })),
            MessageBody::Announce(9),
            MessageBody::HandOver(LeaseView {
                uid: "uid".into(),
                epoch: 9,
                sequence: 10,
                holder: None,
                voters,
                cluster_id: ClusterId::new("c").unwrap(),
                version: "123".into(),
            }),
        ];
        let message = |body| Message { sender: sender.clone(), directory_id, request: u64::MAX - 1, body };
        bodies.into_iter().map(message).collect()
    }

    #[test]
    fn every_message_comes_back_over_the_wire() {
        for message in messages() {
            let bytes = encode(&message).to_bytes(0).unwrap();
            let wire = QuorumMessage::decode_whole(bytes, 0).unwrap();
            assert_eq!(decode(wire), Ok(message));
        }
    }

    type Change = fn(&mut QuorumMessage);

    #[test]
    fn what_is_no_message_is_an_error() {
        let all = messages();
        let first = encode(&all[0]);
        let none = QuorumMessage { fetch: None, ..first.clone() };
        assert_eq!(decode(none), Err(QuorumMessageError::Unknown));
        let two = QuorumMessage { announce: Some(QuorumEpoch { epoch: 1 }), ..first.clone() };
        assert_eq!(decode(two), Err(QuorumMessageError::Impossible("second body")));
        let changes: [(&str, Change); 4] = [
            ("holder", |wire| wire.sender.broker_id = -1),
            ("holder", |wire| wire.sender.incarnation = "with space".into()),
            ("purpose", |wire| wire.fetch.as_mut().unwrap().purpose = 2),
            ("offset", |wire| wire.fetch.as_mut().unwrap().commit_end = -1),
        ];
        for (what, change) in changes {
            let mut wire = first.clone();
            change(&mut wire);
            assert_eq!(decode(wire), Err(QuorumMessageError::Impossible(what)));
        }
        let status = all.iter().find(|message| matches!(message.body, MessageBody::Status(_))).unwrap();
        let mut wire = encode(status);
        wire.status.as_mut().unwrap().pending[0].voters = vec![QuorumVoter::default(); MAX_VOTERS + 1];
        assert_eq!(decode(wire), Err(QuorumMessageError::Impossible("voter")));
        let mut wire = encode(&all[1]);
        wire.fetched.as_mut().unwrap().outcome = 6;
        assert_eq!(decode(wire), Err(QuorumMessageError::Impossible("outcome")));
    }
}
