// SPDX-License-Identifier: Apache-2.0
//! A controller begins without voters that are gone for good.

use super::*;
use crate::records::ControllerChangeRecord;

fn epoch_record(without: &[&str]) -> Record {
    let recovered_without = without.iter().map(|voter| (*voter).to_owned()).collect();
    ControllerChangeRecord { controller_epoch: 2, broker_id: 1, incarnation: "x".into(), recovered_without }.into()
}

#[test]
fn nothing_counts_as_known_and_every_number_jumps() {
    let mut cluster = Cluster::of(2);
    cluster.topic("pair", &[&[1, 2]], &[]);
    cluster.topic("sole", &[&[1]], &[]);
    cluster.topic("flushed", &[&[1, 2]], &[("flush.messages", "1")]);
    let allocate = |cluster: &mut Cluster| {
        let command = AllocateProducerIds { broker_id: BrokerId(1), broker_epoch: cluster.epoch(1) };
        match cluster.decide(&Command::AllocateProducerIds(command)) {
            Reply::AllocateProducerIds(block) => block.expect("a block").first,
            other => panic!("{other:?}"),
        }
    };
    let first_id = allocate(&mut cluster);
    let before = cluster.image.clone();
    // Any other epoch record leaves all as it is.
    cluster.image.apply_mut(2, &epoch_record(&[])).expect("fits");
    assert_eq!(cluster.show("pair"), "1,2 | 1 @ 0.0 | 1,2 | ");

    cluster.image.apply_mut(2, &epoch_record(&["3:lost"])).expect("fits");
    for topic in ["pair", "sole", "flushed"] {
        let (then, now) = (before.topic(topic).expect("there"), cluster.partition(topic, 0));
        assert_eq!((now.leader, &*now.isr, &*now.elr), (None, &[][..], &[][..]), "{topic}");
        assert!(now.leader_epoch > then.partitions[0].leader_epoch + 1_000_000);
        assert!(now.partition_epoch > then.partitions[0].partition_epoch + 1_000_000);
    }
    assert_eq!(cluster.image.leaderless_partitions().count(), 3);
    for id in [1, 2] {
        let broker = cluster.image.broker(BrokerId(id)).expect("there");
        assert!(broker.fenced && broker.epoch > before.highest_broker_epoch() + 1_000_000_000);
        // The process goes on under its new epoch.
        assert_eq!(cluster.register(&start_of(id)), Ok(cluster.epoch(id)));
        cluster.set(id, BrokerState::Unfenced);
    }
    assert_ne!(cluster.epoch(1), cluster.epoch(2));
    assert!(allocate(&mut cluster) > first_id + 1_000_000_000_000);
    // A sole replica leads by itself, all others by permission alone.
    assert_eq!(cluster.partition("sole", 0).leader, Some(BrokerId(1)));
    assert_eq!(cluster.partition("flushed", 0).leader, None);
    assert_eq!(cluster.elect(ElectionKind::Unclean, "pair"), Ok(()));
    assert_eq!(cluster.partition("pair", 0).leader, Some(BrokerId(1)));

    let records = cluster.image.to_records();
    let image = &cluster.image;
    let loaded = Image::from_records(&records, image.end_offset(), 2, image.highest_broker_epoch()).expect("loads");
    assert_eq!(loaded.to_records(), records, "a snapshot holds what it did, and does it no second time");
}
