// SPDX-License-Identifier: Apache-2.0
//! Answers that a healthy API server seldom gives, from a played one: none is taken for more than it says.

#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kube::Config;
use odradek_coordination::{LeaseChange, LeaseError, WriteOutcome};
use odradek_coordination_kubernetes::{BrokerLease, KubernetesLease, LeaseSeen, LeaseSettings, LeaseStore};
use odradek_model::ClusterId;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// The controller Lease, with these answers.
async fn play(answers: Vec<(u16, Value)>) -> (KubernetesLease, Arc<Mutex<Vec<String>>>) {
    let (store, requests) = play_store(answers).await;
    (KubernetesLease::new(store, "c-controller", ClusterId::new("one").unwrap(), settings()), requests)
}

fn settings() -> LeaseSettings {
    LeaseSettings {
        call_deadline: Duration::from_secs(4),
        watch_silence: Duration::from_millis(500),
        ..LeaseSettings::CONTROLLER
    }
}

/// Gives these answers in turn, each on a connection of its own, and keeps the first lines of the requests. Code 0 is
/// no answer; after the last one every connection is closed.
async fn play_store(answers: Vec<(u16, Value)>) -> (LeaseStore, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&requests);
    tokio::spawn(async move {
        let mut answers = answers.into_iter();
        let mut silent = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 64 * 1024];
            let length = stream.read(&mut request).await.unwrap_or(0);
            let text = String::from_utf8_lossy(&request[..length]).into_owned();
            kept.lock().unwrap().push(text.lines().next().unwrap_or_default().to_owned());
            match answers.next() {
                None => {}
                Some((0, _)) => silent.push(stream),
                Some((code, body)) => {
                    // As the API server does it; flow control, which answers without an object, too.
                    let wait = match body.pointer("/details/retryAfterSeconds").and_then(Value::as_u64) {
                        Some(0) => String::new(),
                        Some(wait) => format!("Retry-After: {wait}\r\n"),
                        None if code == 429 => format!("Retry-After: {LONG}\r\n"),
                        None => String::new(),
                    };
                    let body = body.to_string() + "\n";
                    let length = body.len();
                    let head =
                        format!("HTTP/1.1 {code} x\r\n{wait}Content-Length: {length}\r\nConnection: close\r\n\r\n");
                    let _ = stream.write_all((head + &body).as_bytes()).await;
                }
            }
        }
    });
    let store = LeaseStore::connect(Config::new(format!("http://{address}").parse().unwrap()), "n").unwrap();
    (store, requests)
}

fn lease(sequence: u32) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {
            "name": "c-controller", "uid": "u", "resourceVersion": (100 + sequence).to_string(),
            "annotations": {
                "odradek.dev/cluster-id": "one", "odradek.dev/sequence": sequence.to_string(), "odradek.dev/voters": "",
            },
        },
        "spec": {"leaseTransitions": 0},
    })
}

fn status(code: u16, reason: &str, retry_after: u32) -> (u16, Value) {
    let details = json!({"kind": "leases", "name": "c-controller", "retryAfterSeconds": retry_after});
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
        "message": "played", "details": details});
    (code, body)
}

const CHANGE: LeaseChange = LeaseChange { epoch: 0, holder: None, voters: Vec::new() };

#[tokio::test]
async fn a_write_that_may_have_been_made_is_never_repeated_nor_called_refused() {
    for unclear in [status(504, "Timeout", 1), status(503, "ServiceUnavailable", 1), status(500, "", 0), (0, json!(0))]
    {
        // A repetition would meet the second answer.
        let (played, requests) = play(vec![(200, lease(1)), unclear.clone(), status(409, "Conflict", 0)]).await;
        let view = played.read().await.unwrap().unwrap();
        let outcome = played.compare_and_set(&view, &CHANGE).await.unwrap();
        assert!(matches!(outcome, WriteOutcome::Unknown(_)), "{unclear:?}: {outcome:?}");
        let requests = requests.lock().unwrap().clone();
        assert_eq!(requests.len(), 2, "{requests:?}");
        assert!(requests[1].starts_with("PUT "), "{requests:?}");
    }
}

#[tokio::test]
async fn a_throttled_write_is_made_again_within_the_deadline_and_else_was_not_made() {
    let (played, _) = play(vec![(200, lease(1)), status(429, "TooManyRequests", 1), (200, lease(2))]).await;
    let view = played.read().await.unwrap().unwrap();
    let outcome = played.compare_and_set(&view, &CHANGE).await.unwrap();
    assert!(matches!(&outcome, WriteOutcome::Written(view) if view.sequence == 2), "{outcome:?}");
    let (played, _) = play(vec![status(429, "TooManyRequests", 20)]).await;
    assert!(matches!(played.create(&CHANGE).await, Err(LeaseError::Unavailable(_))));
}

/// Longer than a call may take: 4 s.
const LONG: u32 = 5;

#[tokio::test]
async fn calls_wait_as_long_as_the_api_server_asks_and_say_so_if_they_cannot() {
    let refusals = [
        status(429, "TooManyRequests", LONG),
        // The form in which flow control answers: no object.
        (429, json!("Too many requests, please try again later.")),
        status(503, "ServiceUnavailable", LONG),
    ];
    let tests = refusals.map(async |refusal| {
        let (played, requests) = play(vec![(200, lease(1)), refusal.clone(), (200, lease(2))]).await;
        let view = played.read().await.unwrap().unwrap();
        let outcome = played.compare_and_set(&view, &CHANGE).await;
        let refused = Instant::now();
        // Whether a 503 was carried out is not known; a 429 was not.
        match refusal.0 {
            503 => assert!(matches!(outcome, Ok(WriteOutcome::Unknown(_))), "{outcome:?}"),
            _ => assert!(matches!(outcome, Err(LeaseError::Unavailable(_))), "{outcome:?}"),
        }
        for _ in 0..3 {
            let error = played.create(&CHANGE).await.unwrap_err().to_string();
            assert!(error.ends_with("left alone for 5 s"), "{error}");
        }
        assert!(refused.elapsed() < Duration::from_millis(500), "{:?}", refused.elapsed());
        assert_eq!(requests.lock().unwrap().len(), 2, "nothing was asked");
        // Once the rest of the pause fits into the deadline, a call waits for its end; the watch does anyway.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let view = played.read().await.unwrap().unwrap();
        assert_eq!(view.sequence, 2);
        let waited = refused.elapsed();
        assert!((4500..6000).contains(&waited.as_millis()), "{waited:?}");
        assert_eq!(requests.lock().unwrap().len(), 3);
    });
    futures::future::join_all(tests).await;
}

#[tokio::test]
async fn a_watch_begins_again_after_the_pause_that_the_api_server_asks_for() {
    let (played, requests) = play(vec![(200, lease(1)), status(429, "TooManyRequests", 2), (200, lease(2))]).await;
    let mut watch = played.watch();
    assert!(matches!(watch.next().await, LeaseSeen::View(_)));
    assert!(matches!(watch.next().await, LeaseSeen::Unavailable(_)));
    let refused = Instant::now();
    assert!(matches!(watch.next().await, LeaseSeen::View(view) if view.sequence == 2));
    assert!(refused.elapsed() > Duration::from_millis(1900), "{:?}", refused.elapsed());
    assert_eq!(requests.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn a_hostile_wait_is_not_named_longer_than_it_is_kept() {
    let (played, _) = play(vec![status(429, "TooManyRequests", u32::MAX)]).await;
    assert!(played.read().await.is_err());
    let error = played.read().await.unwrap_err().to_string();
    assert!(error.ends_with("left alone for 10 s"), "{error}");
}

#[tokio::test]
async fn a_page_of_a_proxy_does_not_say_that_the_lease_is_missing() {
    let (played, _) = play(vec![(404, json!("404 page not found")), status(404, "NotFound", 0)]).await;
    assert!(matches!(played.read().await, Err(LeaseError::Unavailable(_))));
    assert_eq!(played.read().await.unwrap(), None);
}

#[tokio::test]
async fn errors_of_the_brokers_own_lease_name_it_and_not_the_controllers() {
    let mut of_another_broker = lease(1);
    of_another_broker["spec"]["holderIdentity"] = json!("2/x");
    let (store, _) = play_store(vec![status(403, "Forbidden", 0), (200, of_another_broker)]).await;
    let holder = "1/a".parse().unwrap();
    let own = BrokerLease::new(store, "c-broker-1", ClusterId::new("one").unwrap(), holder, "pod", settings());
    for expected in ["Lease/c-broker-1 is out of reach: ", "Lease/c-broker-1 is malformed: spec.holderIdentity"] {
        let error = own.take().await.unwrap_err().to_string();
        assert!(error.starts_with(expected) && !error.contains("controller Lease"), "{error}");
    }
}

#[tokio::test]
async fn a_watch_goes_on_after_410_in_either_form_and_after_its_end() {
    let event = json!({"type": "ERROR", "object": status(410, "Expired", 0).1});
    let (played, requests) = play(vec![
        (200, lease(1)),
        status(410, "Expired", 0),
        (200, lease(2)),
        (200, event),
        (200, lease(3)),
        (
            200,
            json!({"type": "BOOKMARK", "object": {"kind": "Lease", "apiVersion": "v1",
            "metadata": {"resourceVersion": "103"}}}),
        ),
        (200, lease(4)),
    ])
    .await;
    let mut watch = played.watch();
    // The fourth comes after a watch that ended without an error.
    for sequence in 1..=4 {
        let seen = tokio::time::timeout(Duration::from_secs(30), watch.next()).await.unwrap();
        assert!(matches!(&seen, LeaseSeen::View(view) if view.sequence == sequence), "{sequence}: {seen:?}");
    }
    let requests = requests.lock().unwrap().clone();
    assert!(requests[1].contains("watch=true") && requests[1].contains("resourceVersion=101"), "{requests:?}");
    assert!(requests[1].contains("fieldSelector=metadata.name%3Dc-controller"), "{requests:?}");
}
