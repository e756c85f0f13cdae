// SPDX-License-Identifier: Apache-2.0
//! Which replica a consumer should read from (KIP-392, `RackAwareReplicaSelector`). Pure. Must not know how racks or
//! addresses are learned.

use odradek_model::{BrokerId, Offset};

/// A replica that a consumer might read from, as the leader knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadReplica<'a> {
    /// Which.
    pub broker: BrokerId,
    /// Its rack; `None` if it has none, or if it is not live or not reachable for this client.
    pub rack: Option<&'a str>,
    /// Whether it is in the committed ISR.
    pub in_sync: bool,
    /// Its first offset, if known.
    pub log_start: Option<Offset>,
    /// The offset after its last record, if known.
    pub log_end: Option<Offset>,
    /// How long ago it was last caught up.
    pub lag_ms: i64,
}

/// The follower to send a consumer to that wants `fetch_offset` and lives in `rack`; `None` if it reads best from the
/// leader: one in its rack always, and where no follower of its rack is in the ISR and holds the offset. Among several
/// the most caught up; the highest id decides a tie.
pub fn preferred_read_replica(
    rack: &str,
    leader_rack: Option<&str>,
    fetch_offset: Offset,
    followers: &[ReadReplica<'_>],
) -> Option<BrokerId> {
    if rack.is_empty() || leader_rack == Some(rack) {
        return None;
    }
    let holds = |replica: &&ReadReplica<'_>| {
        replica.in_sync
            && replica.rack == Some(rack)
            && replica.log_start.is_some_and(|start| start <= fetch_offset)
            && replica.log_end.is_some_and(|end| end >= fetch_offset)
    };
    let most_caught_up = followers
        .iter()
        .filter(holds)
        .max_by_key(|replica| (replica.log_end, std::cmp::Reverse(replica.lag_ms), replica.broker));
    most_caught_up.map(|replica| replica.broker)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn replica(id: i32, rack: &'static str) -> ReadReplica<'static> {
        ReadReplica {
            broker: BrokerId(id),
            rack: Some(rack),
            in_sync: true,
            log_start: Some(0),
            log_end: Some(10),
            lag_ms: 0,
        }
    }

    #[test]
    fn the_leader_serves_who_has_no_better_replica() {
        let followers = [replica(2, "b"), replica(3, "c")];
        let prefer = |rack| preferred_read_replica(rack, Some("a"), 5, &followers);
        assert_eq!(prefer("a"), None);
        assert_eq!(prefer(""), None);
        assert_eq!(prefer("d"), None);
        assert_eq!(prefer("b"), Some(BrokerId(2)));
        assert_eq!(preferred_read_replica("b", None, 5, &followers), Some(BrokerId(2)));
    }

    #[test]
    fn a_follower_must_be_in_sync_live_and_hold_the_offset() {
        let good = replica(2, "b");
        let bad = [
            ReadReplica { in_sync: false, ..good },
            ReadReplica { rack: None, ..good },
            ReadReplica { log_end: Some(4), ..good },
            ReadReplica { log_start: Some(6), ..good },
            ReadReplica { log_end: None, ..good },
            ReadReplica { log_start: None, ..good },
        ];
        for bad in bad {
            assert_eq!(preferred_read_replica("b", Some("a"), 5, &[bad]), None, "{bad:?}");
        }
        let edge = ReadReplica { log_start: Some(5), log_end: Some(5), ..good };
        assert_eq!(preferred_read_replica("b", Some("a"), 5, &[edge]), Some(BrokerId(2)));
    }

    #[test]
    fn the_most_caught_up_is_preferred() {
        let prefer = |followers: &[ReadReplica<'_>]| preferred_read_replica("b", Some("a"), 5, followers);
        let behind = ReadReplica { log_end: Some(9), ..replica(5, "b") };
        assert_eq!(prefer(&[behind, replica(2, "b")]), Some(BrokerId(2)));
        let late = ReadReplica { lag_ms: 7, ..replica(5, "b") };
        assert_eq!(prefer(&[late, replica(2, "b")]), Some(BrokerId(2)));
        assert_eq!(prefer(&[replica(2, "b"), replica(3, "b")]), Some(BrokerId(3)));
    }
}
