// SPDX-License-Identifier: Apache-2.0
//! The metadata node and the broker's life, and the way of everything that the controller has to decide: here, if this
//! broker is the controller, else by a call to whoever is.

use odradek_coordination::quorum;
use odradek_metadata::{
    AlterPartition, AlterPartitionReply, Command, Heartbeat, Image, PartitionKey, RegisterBroker, Reply, Ticket,
};
use odradek_partition::IsrAnswer;
use odradek_replication::{Batch, Proposal, Question, ReplicaKey};
use odradek_runtime::lifecycle::{self, NoHeartbeat, OwnRegistration};
use odradek_runtime::metadata_node::{self as node, Moment};
use odradek_server::controller::{ControllerUnavailable, Decided, HeartbeatAnswer};

use super::fetching::Fetched;
use super::{Exit, Input, Out, Process, Shown};
use crate::cluster::message::{Answer, CallId, Endpoint, Request};
use crate::cluster::profile::Planted;
use std::sync::Arc;

/// How long a broker waits for the controller.
const CONTROLLER_DEADLINE_MS: u64 = 2_000;
/// How long a clean stop waits for the Lease to be given back.
const HAND_OVER_MS: u64 = 5_000;

/// What this broker asked the controller for, or a leader.
#[derive(Debug)]
pub(super) enum Purpose {
    Own(Own),
    /// A client's wish that was passed on.
    Admin(Endpoint, CallId),
    Fetched(Fetched),
    /// Whether nobody leads after this broker.
    Confirmed(Question),
}

/// What this broker wants for itself.
#[derive(Debug)]
pub(super) enum Own {
    Register,
    Heartbeat,
    Propose(Batch),
}

/// Who waits for a decision of this broker's controller.
#[derive(Debug)]
pub(super) enum Asker {
    Own(Own),
    /// Another broker.
    Broker(Endpoint, CallId),
    Client(Endpoint, CallId),
}

/// What the controller is asked.
enum Wish {
    Decide(Command),
    Heartbeat(Heartbeat),
}

/// What it said; `None` if nobody did.
enum Said {
    Decided(Option<Decided>),
    Heartbeat(Option<HeartbeatAnswer>),
}

impl Process {
    /// Inputs that come of the node's own effects wait until those are worked off, as in its thread's queue.
    pub(super) fn tell_node(&mut self, input: node::Input) {
        self.node_inputs.push_back(input);
        if std::mem::replace(&mut self.node_is_busy, true) {
            return;
        }
        while let Some(input) = self.node_inputs.pop_front() {
            let moment = Moment { now_ms: self.now, wall_ms: self.wall_ms(), seed: self.random.number() };
            let effects = self.node.handle(moment, input);
            self.carry_out_for_node(effects);
        }
        self.node_is_busy = false;
    }

    fn carry_out_for_node(&mut self, effects: Vec<node::Effect>) {
        for effect in effects {
            match effect {
                node::Effect::ReadLease(call) => self.out.push(Out::ReadLease(call)),
                node::Effect::WriteLease { call, base, change } => {
                    self.out.push(Out::WriteLease { call, base, change });
                }
                node::Effect::Send(to, message) => {
                    let message = crate::cluster::message::Message::Quorum(message);
                    self.out.push(Out::Send(Endpoint::Broker(to.0 as usize), message));
                }
                node::Effect::ProbeMember(broker) => self.out.push(Out::ProbeMember(broker)),
                node::Effect::ProbeBroker(probe) => self.out.push(Out::ProbeBroker(probe)),
                node::Effect::Publish(image) => self.published(image),
                node::Effect::Reply(ticket, outcome) => self.decided(ticket, outcome),
                node::Effect::HeartbeatReply(ticket, outcome) => self.heartbeat_answered(ticket, outcome),
                node::Effect::OrderIsOver => {}
                node::Effect::Resigned => self.end(),
                node::Effect::Stop(reason) => self.fail(reason),
            }
        }
    }

    fn published(&mut self, image: Arc<Image>) {
        self.out.push(Out::Shown(Shown::Image(Arc::clone(&image))));
        let own = self.own_registration(&image);
        self.newest = image;
        self.tell_life(lifecycle::Input::ImageSeen(own));
        self.take_image_soon();
    }

    /// A thread of its own takes images over; those that come meanwhile are skipped.
    pub(super) fn take_image_soon(&mut self) {
        if self.has_recovered && !self.takes_image && self.newest.end_offset() > self.applied.end_offset() {
            self.takes_image = true;
            let after = if self.random.per_mille(self.image_lag) {
                self.random.between(20, 1_500)
            } else {
                self.random.between(0, 4)
            };
            self.out.push(Out::After(after, Input::TakeImage));
        }
    }

    pub(super) fn take_image(&mut self) {
        self.takes_image = false;
        let newest = Arc::clone(&self.newest);
        self.take_over(&newest, true);
        let own = self.own_registration(&newest);
        self.tell_life(lifecycle::Input::Applied(own));
        self.take_image_soon();
    }

    pub(super) fn recover(&mut self) {
        let newest = Arc::clone(&self.newest);
        self.remove_strays(&newest);
        self.take_over(&newest, false);
        if let Err(error) = self.folder.recovered() {
            self.fail(error.to_string());
        }
        if self.is_over {
            return;
        }
        self.has_recovered = true;
        let found = std::mem::take(&mut self.damaged);
        let damaged = found.iter().map(key_of).collect();
        self.out.push(Out::Shown(Shown::Recovered { opened: self.replicas.keys().copied().collect(), damaged }));
        if self.planted == Some(Planted::DamageForgotten) {
            self.forget_damage(&found);
        }
        if found.is_empty() || self.planted == Some(Planted::DamageNotTold) {
            self.tell_life(lifecycle::Input::Recovered);
        } else {
            self.registration.damaged_logs = found;
            self.tell_life(lifecycle::Input::RecoveredWithDamage);
        }
        let own = self.own_registration(&newest);
        self.tell_life(lifecycle::Input::Applied(own));
        self.take_image_soon();
    }

    /// Later starts do not find these logs damaged any more.
    fn forget_damage(&mut self, told: &[PartitionKey]) {
        for key in told {
            let Some(replica) = self.replicas.get(&key_of(key)) else { continue };
            if let Err(error) = self.folder.damage_is_told(&replica.topic, key.partition) {
                self.fail(error.to_string());
            }
        }
    }

    fn own_registration(&self, image: &Image) -> OwnRegistration {
        OwnRegistration::of(image, &self.registration)
    }

    // === the broker's life ===

    pub(super) fn tell_life(&mut self, input: lifecycle::Input) {
        for effect in self.life.handle(self.now, input) {
            match effect {
                lifecycle::Effect::Register => {
                    let registration: RegisterBroker = self.registration.clone();
                    self.tells_damage = !registration.damaged_logs.is_empty();
                    self.ask_controller(Wish::Decide(Command::RegisterBroker(registration)), Own::Register);
                }
                lifecycle::Effect::Recover => {
                    let after = self.random.between(1, 150);
                    self.out.push(Out::After(after, Input::Recover));
                }
                lifecycle::Effect::Heartbeat(heartbeat) => {
                    self.ask_controller(Wish::Heartbeat(heartbeat), Own::Heartbeat);
                }
                lifecycle::Effect::Serve => self.serves = true,
                lifecycle::Effect::MayStop => {
                    self.is_ending = true;
                    self.serves = false;
                    self.out.push(Out::After(HAND_OVER_MS, Input::HandOverTakesTooLong));
                    self.tell_node(node::Input::Quorum(quorum::Input::Resign));
                }
                lifecycle::Effect::Fail(error) => self.fail(format!("the registration: {error}")),
            }
        }
    }

    /// Closes the logs and says so on the disk; the process is over.
    pub(super) fn end(&mut self) {
        if !self.is_ending || self.is_over {
            return;
        }
        if let Err(reason) = self.close_logs() {
            self.fail(reason);
            return;
        }
        self.is_over = true;
        self.out.push(Out::Exit(Exit::Clean));
    }

    // === the controller ===

    pub(super) fn ask_for_isr(&mut self, command: AlterPartition, own: Own) {
        self.ask_controller(Wish::Decide(Command::AlterPartition(command)), own);
    }

    fn ask_controller(&mut self, wish: Wish, own: Own) {
        if self.node.leads() {
            let ticket = self.number();
            self.asked.insert(ticket, Asker::Own(own));
            match wish {
                Wish::Decide(command) => self.tell_node(node::Input::Command(ticket, command)),
                Wish::Heartbeat(heartbeat) => self.tell_node(node::Input::Heartbeat(ticket, heartbeat)),
            }
            return;
        }
        let controller = self.node.member().controller.holder.map(|holder| holder.broker_id);
        if let Some(controller) = controller.filter(|controller| *controller != self.id) {
            let request = match wish {
                Wish::Decide(command) => Request::Decide(command),
                Wish::Heartbeat(heartbeat) => Request::Heartbeat(heartbeat),
            };
            self.call(controller, request, Purpose::Own(own), CONTROLLER_DEADLINE_MS);
        } else {
            let said = match wish {
                Wish::Decide(_) => Said::Decided(None),
                Wish::Heartbeat(_) => Said::Heartbeat(None),
            };
            self.said(own, said);
        }
    }

    /// What comes to this broker as the controller.
    pub(super) fn asked_to_decide(&mut self, asker: Asker, command: Command) {
        let ticket = self.number();
        self.asked.insert(ticket, asker);
        self.tell_node(node::Input::Command(ticket, command));
    }

    pub(super) fn asked_for_a_beat(&mut self, from: Endpoint, call: CallId, heartbeat: Heartbeat) {
        let ticket = self.number();
        self.asked.insert(ticket, Asker::Broker(from, call));
        self.tell_node(node::Input::Heartbeat(ticket, heartbeat));
    }

    /// Any broker takes an administrator's wish, and passes it on if it is not the controller.
    pub(super) fn asked_by_admin(&mut self, from: Endpoint, call: CallId, command: Command) {
        if self.node.leads() {
            self.asked_to_decide(Asker::Client(from, call), command);
            return;
        }
        let controller = self.node.member().controller.holder.map(|holder| holder.broker_id);
        match controller.filter(|controller| *controller != self.id && self.serves) {
            Some(controller) => {
                let purpose = Purpose::Admin(from, call);
                self.call(controller, Request::Decide(command), purpose, CONTROLLER_DEADLINE_MS);
            }
            None => self.answer(from, call, Answer::Admin(None)),
        }
    }

    fn decided(&mut self, ticket: Ticket, outcome: Result<Decided, ControllerUnavailable>) {
        match self.asked.remove(&ticket) {
            Some(Asker::Own(own)) => self.said(own, Said::Decided(outcome.ok())),
            Some(Asker::Broker(from, call)) => self.answer(from, call, Answer::Decided(outcome)),
            Some(Asker::Client(from, call)) => {
                self.answer(from, call, Answer::Admin(outcome.ok().map(|decided| decided.reply)));
            }
            None => {}
        }
    }

    fn heartbeat_answered(&mut self, ticket: Ticket, outcome: Result<HeartbeatAnswer, ControllerUnavailable>) {
        match self.asked.remove(&ticket) {
            Some(Asker::Own(own)) => self.said(own, Said::Heartbeat(outcome.ok())),
            Some(Asker::Broker(from, call)) => self.answer(from, call, Answer::Heartbeat(outcome)),
            Some(Asker::Client(..)) | None => {}
        }
    }

    pub(super) fn returned(&mut self, call: CallId, answer: Answer) {
        let purpose = self.calls.remove(&call);
        // Rule 11: an answer of a controller below the highest that this broker has heard of does not count.
        let highest = self.node.member().controller.epoch;
        match (purpose, answer) {
            (Some(Purpose::Own(own)), Answer::Decided(outcome)) => {
                let decided = outcome.ok().filter(|decided| decided.epoch >= highest);
                self.said(own, Said::Decided(decided));
            }
            (Some(Purpose::Own(own)), Answer::Heartbeat(outcome)) => {
                self.said(own, Said::Heartbeat(outcome.ok().filter(|(epoch, _)| *epoch >= highest)));
            }
            (Some(Purpose::Admin(from, call)), Answer::Decided(outcome)) => {
                let reply = outcome.ok().filter(|decided| decided.epoch >= highest).map(|decided| decided.reply);
                self.answer(from, call, Answer::Admin(reply));
            }
            (Some(Purpose::Confirmed(question)), Answer::Leaderships(epochs)) => {
                self.confirmed(&question, Some(&epochs));
            }
            (Some(Purpose::Fetched(fetched)), answer) => self.leader_answered(call, Some(fetched), answer),
            // Late answers go to those whom they concern all the same: they have to know them for what they are.
            (None, answer) => self.leader_answered(call, None, answer),
            (Some(_), answer) => unreachable!("{answer:?} is no answer to what was asked"),
        }
    }

    pub(super) fn call_failed(&mut self, call: CallId) {
        match self.calls.remove(&call) {
            Some(Purpose::Own(Own::Heartbeat)) => self.said(Own::Heartbeat, Said::Heartbeat(None)),
            Some(Purpose::Own(own)) => self.said(own, Said::Decided(None)),
            Some(Purpose::Admin(from, call)) => self.answer(from, call, Answer::Admin(None)),
            Some(Purpose::Fetched(fetched)) => self.leader_failed(call, &fetched),
            Some(Purpose::Confirmed(question)) => self.confirmed(&question, None),
            None => {}
        }
    }

    fn said(&mut self, own: Own, said: Said) {
        match (own, said) {
            (Own::Register, Said::Decided(decided)) => {
                let outcome = decided.and_then(|decided| match decided.reply {
                    Reply::RegisterBroker(outcome) => Some(outcome),
                    _ => None,
                });
                if matches!(outcome, Some(Ok(_))) && self.tells_damage {
                    // Before these replicas can be in sync again. Told once: later they may be whole.
                    let told = std::mem::take(&mut self.registration.damaged_logs);
                    self.forget_damage(&told);
                    self.out.push(Out::Shown(Shown::DamageTold(told.iter().map(key_of).collect())));
                }
                self.tell_life(lifecycle::Input::Registered(outcome));
            }
            (Own::Heartbeat, Said::Heartbeat(answer)) => {
                let answer = match answer {
                    Some((_, Ok(reply))) => Ok(reply),
                    Some((_, Err(_))) => Err(NoHeartbeat::Stale),
                    None => Err(NoHeartbeat::Unanswered),
                };
                self.tell_life(lifecycle::Input::HeartbeatAnswered(answer));
            }
            (Own::Propose(batch), Said::Decided(decided)) => {
                let reply = decided.and_then(|decided| match decided.reply {
                    Reply::AlterPartition(reply) => Some(reply),
                    _ => None,
                });
                self.proposals_answered(batch, reply);
            }
            _ => unreachable!("an answer to another question"),
        }
    }

    pub(super) fn proposals_answered(&mut self, batch: Batch, reply: Option<AlterPartitionReply>) {
        self.proposals.finished();
        for (Proposal { key, change }, answer) in batch.answers(reply) {
            if answer == IsrAnswer::Refused {
                self.out.push(Out::Shown(Shown::Refused(key, change.clone())));
            }
            if let Some(replica) = self.replicas.get_mut(&key) {
                let effects = replica.partition.isr_answered(&change, answer);
                self.carry_out(key, effects);
            }
        }
    }
}

fn key_of(key: &PartitionKey) -> ReplicaKey {
    ReplicaKey { topic: key.topic, partition: key.partition }
}
