// SPDX-License-Identifier: Apache-2.0
//! "May this broker stop?", as an administrator asks it of any broker: the controller's verdict, in words for people and
//! as JSON for programs. It must not know HTTP, nor how the verdict is found.
use std::fmt::Write as _;
use std::time::Duration;

use odradek_metadata::{MayStop, StopBlocker, StopReason, StopVerdict};
use odradek_model::BrokerId;

use crate::broker::Broker;

/// How long a controller is waited for. An election takes about a second; who asks often gives up after five.
const DEADLINE: Duration = Duration::from_secs(3);

/// The answer in short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopAnswer {
    /// Nothing speaks against it.
    Yes,
    /// Partitions would suffer.
    No,
    /// No broker of that id is registered.
    NoSuchBroker,
    /// No controller gave an answer.
    Unknown,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopAdvice {
    /// In short.
    pub answer: StopAnswer,
    /// In full, as JSON: `broker`, `mayStop` (true, false, or null if that is not known), and either `error` or the
    /// counts and the first partitions that speak against it.
    pub json: String,
}

impl Broker {
    /// Asks the controller whether the broker, this one if none is given, may stop.
    pub async fn may_stop(&self, broker: Option<BrokerId>) -> StopAdvice {
        let broker_id = broker.unwrap_or(self.id);
        match self.controller_client.may_stop(MayStop { broker_id }, DEADLINE).await {
            Ok(Some(verdict)) => judged(broker_id, &verdict),
            Ok(None) => {
                let error = format!("no broker {broker_id} is registered");
                StopAdvice { answer: StopAnswer::NoSuchBroker, json: without_verdict(broker_id, &error) }
            }
            Err(error) => {
                StopAdvice { answer: StopAnswer::Unknown, json: without_verdict(broker_id, &error.to_string()) }
            }
        }
    }
}

fn judged(broker: BrokerId, verdict: &StopVerdict) -> StopAdvice {
    let may_stop = verdict.may_stop();
    let partitions: Vec<_> = verdict.blockers.iter().map(blocker).collect();
    let json = format!(
        "{{\"broker\":{broker},\"mayStop\":{may_stop},\"blocking\":{},\"soleReplica\":{},\"lastInSync\":{},\
         \"lastEligible\":{},\"underMinInSync\":{},\"partitions\":[{}]}}\n",
        verdict.blocking(),
        verdict.sole_replica,
        verdict.last_in_sync,
        verdict.last_eligible,
        verdict.under_min_in_sync,
        partitions.join(",")
    );
    StopAdvice { answer: if may_stop { StopAnswer::Yes } else { StopAnswer::No }, json }
}

/// A topic's name has nothing that JSON would escape.
fn blocker(blocker: &StopBlocker) -> String {
    let reason = match blocker.reason {
        StopReason::SoleReplica => "\"soleReplica\"".to_owned(),
        StopReason::LastInSync => "\"lastInSync\"".to_owned(),
        StopReason::LastEligible => "\"lastEligible\"".to_owned(),
        StopReason::UnderMinInSync { left, needed } => {
            format!("\"underMinInSync\",\"inSyncLeft\":{left},\"inSyncNeeded\":{needed}")
        }
    };
    format!("{{\"topic\":\"{}\",\"partition\":{},\"reason\":{reason}}}", blocker.topic, blocker.partition)
}

fn without_verdict(broker: BrokerId, error: &str) -> String {
    format!("{{\"broker\":{broker},\"mayStop\":null,\"error\":{}}}\n", quoted(error))
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_says_all_of_it() {
        let topic = odradek_model::TopicName::new("a.b-c_d").unwrap();
        let reasons = [StopReason::SoleReplica, StopReason::UnderMinInSync { left: 1, needed: 2 }];
        let blockers = reasons.map(|reason| StopBlocker { topic: topic.clone(), partition: 7, reason });
        let verdict = StopVerdict {
            sole_replica: 30_000,
            under_min_in_sync: 1,
            blockers: blockers.into(),
            ..StopVerdict::default()
        };
        let advice = judged(BrokerId(2), &verdict);
        assert_eq!(advice.answer, StopAnswer::No);
        assert_eq!(
            advice.json,
            "{\"broker\":2,\"mayStop\":false,\"blocking\":30001,\"soleReplica\":30000,\"lastInSync\":0,\
             \"lastEligible\":0,\"underMinInSync\":1,\"partitions\":[\
             {\"topic\":\"a.b-c_d\",\"partition\":7,\"reason\":\"soleReplica\"},\
             {\"topic\":\"a.b-c_d\",\"partition\":7,\"reason\":\"underMinInSync\",\"inSyncLeft\":1,\"inSyncNeeded\":2}]}\n"
        );
        let error = "a \"quoted\" \\ and\na line";
        assert_eq!(
            without_verdict(BrokerId(2), error),
            "{\"broker\":2,\"mayStop\":null,\"error\":\"a \\\"quoted\\\" \\\\ and\\u000aa line\"}\n"
        );
    }
}
