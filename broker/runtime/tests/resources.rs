// SPDX-License-Identifier: Apache-2.0
//! What strangers and sleepers may cost, measured on this process. One test, so that nothing else runs beside it.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test says what went wrong by failing")]
mod support;

use std::time::{Duration, Instant};

use support::{BY_NAME, batch, connect, create, fetch_request, now_ms, produce, start, usage};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const MIB: u64 = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn strangers_and_sleepers_cost_little() {
    let folder = tempfile::tempdir().unwrap();
    let (broker, address) = start(folder.path()).await;
    let mut good = connect(address).await;
    create(&mut good, "t", 1, &[]).await;
    assert_eq!(produce(&mut good, "t", batch(&[b"warm"], now_ms())).await.error_code, 0);

    // 200 connections that claim 90 MB and send 1 KB.
    let (before, _) = usage();
    let mut claims = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&(90_000_000i32).to_be_bytes()).await.unwrap();
        stream.write_all(&[0; 1020]).await.unwrap();
        claims.push(stream);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (claimed, _) = usage();
    let cost = claimed.saturating_sub(before);
    println!("200 claims of 90 MB cost {} KiB", cost / 1024);
    assert!(cost < 64 * MIB, "{} MiB", cost / MIB);
    let begun = Instant::now();
    for _ in 0..20 {
        assert_eq!(produce(&mut good, "t", batch(&[b"noticed nothing"], now_ms())).await.error_code, 0);
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    drop(claims);

    // 1,000 idle connections.
    let (before, _) = usage();
    let mut idle = Vec::new();
    for _ in 0..1000 {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (after, _) = usage();
    println!("1,000 idle connections cost {} KiB", after.saturating_sub(before) / 1024);
    assert!(after.saturating_sub(before) < 32 * MIB);
    assert_eq!(produce(&mut good, "t", batch(&[b"served"], now_ms())).await.error_code, 0);
    drop(idle);

    // 1,000 waiting fetches.
    let end = produce(&mut good, "t", batch(&[b"end"], now_ms())).await.base_offset + 1;
    let mut waiting = Vec::new();
    for _ in 0..1000 {
        let mut connection = connect(address).await;
        waiting.push(tokio::spawn(async move {
            connection.call_version(&fetch_request("t", end, 25_000, 1 << 20), BY_NAME).await.unwrap()
        }));
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (_, ticks) = usage();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let spent = usage().1 - ticks;
    println!("1,000 waiting fetches cost {} ms of processor time in 5 s", spent * 10);
    assert!(spent < 5, "1 % of a core for 5 s is 50 ms, it was {} ms", spent * 10);
    // One append wakes them all.
    assert_eq!(produce(&mut good, "t", batch(&[b"wake"], now_ms())).await.error_code, 0);
    let begun = Instant::now();
    for fetch in waiting {
        let fetched = fetch.await.unwrap();
        assert!(!fetched.responses[0].partitions[0].records.as_ref().unwrap().is_empty());
    }
    println!("and were woken in {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(5));
    broker.shutdown().await;
}
