// SPDX-License-Identifier: Apache-2.0
//! `odradek dev --brokers 3`: one cluster, of which single brokers fail.
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use odradek_wire::client::{ClientOptions, Connection};
use odradek_wire::messages::{CreatableTopic, CreateTopicsRequest};
use serde_json::Value;

use crate::process::{Dev, error_line, run};

/// A controller that was killed is followed by another one within a few seconds; the machine of a test may be busy.
const LIMIT: Duration = Duration::from_secs(30);

fn controllers(brokers: &Value) -> Vec<i64> {
    let is_controller = |broker: &&Value| broker["controller"] == true;
    brokers.as_array().unwrap().iter().filter(is_controller).map(|broker| broker["id"].as_i64().unwrap()).collect()
}

fn states(brokers: &Value) -> Vec<&str> {
    brokers.as_array().unwrap().iter().map(|broker| broker["state"].as_str().unwrap()).collect()
}

/// Waits until the brokers that run agree on a controller that is not `before`, and gives back which it is.
fn next_controller(dev: &Dev, before: i64) -> i64 {
    let begun = Instant::now();
    loop {
        let brokers = dev.brokers(&["list"]);
        if let [controller] = controllers(&brokers)[..]
            && controller != before
        {
            return controller;
        }
        assert!(begun.elapsed() < LIMIT, "no other controller: {brokers}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

async fn create(address: &str, topic: &str, replicas: i16) -> i16 {
    let mut client = Connection::connect(address, ClientOptions::default()).await.unwrap();
    let topic = CreatableTopic {
        name: topic.into(),
        num_partitions: 6,
        replication_factor: replicas,
        ..CreatableTopic::default()
    };
    let create = CreateTopicsRequest { topics: vec![topic], timeout_ms: 20_000, ..CreateTopicsRequest::default() };
    client.call(create).await.unwrap().topics[0].error_code
}

#[tokio::test]
async fn three_brokers_are_one_cluster_and_each_can_fail_alone() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let arguments = ["--brokers", "3", "--racks", "a,b", "--data-dir", data];
    let dev = Dev::start(&arguments);
    let ready = dev.ready["brokers"].clone();
    let addresses: Vec<&str> =
        ready.as_array().unwrap().iter().map(|broker| broker["address"].as_str().unwrap()).collect();
    assert_eq!(addresses.iter().collect::<BTreeSet<_>>().len(), 3, "{ready}");
    assert_eq!(addresses.join(","), dev.bootstrap());
    assert_eq!((&ready[0]["rack"], &ready[1]["rack"], &ready[2]["rack"]), (&"a".into(), &"b".into(), &"a".into()));
    assert_eq!(states(&ready), ["running"; 3]);
    let [controller] = controllers(&ready)[..] else { panic!("not one controller: {ready}") };

    // Whoever is asked, the controller decides.
    for (i, address) in addresses.iter().enumerate() {
        assert_eq!(create(address, &format!("by-{i}"), 3).await, 0, "through broker {i}");
    }
    let leaders = |brokers: &Value| -> Vec<i64> {
        brokers.as_array().unwrap().iter().map(|broker| broker["leaders"].as_i64().unwrap()).collect()
    };
    assert_eq!(leaders(&dev.brokers(&["list"])).iter().sum::<i64>(), 18);

    let victim = (controller + 1) % 3;
    let brokers = dev.brokers(&["kill", &victim.to_string()]);
    assert_eq!(states(&brokers).iter().filter(|state| **state == "running").count(), 2, "{brokers}");
    let other = usize::try_from((controller + 2) % 3).unwrap();
    assert_eq!(create(addresses[other], "without-one", 2).await, 0);
    let brokers = dev.brokers(&["restart", &victim.to_string()]);
    assert_eq!((states(&brokers), controllers(&brokers)), (vec!["running"; 3], vec![controller]));

    dev.brokers(&["kill", &controller.to_string()]);
    let next = next_controller(&dev, controller);
    assert_eq!(create(addresses[other], "under-another", 2).await, 0);
    dev.brokers(&["restart", &controller.to_string()]);

    // One that hangs is as good as dead to the others, and comes to know it.
    dev.brokers(&["pause", &next.to_string()]);
    next_controller(&dev, next);
    dev.brokers(&["resume", &next.to_string()]);
    assert_eq!(states(&dev.brokers(&["list"])), ["running"; 3]);

    assert_eq!(dev.stop(), Some(0));
    let fewer = run(&["dev", "--listen", "127.0.0.1:0", "--brokers", "2", "--data-dir", data]);
    assert!(error_line(&fewer).contains("3 brokers"));
    let again = Dev::start(&arguments);
    assert_eq!(leaders(&again.brokers(&["list"])).iter().sum::<i64>(), 30);
    assert_eq!(again.stop(), Some(0));
}
