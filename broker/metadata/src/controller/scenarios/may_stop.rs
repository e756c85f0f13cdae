// SPDX-License-Identifier: Apache-2.0
//! "May I stop?"

use super::*;

fn reasons(cluster: &Cluster, broker: i32) -> Vec<(String, StopReason)> {
    let verdict = may_stop(&cluster.image, &cluster.settings.topic_defaults, BrokerId(broker), 10);
    assert_eq!(verdict.may_stop(), verdict.blockers.is_empty());
    verdict.blockers.into_iter().map(|blocker| (blocker.topic.to_string(), blocker.reason)).collect()
}

#[test]
fn each_reason_is_told() {
    let mut cluster = Cluster::of(3);
    cluster.topic("whole", &[&[1, 2, 3]], &[]);
    cluster.topic("sole", &[&[1]], &[]);
    cluster.topic("pair", &[&[1, 2]], &[]);
    cluster.topic("strict", &[&[1, 2]], &[("min.insync.replicas", "2")]);
    let named = |name: &str, reason| (name.to_owned(), reason);
    let under = |left, needed| StopReason::UnderMinInSync { left, needed };
    assert_eq!(reasons(&cluster, 1), [named("sole", StopReason::SoleReplica), named("strict", under(1, 2))]);
    assert_eq!(reasons(&cluster, 3), []);
    assert_eq!(reasons(&cluster, 9), [], "who is not there may go");
    cluster.set(3, BrokerState::Fenced);
    cluster.propose("pair", &[1]).expect("taken");
    assert_eq!(
        reasons(&cluster, 1),
        [
            named("whole", under(1, 2)),
            named("sole", StopReason::SoleReplica),
            named("pair", StopReason::LastInSync),
            named("strict", under(1, 2)),
        ]
    );
    assert_eq!(reasons(&cluster, 3), [], "it is in no ISR");
    cluster.set(1, BrokerState::Fenced);
    assert_eq!(
        reasons(&cluster, 1),
        [named("sole", StopReason::LastEligible), named("pair", StopReason::LastEligible)]
    );
    let verdict = may_stop(&cluster.image, &cluster.settings.topic_defaults, BrokerId(1), 1);
    assert_eq!((verdict.blocking(), verdict.last_eligible, verdict.blockers.len()), (2, 2, 1));
    let asked = |cluster: &mut Cluster, broker: i32| match cluster
        .decide(&Command::MayStop(MayStop { broker_id: BrokerId(broker) }))
    {
        Reply::MayStop(verdict) => verdict.map(|verdict| verdict.blocking()),
        other => panic!("{other:?}"),
    };
    assert_eq!((asked(&mut cluster, 1), asked(&mut cluster, 3), asked(&mut cluster, 9)), (Some(2), Some(0), None));
}
