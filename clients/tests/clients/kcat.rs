// SPDX-License-Identifier: Apache-2.0
//! kcat, with an old librdkafka.

use anyhow::{Result, ensure};
use odradek_clients::{Broker, CODECS, Plan, Tally, kcat, native, round_trip_records};

const PARTITIONS: usize = 3;

#[test]
fn kcat_round_trips_with_every_codec() -> Result<()> {
    let broker = Broker::start()?;
    let bootstrap = broker.bootstrap();
    let count = round_trip_records();
    for (seed, codec) in (100..).zip(CODECS) {
        let topic = format!("kcat-{codec}");
        native::create_topic(&bootstrap, &topic, 3, &[])?;
        let plan = Plan::new(seed, count);
        kcat::produce(&bootstrap, &topic, codec, &plan.lines(0, count))?;
        let mut tally = Tally::new(&plan, PARTITIONS);
        tally.observe_lines(&kcat::consume_in_group(&bootstrap, &topic, &topic, count)?)?;
        tally.finish()?;
        let mut written = 0;
        for partition in 0..3 {
            let (first, next) = native::offsets(&bootstrap, &topic, partition)?;
            written += next - first;
        }
        ensure!(written == i64::from(count), "{topic}: {written} records written");
    }
    Ok(())
}

#[test]
fn kcat_writes_to_a_topic_that_is_not_there_yet() -> Result<()> {
    let broker = Broker::start()?;
    let bootstrap = broker.bootstrap();
    kcat::produce(&bootstrap, "made-by-writing", "none", "k0\tfirst\nk1\t\n")?;
    let read = kcat::consume_in_group(&bootstrap, "made-by-writing", "group", 2)?;
    ensure!(read == "0\t0\tk0\tfirst\n0\t1\tk1\t\n", "read {read:?}");
    let listed = kcat::list(&bootstrap)?;
    ensure!(listed.contains(r#""topic":"made-by-writing""#), "listed: {listed}");
    Ok(())
}
