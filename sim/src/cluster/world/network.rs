// SPDX-License-Identifier: Apache-2.0
//! Links and what travels on them: messages come soon, late, out of order or never, and calls end with an answer, with a
//! broken connection or at their deadline. Must not know why a link is cut.

use odradek_coordination::quorum;
use odradek_groups::Request as GroupRequest;
use odradek_model::BrokerId;

use super::{Calling, Event, Machine, World};
use crate::cluster::message::{Answer, CallId, Endpoint, Message, Request};
use crate::cluster::process::Input;
use crate::cluster::tally::Happening;

impl World {
    pub(in crate::cluster) fn is_cut(&self, from: Endpoint, to: Endpoint) -> bool {
        self.cut.contains(&(from, to))
    }

    pub(super) fn call(
        &mut self,
        caller: Endpoint,
        boot: u64,
        callee: usize,
        call: CallId,
        request: Request,
        deadline_ms: u64,
    ) {
        self.calls.insert(call, Calling { caller, boot, callee });
        let stale = if self.healed { 0 } else { self.profile.stale_fetches };
        if matches!(request, Request::Replicate(_)) && self.random.per_mille(stale) {
            // The follower's connection breaks, and it fetches on another; what it has sent is read all the same, later.
            self.tally.note(Happening::StaleFetch);
            let (breaks, arrives) = (self.random.between(1, 5), self.random.between(20, 4_000));
            self.schedule(breaks, Event::CallFails { call });
            let (to, message) = (Endpoint::Broker(callee), Message::Call(call, request));
            self.schedule(arrives, Event::Deliver { from: caller, from_boot: boot, to, message });
            return;
        }
        self.schedule(deadline_ms, Event::CallFails { call });
        self.send(caller, boot, Endpoint::Broker(callee), Message::Call(call, request));
    }

    pub(super) fn send(&mut self, from: Endpoint, from_boot: u64, to: Endpoint, message: Message) {
        let (loss, delay) = if self.healed { (0, 0) } else { (self.profile.loss, self.profile.delay) };
        if self.random.per_mille(loss) {
            self.tally.note(Happening::MessageLost);
            self.lost(&message);
            return;
        }
        let (soonest, latest) = self.profile.latency_ms;
        let after = if self.random.per_mille(delay) {
            self.random.between(30, 5_000)
        } else {
            self.random.between(soonest, latest)
        };
        self.schedule(after, Event::Deliver { from, from_boot, to, message });
    }

    /// The connection of a lost message breaks, sooner or later.
    fn lost(&mut self, message: &Message) {
        if let Message::Call(call, _) | Message::Return(call, _) = message {
            let after = self.random.between(1, 1_500);
            self.schedule(after, Event::CallFails { call: *call });
        }
    }

    pub(super) fn deliver(&mut self, from: Endpoint, from_boot: u64, to: Endpoint, message: Message) {
        if self.is_cut(from, to) {
            self.lost(&message);
            return;
        }
        match to {
            // One that a stranger named in the Lease is no machine.
            Endpoint::Broker(id) if self.machines.get(id).is_some_and(Machine::is_running) => {
                let boot = self.machines[id].boot;
                let input = match message {
                    Message::Quorum(message) => Input::Quorum(quorum::Input::Received(message)),
                    Message::Call(call, request) => Input::Called(from, call, request),
                    Message::Return(call, answer) => match self.calls.remove(&call) {
                        Some(calling) if calling.boot == boot => Input::Returned(call, answer),
                        // Nobody waits for it any more; some of those who might take it all the same are there.
                        None if call >> 40 == boot && matches!(answer, Answer::Replicate(_)) => {
                            Input::Returned(call, answer)
                        }
                        _ => return,
                    },
                };
                self.give(id, boot, input);
            }
            Endpoint::Broker(id) => {
                if self.is_cut(to, from) {
                    self.lost(&message);
                    return;
                }
                if let Endpoint::Broker(sender) = from
                    && self.machines[sender].boot == from_boot
                {
                    let input = Input::ConnectionLost(BrokerId(id as i32));
                    self.schedule(1, Event::Input { broker: sender, boot: from_boot, input });
                }
                if let Message::Call(call, _) = message {
                    self.schedule(1, Event::CallFails { call });
                }
            }
            Endpoint::Client(client) => {
                if let Message::Return(call, answer) = message
                    && let Some(calling) = self.calls.remove(&call)
                {
                    let outs = self.clients[client].returned(self.now, calling.callee, call, answer);
                    self.carry_out_for_client(client, outs);
                }
            }
        }
    }

    /// A broker reads a commit from a connection that its client has given up.
    pub(super) fn note_late_commit(&mut self, input: &Input) {
        if let Input::Called(Endpoint::Client(client), call, Request::Group(_, GroupRequest::Commit(commit))) = input
            && !self.calls.contains_key(call)
        {
            self.tally.note(Happening::LateCommit);
            for partition in commit.topics.iter().flat_map(|topic| &topic.partitions) {
                let offset = partition.offset;
                self.tell(|| format!("client {client} had given up its commit of {offset}, which is read now"));
                self.oracle.groups.came_late(*client, offset);
            }
        }
    }

    pub(super) fn call_fails(&mut self, call: CallId) {
        let Some(calling) = self.calls.remove(&call) else { return };
        match calling.caller {
            Endpoint::Broker(id) => self.give(id, calling.boot, Input::CallFailed(call)),
            Endpoint::Client(client) => {
                let outs = self.clients[client].failed(self.now, call);
                self.carry_out_for_client(client, outs);
            }
        }
    }
}
