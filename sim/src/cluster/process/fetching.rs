// SPDX-License-Identifier: Apache-2.0
//! What this broker follows: the real fetchers, their requests, and what their answers do to replicas. As
//! `replication/fetching.rs` in the server does it.

use std::collections::BTreeSet;

use odradek_partition::{FetchAnswer, FollowerStep, MonotonicTime};
use odradek_replication::{
    Fetch, FetchSettings, Fetcher, FetcherId, FollowEffect, Next, Outcome, ReplicaKey, Throttle,
};

use super::Process;
use super::control::Purpose;
use crate::cluster::message::{Answer, CallId, Replicate, Request};

/// `num.replica.fetchers`.
pub(super) const LANES: u8 = 1;
/// Beyond the wait that was asked for. The server waits 30 s; less lets more happen in a run.
const ANSWER_MS: u64 = 4_000;

/// What a call was for.
#[derive(Clone, Debug)]
pub(super) struct Fetched {
    id: FetcherId,
    turn: Turn,
    asks: Asks,
}

#[derive(Clone, Debug)]
enum Asks {
    Records(Vec<odradek_replication::Ask<odradek_partition::FetchPlan>>),
    Offsets(Vec<odradek_replication::Ask<odradek_partition::OffsetsPlan>>),
}

/// For whom a request is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Turn {
    All,
    Newcomers,
}

/// A fetcher and its requests.
#[derive(Debug)]
pub(super) struct RunningFetcher {
    fetcher: Fetcher,
    /// By turn.
    calls: [BTreeSet<CallId>; 2],
    /// When there may be something to ask, by turn.
    due: [Option<MonotonicTime>; 2],
}

impl RunningFetcher {
    pub(super) fn wake_at(&self) -> Option<u64> {
        let due = |turn: usize| self.due[turn].filter(|_| self.calls[turn].is_empty());
        due(0).into_iter().chain(due(1)).map(|due| due.0.max(0) as u64).min()
    }

    fn wake(&mut self, now: MonotonicTime) {
        self.due = [Some(now); 2];
    }
}

impl Process {
    /// Has a partition fetched by who is to fetch it now, after its replica has taken what the metadata says.
    pub(super) fn follow(&mut self, key: ReplicaKey, wanted: Option<FetcherId>, is_news: bool) {
        let now = self.monotonic();
        for effect in self.following.follow(key, wanted, is_news) {
            let (FollowEffect::Begin { id, .. }
            | FollowEffect::Add { id, .. }
            | FollowEffect::Remove { id, .. }
            | FollowEffect::Throttle { id, .. }
            | FollowEffect::End(id)) = effect;
            if let FollowEffect::Begin { rate, .. } = effect {
                let fetcher = Fetcher::new(id, FetchSettings::default(), rate.map(|rate| Throttle::new(rate, now)));
                let calls = [BTreeSet::new(), BTreeSet::new()];
                self.fetchers.insert(id, RunningFetcher { fetcher, calls, due: [None, None] });
            }
            let Some(running) = self.fetchers.get_mut(&id) else { continue };
            match effect {
                FollowEffect::Begin { key, .. } | FollowEffect::Add { key, .. } => running.fetcher.add(key),
                FollowEffect::Remove { key, .. } => running.fetcher.remove(key),
                FollowEffect::Throttle { rate, .. } => running.fetcher.set_throttle(rate, now),
                FollowEffect::End(_) => {
                    self.fetchers.remove(&id);
                    continue;
                }
            }
            running.wake(now);
        }
    }

    /// The disk has done what a partition waited for.
    pub(super) fn fetch_on(&mut self, key: ReplicaKey) {
        let now = self.monotonic();
        if let Some(running) = self.following.fetcher(key).and_then(|id| self.fetchers.get_mut(&id)) {
            running.fetcher.ready(key);
            running.wake(now);
        }
    }

    /// Sends what is to be asked now; whether anything was.
    pub(super) fn ask_leaders(&mut self) -> bool {
        let now = self.monotonic();
        let mut any = false;
        let is_due = |running: &RunningFetcher| running.wake_at().is_some_and(|at| at <= self.now);
        let ids: Vec<_> = self.fetchers.iter().filter(|(_, running)| is_due(running)).map(|(id, _)| *id).collect();
        for id in ids {
            for turn in [Turn::All, Turn::Newcomers] {
                let Some(running) = self.fetchers.get_mut(&id) else { continue };
                let place = turn as usize;
                if !running.calls[place].is_empty() || running.due[place].is_none_or(|due| due > now) {
                    continue;
                }
                let replicas = &mut self.replicas;
                let step = |key| replicas.get_mut(&key).map_or(FollowerStep::Nothing, |r| r.partition.next_step());
                let next = match turn {
                    Turn::All => running.fetcher.next(now, step),
                    Turn::Newcomers => running.fetcher.next_of_newcomers(now, step),
                };
                running.due[place] = None;
                match next {
                    Next::Wait(until) => running.due[place] = until,
                    // Leaders keep no sessions here: each request names all that it asks for.
                    Next::Ask { offsets, fetch } => {
                        any = true;
                        let mut calls = BTreeSet::new();
                        if !offsets.is_empty() {
                            let request = Request::LeaderOffsets(offsets.clone());
                            let fetched = Fetched { id, turn, asks: Asks::Offsets(offsets) };
                            calls.insert(self.call(id.leader, request, Purpose::Fetched(fetched), ANSWER_MS));
                        }
                        if let Some(Fetch { named, wait_ms, request_bytes, .. }) = fetch {
                            let broker_epoch = self.applied.broker(self.id).map_or(-1, |own| own.epoch);
                            let (from, asks) = (self.id, named.clone());
                            let request =
                                Request::Replicate(Replicate { from, broker_epoch, wait_ms, request_bytes, asks });
                            let fetched = Fetched { id, turn, asks: Asks::Records(named) };
                            let deadline = ANSWER_MS + wait_ms.max(0) as u64;
                            calls.insert(self.call(id.leader, request, Purpose::Fetched(fetched), deadline));
                        }
                        if let Some(running) = self.fetchers.get_mut(&id) {
                            running.calls[place] = calls;
                        }
                    }
                }
            }
        }
        any
    }

    fn call_is_over(&mut self, call: CallId, fetched: &Fetched) {
        let now = self.monotonic();
        if let Some(running) = self.fetchers.get_mut(&fetched.id) {
            running.calls[fetched.turn as usize].remove(&call);
            running.due[fetched.turn as usize] = Some(now);
        }
    }

    /// `fetched` is `None` for an answer that nobody waits for any more.
    pub(super) fn leader_answered(&mut self, call: CallId, fetched: Option<Fetched>, answer: Answer) {
        let now = self.monotonic();
        match answer {
            Answer::Replicate(answers) => {
                for (ask, answer) in answers {
                    let outcome = match answer {
                        Some(answer) => self.take_fetched(ask.key, &ask.plan, answer),
                        None => Outcome::Failed { bytes: 0 },
                    };
                    if let Some(running) = fetched.as_ref().and_then(|fetched| self.fetchers.get_mut(&fetched.id)) {
                        running.fetcher.answered(ask.key, ask.plan.number, outcome, now);
                    }
                }
            }
            Answer::LeaderOffsets(answers) => {
                for (ask, answer) in answers {
                    let wall_ms = self.wall_ms();
                    let mut outcome = Outcome::Failed { bytes: 0 };
                    if let Some((offsets, replica)) = answer.zip(self.replicas.get_mut(&ask.key)) {
                        let (effects, result) = replica.partition.offsets_answered(&ask.plan, offsets, wall_ms);
                        if result.is_ok() {
                            outcome = Outcome::Taken { bytes: 0 };
                        }
                        self.carry_out(ask.key, effects);
                        self.check_log(ask.key);
                    }
                    if let Some(running) = fetched.as_ref().and_then(|fetched| self.fetchers.get_mut(&fetched.id)) {
                        running.fetcher.answered(ask.key, ask.plan.number, outcome, now);
                    }
                }
            }
            _ => {}
        }
        if let Some(fetched) = fetched {
            self.call_is_over(call, &fetched);
        }
    }

    fn take_fetched(&mut self, key: ReplicaKey, plan: &odradek_partition::FetchPlan, answer: FetchAnswer) -> Outcome {
        let wall_ms = self.wall_ms();
        let bytes = if let FetchAnswer::Records { records, .. } = &answer { records.len() } else { 0 };
        let Some(replica) = self.replicas.get_mut(&key) else { return Outcome::Failed { bytes } };
        let (effects, result) = replica.partition.fetch_answered(plan, answer, wall_ms);
        self.carry_out(key, effects);
        self.check_log(key);
        if result.is_ok() { Outcome::Taken { bytes } } else { Outcome::Failed { bytes } }
    }

    pub(super) fn leader_failed(&mut self, call: CallId, fetched: &Fetched) {
        let now = self.monotonic();
        if let Some(running) = self.fetchers.get_mut(&fetched.id) {
            let failed = Outcome::Failed { bytes: 0 };
            match &fetched.asks {
                Asks::Records(asks) => {
                    for ask in asks {
                        running.fetcher.answered(ask.key, ask.plan.number, failed, now);
                    }
                }
                Asks::Offsets(asks) => {
                    for ask in asks {
                        running.fetcher.answered(ask.key, ask.plan.number, failed, now);
                    }
                }
            }
        }
        self.call_is_over(call, fetched);
    }
}
