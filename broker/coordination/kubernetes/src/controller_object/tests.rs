// SPDX-License-Identifier: Apache-2.0
//! The Lease object read and written: every form of ours comes back, every malformed one is refused by its field.

use odradek_coordination::Holder;
use odradek_model::{BrokerId, DirectoryId};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;

fn cluster() -> ClusterId {
    ClusterId::new("one").unwrap()
}

fn now() -> MicroTime {
    MicroTime("2026-01-02T03:04:05.000006Z".parse().unwrap())
}

/// As the API server gives it back.
fn stored(mut lease: Lease) -> Lease {
    lease.metadata.uid = Some("u".into());
    lease.metadata.resource_version = Some("7".into());
    lease
}

fn holders() -> impl Strategy<Value = Option<Holder>> {
    proptest::option::of(
        (0..i32::MAX, "[a-z0-9-]{1,64}").prop_map(|(id, incarnation)| Holder { broker_id: BrokerId(id), incarnation }),
    )
}

fn voter_sets() -> impl Strategy<Value = Vec<Voter>> {
    btree_map(0..i32::MAX, any::<[u8; 16]>(), 0..=5).prop_map(|set| {
        let voter =
            |(id, bytes)| Voter { broker_id: BrokerId(id), directory_id: DirectoryId(uuid::Uuid::from_bytes(bytes)) };
        set.into_iter().map(voter).collect()
    })
}

proptest! {
    #[test]
    fn what_is_written_reads_back(
        epoch in 0..=i64::from(i32::MAX), sequence in 0..i64::MAX, holder in holders(), voters in voter_sets()
    ) {
        let wanted = LeaseChange { epoch, holder, voters };
        let object = first_controller_lease("c-controller", &cluster());
        let lease = stored(change(object, sequence, &wanted, &cluster(), &LeaseSettings::CONTROLLER, &now()).unwrap());
        let text = serde_json::to_string(&lease).unwrap();
        let view = view(&serde_json::from_str(&text).unwrap(), &cluster()).unwrap();
        prop_assert_eq!((view.epoch, view.sequence), (wanted.epoch, sequence));
        prop_assert_eq!((view.holder, view.voters), (wanted.holder, wanted.voters));
        prop_assert_eq!((view.uid.as_str(), view.version.as_str()), ("u", "7"));
    }

    #[test]
    fn no_text_makes_it_panic(
        sequence in ".{0,400}", voters in vec("[0-9:,A-Za-z_-]{0,40}", 0..9), holder in ".{0,300}", epoch in any::<i32>()
    ) {
        let mut lease = stored(first_controller_lease("c-controller", &cluster()));
        let annotations = lease.metadata.annotations.as_mut().unwrap();
        annotations.insert(SEQUENCE_ANNOTATION.into(), sequence);
        annotations.insert(VOTERS_ANNOTATION.into(), voters.join(","));
        let spec = lease.spec.as_mut().unwrap();
        spec.holder_identity = Some(holder);
        spec.lease_transitions = Some(epoch);
        if let Err(error) = view(&lease, &cluster()) {
            prop_assert!(matches!(&error, LeaseError::Malformed(text) if text.len() < 1000), "{}", error);
        }
    }
}

#[test]
fn a_foreign_or_malformed_object_is_named_by_its_field() {
    let good = stored(first_controller_lease("c-controller", &cluster()));
    assert_eq!(view(&good, &cluster()).unwrap().voters, []);
    let refused = |field: &str, spoil: &dyn Fn(&mut Lease)| {
        let mut lease = good.clone();
        spoil(&mut lease);
        let error = view(&lease, &cluster()).unwrap_err().to_string();
        assert!(error.contains(field), "{field}: {error}");
    };
    let put = |lease: &mut Lease, name: &str, text: &str| {
        lease.metadata.annotations.as_mut().unwrap().insert(name.into(), text.into());
    };
    refused("metadata.uid", &|lease| lease.metadata.uid = None);
    refused("metadata.resourceVersion", &|lease| lease.metadata.resource_version = Some(String::new()));
    refused("odradek.dev/cluster-id", &|lease| lease.metadata.annotations = None);
    refused("odradek.dev/cluster-id", &|lease| put(lease, CLUSTER_ID_ANNOTATION, "two"));
    for text in ["", "-1", "+1", "01", "x", "9223372036854775808"] {
        refused("odradek.dev/sequence", &|lease| put(lease, SEQUENCE_ANNOTATION, text));
    }
    let id = "BwcHBwcHBwcHBwcHBwcHBw";
    let six: Vec<_> = (0..6).map(|broker| format!("{broker}:{id}")).collect();
    for text in ["x", ",", &format!("1:{id},"), &format!("1:{id},1:{id}"), &six.join(","), &"9".repeat(1_000_000)] {
        refused("odradek.dev/voters", &|lease| put(lease, VOTERS_ANNOTATION, text));
    }
    refused("spec", &|lease| lease.spec = None);
    refused("spec.leaseTransitions", &|lease| lease.spec.as_mut().unwrap().lease_transitions = None);
    refused("spec.leaseTransitions", &|lease| lease.spec.as_mut().unwrap().lease_transitions = Some(-1));
    refused("spec.strategy", &|lease| lease.spec.as_mut().unwrap().strategy = Some("OldestEmulationVersion".into()));
    refused("spec.holderIdentity", &|lease| lease.spec.as_mut().unwrap().holder_identity = Some("stranger".into()));
}

#[test]
fn a_write_keeps_what_others_wrote_and_an_epoch_without_place_is_refused() {
    let mut object = stored(first_controller_lease("c-controller", &cluster()));
    object.metadata.labels = Some([("team".to_owned(), "a".to_owned())].into());
    object.metadata.annotations.as_mut().unwrap().insert("their/own".into(), "b".into());
    let wanted = LeaseChange { epoch: 1, holder: "1/a".parse().ok(), voters: Vec::new() };
    let make =
        |object: Lease, wanted: &LeaseChange| change(object, 1, wanted, &cluster(), &LeaseSettings::CONTROLLER, &now());
    let taken = make(object.clone(), &wanted).unwrap();
    assert_eq!(taken.metadata.labels, object.metadata.labels);
    assert_eq!(taken.metadata.annotations.as_ref().unwrap()["their/own"], "b");
    let spec = taken.spec.as_ref().unwrap();
    assert_eq!((spec.lease_duration_seconds, &spec.acquire_time), (Some(6), &Some(now())));
    let released = make(taken, &LeaseChange { holder: None, ..wanted.clone() }).unwrap().spec.unwrap();
    assert_eq!((released.holder_identity, released.acquire_time, released.renew_time), (None, None, Some(now())));
    let error = make(object, &LeaseChange { epoch: i64::from(i32::MAX) + 1, ..wanted }).unwrap_err();
    assert!(error.to_string().contains("spec.leaseTransitions"), "{error}");
}
