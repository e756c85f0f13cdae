// SPDX-License-Identifier: Apache-2.0
//! Reads that wait until other replicas have confirmed that no later leader can have committed anything: whom to ask,
//! about which partitions, and which reads may go on ([`Witnesses`] says who suffices). Must not know how a question
//! travels, nor what is read.
//!
//! An answer counts for the reads that were there before its question was sent. So reads that come while a question is
//! on its way share the next one: one question at a time is on its way to a broker, however many read.

use std::collections::{BTreeMap, VecDeque};

use odradek_model::{BrokerId, LeaderEpoch};
use odradek_partition::{MonotonicTime, Witnesses};

use crate::ReplicaKey;

/// How long a read waits. Answers take a round trip; what takes longer is a broker that has died or does not hear the
/// others. Heartbeats of group members that came on the same connection wait behind the read, and must be answered
/// within the shortest session, `group.min.session.timeout.ms`, which is 6 s: this is a third of it.
pub const READ_WAIT_MS: i64 = 2_000;

/// A broker that has not answered is asked again after this: soon beside the wait of a read, seldom enough for one that
/// refuses connections at once.
const PAUSE_MS: i64 = 100;

/// Names a waiting read to whoever began it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReadToken(pub u64);

/// How a wait ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Confirmed {
    /// Whatever was acknowledged anywhere before the read began is known here.
    Yes,
    /// It is not known whether that is so: another leads, or too few have answered in time.
    No,
}

/// What to ask a broker, on behalf of all reads that are there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    /// Whom.
    pub to: BrokerId,
    /// To be given back with the answer.
    pub number: u64,
    /// In which epoch this broker leads which partitions.
    pub partitions: Vec<(ReplicaKey, LeaderEpoch)>,
}

/// What is to be done now.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Turn {
    /// These reads wait no more.
    pub ended: Vec<(ReadToken, Confirmed)>,
    /// To be sent.
    pub questions: Vec<Question>,
    /// When the next turn is due at the latest; `None` if no read waits.
    pub due: Option<MonotonicTime>,
}

#[derive(Debug)]
struct Read {
    token: ReadToken,
    /// Number of the last question before it.
    since: u64,
    until: MonotonicTime,
}

/// The reads of one partition in one leader epoch, oldest first.
#[derive(Debug, Default)]
struct Reads {
    waiting: VecDeque<Read>,
    /// Number of the last question that a broker confirmed.
    confirmed: BTreeMap<BrokerId, u64>,
    /// Somebody acts by a later epoch.
    is_over: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asked {
    /// That question is on its way.
    Question(u64),
    /// There was no answer.
    Pause(MonotonicTime),
}

/// The waiting reads of one broker. Bounded by the requests of open connections, each of which waits for
/// [`READ_WAIT_MS`] at most; the brokers asked are those that the metadata names.
///
/// How to drive it: [`Self::read`], then [`Self::turn`]; give each question's end to [`Self::answered`] or
/// [`Self::failed`] and take another turn; so also when it is due, and when the metadata has changed.
#[derive(Debug, Default)]
pub struct Confirmations {
    reads: BTreeMap<(ReplicaKey, LeaderEpoch), Reads>,
    asked: BTreeMap<BrokerId, Asked>,
    /// Number of the last question.
    number: u64,
    tokens: u64,
}

impl Confirmations {
    /// Has a read wait for confirmation that this broker still leads in that epoch.
    pub fn read(&mut self, key: ReplicaKey, leader_epoch: LeaderEpoch, now: MonotonicTime) -> ReadToken {
        self.tokens += 1;
        let token = ReadToken(self.tokens);
        let until = MonotonicTime(now.0.saturating_add(READ_WAIT_MS));
        let reads = self.reads.entry((key, leader_epoch)).or_default();
        reads.waiting.push_back(Read { token, since: self.number, until });
        token
    }

    /// What to do now. `witnesses` says whom to ask about a partition that this broker leads in that epoch, `None` if it
    /// does not.
    pub fn turn(
        &mut self,
        now: MonotonicTime,
        witnesses: impl Fn(ReplicaKey, LeaderEpoch) -> Option<Witnesses>,
    ) -> Turn {
        let mut turn = Turn::default();
        let mut wanted: BTreeMap<BrokerId, Vec<(ReplicaKey, LeaderEpoch)>> = BTreeMap::new();
        self.reads.retain(|(key, leader_epoch), reads| {
            let witnesses = witnesses(*key, *leader_epoch).filter(|_| !reads.is_over);
            reads.settle(witnesses.as_ref(), now, &mut turn.ended);
            let (Some(oldest), Some(newest), Some(witnesses)) =
                (reads.waiting.front(), reads.waiting.back(), witnesses)
            else {
                return false;
            };
            turn.due = turn.due.into_iter().chain([oldest.until]).min();
            for broker in &witnesses.others {
                if !reads.has_confirmed(*broker, newest.since) {
                    wanted.entry(*broker).or_default().push((*key, *leader_epoch));
                }
            }
            true
        });
        self.asked.retain(|_, asked| !matches!(asked, Asked::Pause(until) if *until <= now));
        for (to, partitions) in wanted {
            match self.asked.get(&to) {
                None => {
                    self.number += 1;
                    self.asked.insert(to, Asked::Question(self.number));
                    turn.questions.push(Question { to, number: self.number, partitions });
                }
                Some(Asked::Question(_)) => {}
                Some(Asked::Pause(until)) => turn.due = turn.due.into_iter().chain([*until]).min(),
            }
        }
        turn
    }

    /// Takes a broker's answer: by which leader epoch it acts, for each partition that it has a replica of. About others
    /// it is asked again after a pause.
    pub fn answered(&mut self, question: &Question, epochs: &BTreeMap<ReplicaKey, LeaderEpoch>, now: MonotonicTime) {
        if self.asked.get(&question.to) != Some(&Asked::Question(question.number)) {
            return;
        }
        if question.partitions.iter().all(|(key, _)| epochs.contains_key(key)) {
            self.asked.remove(&question.to);
        } else {
            self.failed(question, now);
        }
        for (key, leader_epoch) in &question.partitions {
            let (Some(reads), Some(known)) = (self.reads.get_mut(&(*key, *leader_epoch)), epochs.get(key)) else {
                continue;
            };
            if known > leader_epoch {
                reads.is_over = true;
            } else {
                reads.confirmed.insert(question.to, question.number);
            }
        }
    }

    /// A broker gave no answer, or one of no use: it is asked again after a pause.
    pub fn failed(&mut self, question: &Question, now: MonotonicTime) {
        if self.asked.get(&question.to) == Some(&Asked::Question(question.number)) {
            self.asked.insert(question.to, Asked::Pause(MonotonicTime(now.0.saturating_add(PAUSE_MS))));
        }
    }
}

impl Reads {
    /// Ends the reads that are confirmed, that have waited long enough, or all if there is nobody to ask.
    fn settle(&mut self, witnesses: Option<&Witnesses>, now: MonotonicTime, ended: &mut Vec<(ReadToken, Confirmed)>) {
        while let Some(read) = self.waiting.front() {
            let suffices = |witnesses: &Witnesses| witnesses.suffice(|id| self.has_confirmed(id, read.since));
            let outcome = match witnesses {
                Some(witnesses) if suffices(witnesses) => Confirmed::Yes,
                Some(_) if read.until > now => return,
                Some(_) | None => Confirmed::No,
            };
            ended.push((read.token, outcome));
            self.waiting.pop_front();
        }
    }

    /// Whether the broker has confirmed a question after the one of that number.
    fn has_confirmed(&self, broker: BrokerId, number: u64) -> bool {
        self.confirmed.get(&broker).is_some_and(|confirmed| *confirmed > number)
    }
}

#[cfg(test)]
mod tests;
