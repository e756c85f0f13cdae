// SPDX-License-Identifier: Apache-2.0
//! From measures to a text: the settings, what spoils the figures, and one table. Pure.

use crate::figures::{Line, Measure, TABLE_HEAD};
use crate::load;
use crate::machine::Machine;
use serde::Serialize;
use std::fmt::Write;

/// Everything one invocation measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: Machine,
    settings: Vec<String>,
    lines: Vec<Line>,
    /// From the beginning to the end, in seconds.
    seconds: f64,
}

impl Report {
    /// `settings` are those of the parts that were measured.
    pub(crate) fn new(machine: Machine, settings: Vec<String>, measures: Vec<Measure>, seconds: f64) -> Self {
        let mut all = general(&machine);
        all.extend(settings);
        all.extend(spoilers(&machine));
        Self { settings: all, machine, lines: measures.into_iter().map(Line::new).collect(), seconds }
    }

    pub(crate) fn all_met(&self) -> bool {
        self.lines.iter().all(Line::all_met)
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        for setting in &self.settings {
            let _ = writeln!(text, "- {setting}");
        }
        let _ = writeln!(text, "- all of it took {:.0} s\n\n{TABLE_HEAD}", self.seconds);
        for line in &self.lines {
            let _ = writeln!(text, "{}", line.row());
        }
        text
    }
}

fn general(machine: &Machine) -> Vec<String> {
    let (_, librdkafka) = rdkafka::util::get_rdkafka_version();
    let client: Vec<String> = load::CLIENT.iter().map(|(name, value)| format!("{name}={value}")).collect();
    vec![
        format!(
            "Odradek {} (profile {}) and Apache Kafka {} (KRaft, each node broker and controller, its default settings, \
             heap 1 GB, G1, as its start script sets; {})",
            env!("CARGO_PKG_VERSION"),
            machine.profile,
            machine.kafka,
            machine.java
        ),
        format!(
            "machine: {} × {}, {:.0} GB memory, Linux {}, data on {}; load before the first run {:.2}; at most {} open \
             files of a process",
            machine.processors,
            machine.processor,
            machine.memory_gigabytes,
            machine.kernel,
            machine.file_system,
            machine.load_before,
            machine.open_files
        ),
        format!("client: librdkafka {librdkafka}, for all {}", client.join(" ")),
        "CPU: user and system time of the brokers' processes alone; GB and MB: 10^9 and 10^6 bytes of values; 9 of 10: \
         the 90th percentile by nearest rank"
            .to_owned(),
    ]
}

fn spoilers(machine: &Machine) -> Vec<String> {
    let mut spoilers = Vec::new();
    if machine.is_busy() {
        spoilers.push("**other programs ran on this machine: look at the extremes before the medians**".to_owned());
    }
    if matches!(machine.profile.as_str(), "debug" | "dev") {
        spoilers.push("**this Odradek is not optimised as a release is: the figures are not its figures**".to_owned());
    }
    if machine.file_system == "tmpfs" {
        spoilers.push("**the data is in memory, not on a disk**".to_owned());
    }
    spoilers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Goal;

    fn machine() -> Machine {
        Machine {
            processors: 2,
            processor: "Test".to_owned(),
            memory_gigabytes: 8.0,
            kernel: "6.1".to_owned(),
            file_system: "ext4".to_owned(),
            java: "java".to_owned(),
            kafka: "4.3.1".to_owned(),
            profile: "dist".to_owned(),
            load_before: 0.1,
            open_files: 20_000,
        }
    }

    #[test]
    fn what_spoils_figures_is_said_above_them() {
        assert_eq!(spoilers(&machine()), Vec::<String>::new());
        let spoiled =
            Machine { file_system: "tmpfs".to_owned(), profile: "debug".to_owned(), load_before: 1.5, ..machine() };
        let text = Report::new(spoiled, vec!["one broker".to_owned()], Vec::new(), 1.0).markdown();
        assert_eq!(text.lines().filter(|line| line.starts_with("- **")).count(), 3, "{text}");
    }

    #[test]
    fn one_goal_that_is_not_met_is_enough() {
        let measure = |most| Measure::new("gap", "s").with_goal(Goal::MedianAtMost(most)).of(&[1.0], &[], |gap| *gap);
        let report = |measures| Report::new(machine(), Vec::new(), measures, 1.0);
        assert!(report(vec![measure(1.0)]).all_met());
        let both = report(vec![measure(1.0), measure(0.5)]);
        assert!(!both.all_met());
        assert!(both.markdown().contains("| ≤ 0.5 s | **no** |"));
    }
}
