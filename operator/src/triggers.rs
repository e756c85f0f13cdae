// SPDX-License-Identifier: Apache-2.0
//! Which events of a watch matter: what is new, what changed in the parts that count, what is gone. Pure.
//!
//! A deletion always matters, also one that happened while the watch was interrupted: what is no
//! longer listed afterwards is gone.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};

use kube::ResourceExt;
use kube::api::ObjectMeta;
use kube::runtime::watcher::Event;

/// Where an object is; one that was made anew is in the same place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Place {
    fn of(object: &impl ResourceExt) -> Self {
        Self { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
    }
}

/// A change that matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is new, or different in what counts.
    Different(Place),
    /// It is gone.
    Gone(Place),
}

/// What was seen of each object: one entry for each that exists.
#[derive(Debug, Default)]
pub struct Seen {
    last: HashMap<Place, u64>,
    /// While the watch lists anew: what it has listed.
    listed: Option<HashSet<Place>>,
}

impl Seen {
    /// The changes that an event means; `counts` makes one number of all that counts in an object.
    pub fn changes<K: ResourceExt>(&mut self, event: &Event<K>, counts: impl Fn(&K) -> u64) -> Vec<Change> {
        match event {
            Event::Init => {
                self.listed = Some(HashSet::new());
                Vec::new()
            }
            Event::InitApply(object) => {
                let place = Place::of(object);
                if let Some(listed) = &mut self.listed {
                    listed.insert(place.clone());
                }
                self.compared(place, counts(object))
            }
            Event::Apply(object) => self.compared(Place::of(object), counts(object)),
            Event::Delete(object) => {
                let gone = Place::of(object);
                self.last.remove(&gone);
                vec![Change::Gone(gone)]
            }
            Event::InitDone => {
                let listed = self.listed.take().unwrap_or_default();
                let gone: Vec<Place> = self.last.keys().filter(|known| !listed.contains(*known)).cloned().collect();
                for known in &gone {
                    self.last.remove(known);
                }
                gone.into_iter().map(Change::Gone).collect()
            }
        }
    }

    fn compared(&mut self, place: Place, counted: u64) -> Vec<Change> {
        if self.last.insert(place.clone(), counted) == Some(counted) {
            return Vec::new();
        }
        vec![Change::Different(place)]
    }
}

/// One number of anything.
pub fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// What counts in a resource's metadata for a pass over itself: everything but what the operator's own
/// status writes change.
pub fn counts_for_itself(metadata: &ObjectMeta) -> u64 {
    hash(&(
        &metadata.uid,
        metadata.generation,
        &metadata.annotations,
        &metadata.finalizers,
        metadata.deletion_timestamp.is_some(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;

    fn object(name: &str, generation: i64, version: &str) -> ConfigMap {
        ConfigMap {
            metadata: ObjectMeta {
                name: Some(name.into()),
                namespace: Some("shop".into()),
                uid: Some(format!("uid-{name}")),
                generation: Some(generation),
                resource_version: Some(version.into()),
                ..ObjectMeta::default()
            },
            ..ConfigMap::default()
        }
    }

    fn feed(seen: &mut Seen, event: &Event<ConfigMap>) -> Vec<String> {
        let changes = seen.changes(event, |object| counts_for_itself(&object.metadata));
        changes
            .into_iter()
            .map(|change| match change {
                Change::Different(place) => format!("different {}", place.name),
                Change::Gone(place) => format!("gone {}", place.name),
            })
            .collect()
    }

    #[test]
    fn only_changes_of_what_counts_are_reported() {
        let mut seen = Seen::default();
        assert_eq!(feed(&mut seen, &Event::Apply(object("a", 1, "10"))), ["different a"]);
        assert!(feed(&mut seen, &Event::Apply(object("a", 1, "11"))).is_empty(), "a status was written");
        assert_eq!(feed(&mut seen, &Event::Apply(object("a", 2, "12"))), ["different a"]);
        // A deletion counts although nothing else changed.
        assert_eq!(feed(&mut seen, &Event::Delete(object("a", 2, "12"))), ["gone a"]);
        assert_eq!(feed(&mut seen, &Event::Apply(object("a", 2, "13"))), ["different a"]);
    }

    #[test]
    fn what_went_while_the_watch_was_interrupted_is_reported_and_forgotten() {
        let mut seen = Seen::default();
        for name in ["a", "b"] {
            feed(&mut seen, &Event::Apply(object(name, 1, "1")));
        }
        assert!(feed(&mut seen, &Event::Init).is_empty());
        assert!(feed(&mut seen, &Event::InitApply(object("b", 1, "1"))).is_empty(), "unchanged");
        assert_eq!(feed(&mut seen, &Event::InitApply(object("c", 1, "1"))), ["different c"]);
        assert_eq!(feed(&mut seen, &Event::InitDone), ["gone a"]);
        assert_eq!(seen.last.len(), 2);
    }
}
