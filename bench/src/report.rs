// SPDX-License-Identifier: Apache-2.0
//! From runs to a table: medians, extremes, ratios, and the goals beside them. Pure.

use crate::load;
use crate::machine::Machine;
use crate::measure::{PARTITIONS, Plan, Run, Runs};
use serde::Serialize;
use std::fmt::Write;

/// The median and the extremes of one figure over all runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    fn of(mut figures: Vec<f64>) -> Self {
        assert!(!figures.is_empty(), "at least one run");
        figures.sort_by(f64::total_cmp);
        let (upper, lower) = (figures.len() / 2, (figures.len() - 1) / 2);
        Self { median: f64::midpoint(figures[lower], figures[upper]), min: figures[0], max: figures[figures.len() - 1] }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = if self.median < 10.0 { 3 } else { 1 };
        write!(formatter, "{:.digits$} ({:.digits$} to {:.digits$})", self.median, self.min, self.max)
    }
}

/// What Odradek has to reach, on the median.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Goal {
    /// At most this figure.
    AtMost(f64),
    /// At most this share of Apache Kafka's figure.
    AtMostOfKafka(f64),
}

#[derive(Clone, Debug, Serialize)]
struct Line {
    name: &'static str,
    unit: &'static str,
    odradek: Spread,
    kafka: Spread,
    /// Odradek's median over Apache Kafka's.
    ratio: f64,
    goal: Option<Goal>,
    met: Option<bool>,
}

/// Everything one invocation measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: Machine,
    settings: Vec<String>,
    plan: Plan,
    lines: Vec<Line>,
    runs: Runs,
}

impl Report {
    pub(crate) fn new(machine: Machine, plan: &Plan, runs: &Runs) -> Self {
        let line = |name, unit, figure: fn(&Run) -> f64, goal: Option<Goal>| {
            let odradek = Spread::of(runs.odradek.iter().map(figure).collect());
            let kafka = Spread::of(runs.kafka.iter().map(figure).collect());
            let ratio = odradek.median / kafka.median;
            let met = goal.map(|goal| match goal {
                Goal::AtMost(most) => odradek.median <= most,
                Goal::AtMostOfKafka(most) => ratio <= most,
            });
            Line { name, unit, odradek, kafka, ratio, goal, met }
        };
        let lines = vec![
            line(
                "start to first acknowledged record of a created topic",
                "s",
                |run| run.first_ack_seconds,
                Some(Goal::AtMost(0.15)),
            ),
            line("idle memory (RSS) after one group read", "MB", |run| run.idle_megabytes, Some(Goal::AtMost(25.0))),
            line(
                "broker CPU per GB produced",
                "s",
                |run| run.produce_cpu_seconds_per_gigabyte,
                Some(Goal::AtMostOfKafka(0.5)),
            ),
            line(
                "broker CPU per GB consumed",
                "s",
                |run| run.consume_cpu_seconds_per_gigabyte,
                Some(Goal::AtMostOfKafka(0.6)),
            ),
            line("produced", "MB/s", |run| run.produce_megabytes_per_second, None),
            line("consumed", "MB/s", |run| run.consume_megabytes_per_second, None),
            line("peak memory (RSS)", "MB", |run| run.peak_megabytes, None),
        ];
        Self { settings: settings(&machine, plan), machine, plan: plan.clone(), lines, runs: runs.clone() }
    }

    pub(crate) fn all_met(&self) -> bool {
        self.lines.iter().all(|line| line.met != Some(false))
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        for setting in &self.settings {
            let _ = writeln!(text, "- {setting}");
        }
        let _ = writeln!(
            text,
            "\n| median (min to max) | unit | Odradek | Apache Kafka | ratio | goal | met |\n\
             |--|--|--|--|--|--|--|"
        );
        for line in &self.lines {
            let goal = match line.goal {
                Some(Goal::AtMost(most)) => format!("≤ {most} {}", line.unit),
                Some(Goal::AtMostOfKafka(most)) => format!("≤ {most}×"),
                None => String::new(),
            };
            let met = match line.met {
                Some(true) => "yes",
                Some(false) => "**no**",
                None => "",
            };
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {:.3} | {goal} | {met} |",
                line.name, line.unit, line.odradek, line.kafka, line.ratio
            );
        }
        text
    }
}

fn settings(machine: &Machine, plan: &Plan) -> Vec<String> {
    let producer: Vec<String> = load::PRODUCER.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let (_, librdkafka) = rdkafka::util::get_rdkafka_version();
    let mut settings = vec![
        format!(
            "Odradek {} (`odradek dev`, profile {}) and Apache Kafka {} (one KRaft node, its default settings, \
             heap 1 GB, G1, as its start script sets; {})",
            env!("CARGO_PKG_VERSION"),
            machine.profile,
            machine.kafka,
            machine.java
        ),
        format!(
            "machine: {} × {}, {:.0} GB memory, Linux {}, data on {}; load before the first run {:.2}",
            machine.processors,
            machine.processor,
            machine.memory_gigabytes,
            machine.kernel,
            machine.file_system,
            machine.load_before
        ),
        match &plan.pinning {
            Some((broker, client)) => {
                format!("broker pinned to processor {broker}, client to processor {client}")
            }
            None => "one processor for all".into(),
        },
        format!(
            "{} runs of each, in alternating order, the broker started anew and on an empty folder for each; \
             {} MB written and read per run after a warm-up of {} MB; memory after {} s idle",
            plan.runs, plan.megabytes, plan.warm_up_megabytes, plan.idle_seconds
        ),
        format!(
            "client: librdkafka {librdkafka}, values of {} bytes, {PARTITIONS} partitions, acks=all {}; \
             consumer: its defaults, reading what has just been written (from the page cache)",
            load::VALUE_BYTES,
            producer.join(" ")
        ),
        "CPU: user and system time of the broker's process alone; GB and MB: 10^9 and 10^6 bytes of values".to_owned(),
    ];
    if machine.is_busy() {
        settings.push("**other programs ran on this machine: look at the extremes before the medians**".to_owned());
    }
    if matches!(machine.profile.as_str(), "debug" | "dev") {
        settings.push("**this Odradek is not optimised as a release is: the figures are not its figures**".to_owned());
    }
    if machine.file_system == "tmpfs" {
        settings.push("**the data is in memory, not on a disk**".to_owned());
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_of_even_and_odd_counts() {
        let odd = Spread::of(vec![3.0, 1.0, 2.0]);
        assert_eq!((odd.median, odd.min, odd.max), (2.0, 1.0, 3.0));
        let even = Spread::of(vec![4.0, 1.0, 2.0, 3.0]);
        assert_eq!((even.median, even.min, even.max), (2.5, 1.0, 4.0));
    }

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
        }
    }

    #[test]
    fn what_spoils_figures_is_said_above_them() {
        let plan = Plan::new(1, 1, true);
        let quiet = settings(&machine(), &plan);
        assert!(!quiet.iter().any(|line| line.starts_with("**")), "{quiet:#?}");
        let spoiled =
            Machine { file_system: "tmpfs".to_owned(), profile: "debug".to_owned(), load_before: 1.5, ..machine() };
        let said = settings(&spoiled, &plan);
        assert_eq!(said.iter().filter(|line| line.starts_with("**")).count(), 3, "{said:#?}");
    }

    #[test]
    fn goals_are_judged_by_medians() {
        let run = |scale: f64| Run {
            first_ack_seconds: 0.2 * scale,
            idle_megabytes: 20.0 * scale,
            produce_cpu_seconds_per_gigabyte: scale,
            consume_cpu_seconds_per_gigabyte: scale,
            produce_megabytes_per_second: 1.0,
            consume_megabytes_per_second: 1.0,
            peak_megabytes: 1.0,
        };
        let runs = Runs { odradek: vec![run(1.0)], kafka: vec![run(1.8)] };
        let report = Report::new(machine(), &Plan::new(1, 1, true), &runs);
        let met: Vec<Option<bool>> = report.lines.iter().map(|line| line.met).collect();
        assert_eq!(met, [Some(false), Some(true), Some(false), Some(true), None, None, None]);
        assert!(!report.all_met());
        assert!(report.markdown().contains("| ≤ 0.15 s | **no** |"));
    }
}
