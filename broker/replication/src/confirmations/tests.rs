// SPDX-License-Identifier: Apache-2.0
//! Reads and answers in made-up time and in every order that matters.

use super::*;
use crate::scenarios::key;

const EPOCH: LeaderEpoch = 4;
const FIRST: BrokerId = BrokerId(1);
const SECOND: BrokerId = BrokerId(2);

/// One partition that this broker leads, with two others.
struct World {
    confirmations: Confirmations,
    witnesses: Option<Witnesses>,
    now: MonotonicTime,
}

impl World {
    /// `count` of both suffice; the ISR does not.
    fn new(count: usize) -> Self {
        let witnesses = Witnesses { others: vec![FIRST, SECOND], in_sync: None, count };
        Self { confirmations: Confirmations::default(), witnesses: Some(witnesses), now: MonotonicTime(1_000) }
    }

    fn read(&mut self) -> ReadToken {
        self.confirmations.read(key(1, 0), EPOCH, self.now)
    }

    fn turn(&mut self) -> Turn {
        self.confirmations.turn(self.now, |_, _| self.witnesses.clone())
    }

    /// The questions of a turn that ends no read.
    fn questions(&mut self) -> Vec<Question> {
        let turn = self.turn();
        assert_eq!(turn.ended, []);
        turn.questions
    }

    fn ended(&mut self) -> Vec<(ReadToken, Confirmed)> {
        self.turn().ended
    }

    fn answer(&mut self, question: &Question, epoch: LeaderEpoch) {
        let epochs = question.partitions.iter().map(|(key, _)| (*key, epoch)).collect();
        self.confirmations.answered(question, &epochs, self.now);
    }
}

fn to(questions: &[Question]) -> Vec<BrokerId> {
    questions.iter().map(|question| question.to).collect()
}

#[test]
fn a_read_goes_on_when_enough_have_confirmed() {
    let mut world = World::new(1);
    let read = world.read();
    let questions = world.questions();
    assert_eq!(to(&questions), [FIRST, SECOND]);
    assert_eq!(questions[0].partitions, [(key(1, 0), EPOCH)]);
    world.answer(&questions[1], EPOCH);
    assert_eq!(world.ended(), [(read, Confirmed::Yes)]);
    assert_eq!(world.turn(), Turn::default(), "nobody waits");
    world.answer(&questions[0], EPOCH);
    assert_eq!(world.turn(), Turn::default());
}

#[test]
fn a_replica_that_has_not_heard_of_this_reign_confirms_too() {
    let mut world = World::new(1);
    let read = world.read();
    let questions = world.questions();
    world.answer(&questions[0], EPOCH - 1);
    assert_eq!(world.ended(), [(read, Confirmed::Yes)]);
}

#[test]
fn an_answer_counts_for_reads_before_its_question_alone() {
    let mut world = World::new(2);
    let first = world.read();
    let before = world.questions();
    let second = world.read();
    assert_eq!(world.questions(), [], "one question at a time is on its way to a broker");
    world.answer(&before[0], EPOCH);
    let again = world.questions();
    assert_eq!(to(&again), [FIRST]);
    world.answer(&before[1], EPOCH);
    let turn = world.turn();
    assert_eq!((turn.ended, to(&turn.questions)), (vec![(first, Confirmed::Yes)], vec![SECOND]));
    world.answer(&again[0], EPOCH);
    assert_eq!(world.questions(), []);
    world.answer(&turn.questions[0], EPOCH);
    assert_eq!(world.ended(), [(second, Confirmed::Yes)]);
}

#[test]
fn many_reads_share_a_question() {
    let mut world = World::new(1);
    world.read();
    let questions = world.questions();
    let others = [world.read(), world.read(), world.read()];
    world.answer(&questions[0], EPOCH);
    let turn = world.turn();
    assert_eq!((turn.ended.len(), to(&turn.questions)), (1, vec![FIRST]));
    world.answer(&turn.questions[0], EPOCH);
    assert_eq!(world.ended(), others.map(|read| (read, Confirmed::Yes)));
}

#[test]
fn a_later_epoch_ends_the_wait_at_once() {
    let mut world = World::new(2);
    let read = world.read();
    let questions = world.questions();
    world.answer(&questions[0], EPOCH + 1);
    assert_eq!(world.ended(), [(read, Confirmed::No)]);
}

#[test]
fn who_leads_no_more_reads_no_more() {
    let mut world = World::new(1);
    let read = world.read();
    world.questions();
    world.witnesses = None;
    assert_eq!(world.ended(), [(read, Confirmed::No)]);
}

#[test]
fn silence_ends_the_wait_after_its_time() {
    let mut world = World::new(1);
    let first = world.read();
    let turn = world.turn();
    assert_eq!((turn.ended, turn.due), (vec![], Some(MonotonicTime(1_000 + READ_WAIT_MS))));
    world.now.0 += READ_WAIT_MS - 1;
    let second = world.read();
    assert_eq!(world.turn().ended, []);
    world.now.0 += 1;
    let turn = world.turn();
    assert_eq!((turn.ended, turn.due), (vec![(first, Confirmed::No)], Some(MonotonicTime(999 + 2 * READ_WAIT_MS))));
    world.now.0 += READ_WAIT_MS;
    assert_eq!(world.ended(), [(second, Confirmed::No)]);
}

#[test]
fn who_fails_is_asked_again_after_a_pause() {
    let mut world = World::new(2);
    let read = world.read();
    let questions = world.questions();
    world.answer(&questions[0], EPOCH);
    world.confirmations.failed(&questions[1], world.now);
    let turn = world.turn();
    assert_eq!((turn.questions, turn.due), (vec![], Some(MonotonicTime(1_000 + PAUSE_MS))));
    world.now.0 += PAUSE_MS;
    let again = world.questions();
    assert_eq!(to(&again), [SECOND], "the other one has confirmed");
    // What was said late of the first question means nothing.
    world.answer(&questions[1], EPOCH + 1);
    assert_eq!(world.questions(), []);
    // It has no replica yet.
    world.confirmations.answered(&again[0], &BTreeMap::new(), world.now);
    assert_eq!(world.questions(), []);
    world.now.0 += PAUSE_MS;
    let again = world.questions();
    world.answer(&again[0], EPOCH);
    assert_eq!(world.ended(), [(read, Confirmed::Yes)]);
}

#[test]
fn who_has_left_the_isr_is_not_waited_for() {
    let mut world = World::new(9);
    let in_sync =
        |ids: &[BrokerId]| Some(Witnesses { others: vec![FIRST, SECOND], in_sync: Some(ids.to_vec()), count: 9 });
    world.witnesses = in_sync(&[FIRST, SECOND]);
    let read = world.read();
    let questions = world.questions();
    world.answer(&questions[0], EPOCH);
    assert_eq!(world.ended(), []);
    world.witnesses = in_sync(&[FIRST]);
    assert_eq!(world.ended(), [(read, Confirmed::Yes)]);
}

#[test]
fn partitions_share_the_questions_and_nothing_else() {
    let mut world = World::new(1);
    let first = world.confirmations.read(key(1, 0), EPOCH, world.now);
    let second = world.confirmations.read(key(1, 1), EPOCH, world.now);
    let questions = world.questions();
    assert_eq!(questions[0].partitions, [(key(1, 0), EPOCH), (key(1, 1), EPOCH)]);
    let epochs = BTreeMap::from([(key(1, 0), EPOCH + 1), (key(1, 1), EPOCH)]);
    world.confirmations.answered(&questions[0], &epochs, world.now);
    assert_eq!(world.ended(), [(first, Confirmed::No), (second, Confirmed::Yes)]);
}
