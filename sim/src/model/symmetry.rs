// SPDX-License-Identifier: Apache-2.0
//! States that differ only in the names of brokers are searched once. No rule looks at a name, so whatever can happen in
//! one of them can happen in the others with other names.
//!
//! Brokers are ordered by what they look like without names. Brokers that look the same keep their order: then two states
//! that differ in names alone may both be searched, which costs time and misses nothing.

use super::state::{Lease, Log, Names, Needs, Role, State, Voters};
use super::{Bounds, MAX_BROKERS};

/// The state with brokers in an order that does not depend on their names.
pub(super) fn canonical(state: State, bounds: &Bounds) -> State {
    if bounds.dead != 0 {
        return state; // those that are dead differ from others by their names
    }
    let mut looks = [0; MAX_BROKERS];
    let alone: [u64; MAX_BROKERS] = std::array::from_fn(|broker| look_alone(&state, broker));
    for (broker, look) in looks[..bounds.brokers].iter_mut().enumerate() {
        *look = alone[broker];
        // Brokers of which others think the same look the same, whatever the order of those others.
        let of_others = (0..bounds.brokers).filter(|other| *other != broker);
        *look = mix(
            *look,
            of_others.fold(0, |sum: u64, other| sum.wrapping_add(seen_by(&state, other, broker, alone[other]))),
        );
    }
    let mut order: [usize; MAX_BROKERS] = std::array::from_fn(|broker| broker);
    order[..bounds.brokers].sort_by_key(|broker| looks[*broker]);
    let mut names: Names = [0; MAX_BROKERS];
    for (name, broker) in order.into_iter().enumerate() {
        names[broker] = name as u8;
    }
    state.renamed(names)
}

fn mix(hash: u64, word: u64) -> u64 {
    let product = u128::from(hash ^ word).wrapping_mul(0x9fb2_1c65_1e98_df25_a076_1d64_78bd_642f);
    (product as u64) ^ ((product >> 64) as u64) ^ hash.rotate_left(23)
}

/// Whether the name is the broker's. Epoch 0 was promised to nobody, and nothing is acknowledged to nobody.
fn is(epoch_or_end: u8, name: u8, broker: usize) -> u64 {
    u64::from(epoch_or_end > 0 && usize::from(name) == broker)
}

/// A set as a broker sees it: which of its own folders are in it, and how many others.
fn voters(set: Voters, broker: usize) -> u64 {
    let own = (set >> broker) & 1 | ((set >> (broker + MAX_BROKERS)) & 1) << 1;
    u64::from(own) << 8 | u64::from(set.count_ones())
}

fn log(log: Log, broker: usize) -> u64 {
    let records = log.records().iter();
    records.fold(log.len() as u64, |hash, record| {
        hash << 6 | u64::from(record.epoch()) << 1 | u64::from(record.writer() == broker)
    })
}

fn lease(lease: Option<Lease>, broker: usize) -> u64 {
    let Some(lease) = lease else { return 1 };
    let holder = match lease.holder {
        None => 0,
        Some(holder) if usize::from(holder) == broker => 1,
        Some(_) => 2,
    };
    let stamp = u64::from(lease.life) << 16 | u64::from(lease.epoch) << 8 | u64::from(lease.sequence);
    stamp << 32 | holder << 16 | voters(lease.voters, broker) | 1 << 60
}

/// What a broker and its part in everything looks like, other brokers being all alike.
fn look_alone(state: &State, broker: usize) -> u64 {
    let me = &state.brokers[broker];
    let mut look = mix(log(me.log, broker), log(state.committed, broker));
    let (epoch, holder) = me.promised;
    look = mix(look, u64::from(epoch) << 2 | is(epoch, holder, broker) << 1 | u64::from(me.emptied));
    look = mix(look, lease(me.seen, broker));
    look = mix(look, lease(state.lease, broker));
    look = mix(look, lease(state.backup, broker));
    let pending = me.pending.map_or(1, |(sequence, set)| u64::from(sequence) << 32 | voters(set, broker) << 1);
    look = mix(look, pending);
    look = match me.role {
        Role::Follower => mix(look, 1),
        Role::Controller { epoch, commit_end } => mix(look, 2 | u64::from(epoch) << 8 | u64::from(commit_end) << 16),
        Role::Candidate { epoch, voters: set, needs, promised, best } => {
            let needs = match needs {
                Needs::PromiseQuorum => 0,
                Needs::Majority => 1,
                Needs::All(members) => 2 | voters(members, broker) << 2,
            };
            let sets = voters(set, broker) << 16 | voters(promised, broker);
            mix(mix(look, 3 | u64::from(epoch) << 8 | needs << 32), mix(sets, log(best, broker)))
        }
    };
    let requests = state.requests.iter().flatten().fold(0, |sum: u64, request| {
        let stamp = u64::from(request.life) << 16 | u64::from(request.epoch) << 8 | u64::from(request.sequence);
        let own = u64::from(usize::from(request.holder) == broker);
        sum.wrapping_add(mix(stamp, own << 32 | voters(request.voters, broker)))
    });
    look = mix(look, requests);
    for folder in [broker, broker + MAX_BROKERS] {
        for (to, end) in state.acknowledged[folder] {
            look = mix(look, u64::from(end) << 1 | is(end, to, broker));
        }
    }
    look
}

/// What another broker has to do with this one.
fn seen_by(state: &State, other: usize, broker: usize, look_of_other: u64) -> u64 {
    let them = &state.brokers[other];
    let mut look = mix(look_of_other, is(them.promised.0, them.promised.1, broker));
    look = mix(look, log(them.log, broker));
    look = mix(
        look,
        them.seen.map_or(0, |seen| {
            seen.holder.map_or(0, |holder| is(1, holder, broker)) << 32 | voters(seen.voters, broker)
        }),
    );
    look = mix(look, them.pending.map_or(0, |(_, set)| voters(set, broker)));
    if let Role::Candidate { voters: set, needs, promised, best, .. } = them.role {
        let members = if let Needs::All(members) = needs { voters(members, broker) } else { 0 };
        let sets = voters(set, broker) << 16 | voters(promised, broker) | members << 32;
        look = mix(mix(look, sets), log(best, broker));
    }
    for folder in [other, other + MAX_BROKERS] {
        for (to, end) in state.acknowledged[folder] {
            look = mix(look, u64::from(end > 0) << 1 | is(end, to, broker));
        }
    }
    look
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::{Mistake, fingerprint, steps};
    use super::*;
    use crate::Random;

    /// The states that can follow, as a set.
    fn following(state: &State, bounds: &Bounds, names: Option<Names>) -> BTreeSet<u128> {
        let mut next = Vec::new();
        steps::all(state, bounds, None::<Mistake>, &mut next).expect("nothing is broken");
        let renamed = |state: State| names.map_or(state.clone(), |names| state.renamed(names));
        next.into_iter().map(|state| fingerprint(&renamed(state))).collect()
    }

    #[test]
    fn what_can_happen_does_not_depend_on_names() {
        let all = [
            Bounds { falls: 1, emptied: 1, ..Bounds::of(3, 3, 4, 4, 6) },
            Bounds { falls: 1, emptied: 1, ..Bounds::of(5, 2, 4, 4, 6) },
            Bounds { emptied: 1, ..Bounds::of(4, 0, 4, 4, 6) },
        ];
        let mut random = Random::new(11);
        let (mut pairs, mut found_equal) = (0, 0);
        for bounds in all {
            for _ in 0..60 {
                let mut state = State::new(&bounds);
                for _ in 0..40 {
                    let mut names: Names = std::array::from_fn(|name| name as u8);
                    for at in (1..bounds.brokers).rev() {
                        names.swap(at, random.between(0, at as u64) as usize);
                    }
                    let other = state.renamed(names);
                    assert_eq!(following(&state, &bounds, Some(names)), following(&other, &bounds, None), "{state:?}");
                    let canonical = [&state, &other].map(|state| canonical(state.clone(), &bounds));
                    pairs += 1;
                    found_equal += usize::from(canonical[0] == canonical[1]);
                    let mut next = Vec::new();
                    steps::all(&state, &bounds, None, &mut next).expect("nothing is broken");
                    if next.is_empty() {
                        break;
                    }
                    let at = random.between(0, next.len() as u64 - 1) as usize;
                    state = next.swap_remove(at);
                }
            }
        }
        assert!(found_equal > pairs * 9 / 10, "{found_equal} of {pairs} pairs were found to be the same");
    }
}
