// SPDX-License-Identifier: Apache-2.0
//! Records that this program did not write: what it does not know it keeps, what it cannot read it refuses.

use bytes::Bytes;

use crate::GroupSettings;
use crate::coordinator::GroupCoordinator;
use crate::messages::{Effect, JournalRecord};
use crate::records::{RecordError, offset_key};

/// A key of type 3 (a consumer group's epoch, KIP-848) and of one that nobody has thought of yet.
const KEYS: [&[u8]; 2] = [&[0, 3, 0, 1, b'g'], &[0x12, 0x34, 9]];

fn rewritten(coordinator: &mut GroupCoordinator) -> Vec<JournalRecord> {
    match coordinator.rewrite() {
        Some(Effect::Append { records, .. }) => records,
        other => panic!("no rewrite but {other:?}"),
    }
}

#[test]
fn records_of_unknown_kinds_are_written_anew_as_they_were_read() {
    let mut coordinator = GroupCoordinator::new(GroupSettings::default());
    for (key, value) in [(KEYS[0], &b"old"[..]), (KEYS[1], b"other"), (KEYS[0], b"new")] {
        coordinator.replay(key, Some(value), 0).expect("kept");
    }
    coordinator.loaded(0);
    coordinator.check();
    let live = coordinator.live_bytes();
    assert!(live > 8 + 3, "{live}");
    let records = rewritten(&mut coordinator);
    let expected = [(KEYS[0], &b"new"[..]), (KEYS[1], b"other")];
    let expected = expected
        .map(|(key, value)| JournalRecord { key: Bytes::from_static(key), value: Some(Bytes::from_static(value)) });
    assert_eq!(records, expected);
}

#[test]
fn their_tombstones_remove_them() {
    let mut coordinator = GroupCoordinator::new(GroupSettings::default());
    coordinator.replay(KEYS[0], Some(b"x"), 0).expect("kept");
    coordinator.replay(KEYS[0], None, 0).expect("removed");
    coordinator.loaded(0);
    assert_eq!((coordinator.live_bytes(), coordinator.rewrite()), (0, None));
}

#[test]
fn a_value_of_a_newer_version_is_refused() {
    let mut coordinator = GroupCoordinator::new(GroupSettings::default());
    let refused = coordinator.replay(&offset_key("g", "t", 0), Some(&[0, 9, 1, 2, 3]), 0);
    assert!(matches!(refused, Err(RecordError::Version { version: 9, .. })), "{refused:?}");
}
