// SPDX-License-Identifier: Apache-2.0
//! Searching histories: all of them up to a length, or long ones at random by seed. A history that breaks a property
//! is told step by step.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};

use super::cluster::{Action, Cluster, Setup};
use super::properties::{check_healed, check_step};

/// A history that breaks a property.
#[derive(Debug)]
pub(super) struct Violation {
    pub(super) what: String,
    pub(super) history: Vec<Action>,
}

/// What a search came to.
#[derive(Debug, Default)]
pub(super) struct Searched {
    pub(super) violation: Option<Violation>,
    /// Different moments seen.
    pub(super) moments: usize,
    /// Steps taken.
    pub(super) steps: usize,
    /// Whether all histories up to the length were seen.
    pub(super) complete: bool,
}

struct Search {
    /// Of each moment, how many steps were searched from it on.
    seen: HashMap<u64, u8, BuildHasherDefault<DefaultHasher>>,
    history: Vec<Action>,
    steps: usize,
    steps_max: usize,
}

/// Searches all histories of up to `length` steps after `prefix`, but no more than `steps_max` steps in all.
pub(super) fn search_all(setup: &Setup, prefix: &[Action], length: u8, steps_max: usize) -> Searched {
    let mut search = Search { seen: HashMap::default(), history: Vec::new(), steps: 0, steps_max };
    let mut cluster = Cluster::new(setup);
    let mut violation = None;
    for action in prefix {
        search.history.push(*action);
        assert!(cluster.actions().contains(action), "{action:?} cannot happen after {:?}", search.history);
        match step(&cluster, *action) {
            Ok(next) => cluster = next,
            Err(what) => {
                violation = Some(what);
                break;
            }
        }
    }
    // Ever longer ones, so that what is found is short.
    for length in 1..=length {
        if violation.is_some() || search.steps >= steps_max {
            break;
        }
        search.seen.clear();
        violation = search.from(&cluster, length).err();
    }
    let violation = violation.map(|what| Violation { what, history: search.history.clone() });
    let complete = search.steps < steps_max;
    Searched { violation, moments: search.seen.len(), steps: search.steps, complete }
}

fn step(cluster: &Cluster, action: Action) -> Result<Cluster, String> {
    let mut next = cluster.clone();
    next.apply(action);
    check_step(cluster, &mut next)?;
    Ok(next)
}

impl Search {
    fn from(&mut self, cluster: &Cluster, length: u8) -> Result<(), String> {
        let searched = self.seen.entry(cluster.fingerprint()).or_insert(0);
        if *searched >= length {
            return Ok(());
        }
        *searched = length;
        for action in cluster.actions() {
            if self.steps >= self.steps_max {
                return Ok(());
            }
            self.steps += 1;
            self.history.push(action);
            let next = step(cluster, action)?;
            if length > 1 {
                self.from(&next, length - 1)?;
            }
            self.history.pop();
        }
        Ok(())
    }
}

/// Numbers that look random and are the same for the same seed (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

/// How often one thing is chosen among others: most of the time things go on as they should.
fn weight(action: Action) -> usize {
    match action {
        Action::ServeFetch(_) | Action::TakeAnswer(_) | Action::SendFetch(_) => 12,
        Action::Hear(_)
        | Action::HearNewest(_)
        | Action::ServeIsrChange(_)
        | Action::TakeIsrAnswer(_)
        | Action::Unfence(_) => 8,
        Action::Append(_) | Action::Restart(_) => 6,
        Action::Tick(_) | Action::TakeLateAnswer(_) | Action::ServeOldFetch(_) => 3,
        Action::LagTimePasses
        | Action::HearAgain(_)
        | Action::LoseAnswer(_)
        | Action::DelayAnswer(_)
        | Action::GiveUpIsrChange(_)
        | Action::LoseIsrAnswer(_)
        | Action::Kill(_)
        | Action::RestartAfterPowerLoss(_)
        | Action::Fence(_)
        | Action::MoveLeader(_) => 2,
    }
}

/// One history: `prefix`, then `length` steps by seed; then all trouble ends and everything must come right again.
pub(super) fn walk(setup: &Setup, prefix: &[Action], seed: u64, length: usize) -> Searched {
    let mut numbers = Numbers(seed);
    let mut cluster = Cluster::new(setup);
    let mut history = prefix.to_vec();
    let mut steps = 0;
    for action in prefix {
        cluster = step(&cluster, *action).expect("the search begins after what is good");
    }
    let violation = loop {
        if steps == length {
            cluster.heal();
            break check_healed(&cluster).err();
        }
        let actions = cluster.actions();
        let mut at = numbers.below(actions.iter().map(|action| weight(*action)).sum());
        let chosen = actions.into_iter().find(|action| {
            let chosen = at < weight(*action);
            at = at.saturating_sub(weight(*action));
            chosen
        });
        let action = chosen.expect("the number is below the sum of weights");
        history.push(action);
        steps += 1;
        match step(&cluster, action) {
            Ok(next) => cluster = next,
            Err(what) => break Some(what),
        }
    };
    let violation = violation.map(|what| Violation { what: format!("seed {seed}: {what}"), history });
    Searched { violation, moments: steps, steps, complete: false }
}
