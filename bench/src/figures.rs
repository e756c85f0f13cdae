// SPDX-License-Identifier: Apache-2.0
//! What was measured, how it is summed up, and what it has to reach. Pure; knows no broker.

use serde::Serialize;
use std::fmt::{Display, Formatter};

/// What Odradek has to reach.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    /// The median is at most this.
    MedianAtMost(f64),
    /// Nine of ten values are at most this.
    NinetiethAtMost(f64),
    /// Every value is at most this.
    EveryAtMost(f64),
    /// The median is at least this.
    MedianAtLeast(f64),
    /// The median is at most this share of Apache Kafka's.
    MedianAtMostOfKafka(f64),
}

/// The values of one figure, summed up.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    median: f64,
    /// Nine of ten values are at most this one.
    ninetieth: f64,
    min: f64,
    max: f64,
    count: usize,
}

impl Spread {
    fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (first, last) = (*sorted.first()?, *sorted.last()?);
        let count = sorted.len();
        let median = f64::midpoint(sorted[(count - 1) / 2], sorted[count / 2]);
        // The nearest rank: the ninth of ten.
        let ninetieth = sorted[(count * 9).div_ceil(10) - 1];
        Some(Self { median, ninetieth, min: first, max: last, count })
    }
}

impl Display for Spread {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        let digits = if self.median.abs() < 10.0 { 3 } else { 1 };
        if self.count == 1 {
            return write!(formatter, "{:.digits$} (1 run)", self.median);
        }
        let (median, min, max, count) = (self.median, self.min, self.max, self.count);
        write!(formatter, "{median:.digits$} ({min:.digits$} to {max:.digits$}, {count} runs)")
    }
}

/// One figure of both brokers, or of one of them.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measure {
    /// Of what.
    pub(crate) name: String,
    /// Of each value.
    pub(crate) unit: &'static str,
    /// One value for each run.
    pub(crate) odradek: Vec<f64>,
    /// None: Apache Kafka is not asked.
    pub(crate) kafka: Vec<f64>,
    /// What to reach; none: the figure is there to understand others by.
    pub(crate) goals: Vec<Goal>,
}

/// A measure with what follows from it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Line {
    #[serde(flatten)]
    measure: Measure,
    odradek_spread: Option<Spread>,
    kafka_spread: Option<Spread>,
    /// Odradek's median over Apache Kafka's.
    ratio: Option<f64>,
    /// Whether each goal is met, in their order.
    met: Vec<bool>,
}

impl Measure {
    pub(crate) fn new(name: impl Into<String>, unit: &'static str) -> Self {
        Self { name: name.into(), unit, odradek: Vec::new(), kafka: Vec::new(), goals: Vec::new() }
    }

    pub(crate) fn with_goal(mut self, goal: Goal) -> Self {
        self.goals.push(goal);
        self
    }

    /// The values of one figure of all runs.
    pub(crate) fn of<R>(mut self, odradek: &[R], kafka: &[R], figure: impl Fn(&R) -> f64) -> Self {
        self.odradek = odradek.iter().map(&figure).collect();
        self.kafka = kafka.iter().map(&figure).collect();
        self
    }
}

impl Line {
    pub(crate) fn new(measure: Measure) -> Self {
        let (odradek, kafka) = (Spread::of(&measure.odradek), Spread::of(&measure.kafka));
        let ratio = odradek.zip(kafka).map(|(odradek, kafka)| odradek.median / kafka.median);
        let meets = |goal: &Goal| {
            let Some(odradek) = odradek else { return false };
            match *goal {
                Goal::MedianAtMost(most) => odradek.median <= most,
                Goal::NinetiethAtMost(most) => odradek.ninetieth <= most,
                Goal::EveryAtMost(most) => odradek.max <= most,
                Goal::MedianAtLeast(least) => odradek.median >= least,
                Goal::MedianAtMostOfKafka(most) => ratio.is_some_and(|ratio| ratio <= most),
            }
        };
        let met = measure.goals.iter().map(meets).collect();
        Self { measure, odradek_spread: odradek, kafka_spread: kafka, ratio, met }
    }

    pub(crate) fn all_met(&self) -> bool {
        self.met.iter().all(|met| *met)
    }

    /// A row of [`TABLE_HEAD`].
    pub(crate) fn row(&self) -> String {
        let spread = |spread: Option<Spread>| spread.map_or("–".to_owned(), |spread| spread.to_string());
        let unit = self.measure.unit;
        let goal = |goal: &Goal| match *goal {
            Goal::MedianAtMost(most) => format!("≤ {most} {unit}"),
            Goal::NinetiethAtMost(most) => {
                let ninetieth = self.odradek_spread.map_or(f64::NAN, |spread| spread.ninetieth);
                format!("9 of 10 ≤ {most} {unit} (is {ninetieth:.3})")
            }
            Goal::EveryAtMost(most) => format!("each ≤ {most} {unit}"),
            Goal::MedianAtLeast(least) => format!("≥ {least} {unit}"),
            Goal::MedianAtMostOfKafka(most) => format!("≤ {most}×"),
        };
        let goals: Vec<String> = self.measure.goals.iter().map(goal).collect();
        let met: Vec<&str> = self.met.iter().map(|met| if *met { "yes" } else { "**no**" }).collect();
        format!(
            "| {} | {unit} | {} | {} | {} | {} | {} |",
            self.measure.name,
            spread(self.odradek_spread),
            spread(self.kafka_spread),
            self.ratio.filter(|ratio| ratio.is_finite()).map_or("–".to_owned(), |ratio| format!("{ratio:.3}")),
            goals.join(", "),
            met.join(", ")
        )
    }
}

/// The head of the table that [`Line::row`] makes rows of.
pub(crate) const TABLE_HEAD: &str = "| median (min to max) | unit | Odradek | Apache Kafka | ratio | goal | met |\n\
                                     |--|--|--|--|--|--|--|";

#[cfg(test)]
mod tests {
    use super::*;

    fn measure(odradek: &[f64], kafka: &[f64], goal: Goal) -> Line {
        let measure = Measure::new("gap", "s").with_goal(goal).of(odradek, kafka, |value| *value);
        Line::new(measure)
    }

    #[test]
    fn a_spread_of_even_and_odd_counts() {
        let odd = Spread::of(&[3.0, 1.0, 2.0]).unwrap();
        assert_eq!((odd.median, odd.ninetieth, odd.min, odd.max), (2.0, 3.0, 1.0, 3.0));
        let ten: Vec<f64> = (1..=10).map(f64::from).collect();
        let even = Spread::of(&ten).unwrap();
        assert_eq!((even.median, even.ninetieth, even.max), (5.5, 9.0, 10.0));
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn goals_are_judged_by_what_they_name() {
        let ten: Vec<f64> = (1..=10).map(f64::from).collect();
        let met = |goal| measure(&ten, &[11.0], goal).all_met();
        assert!(met(Goal::MedianAtMost(5.5)) && !met(Goal::MedianAtMost(5.4)));
        assert!(met(Goal::NinetiethAtMost(9.0)) && !met(Goal::NinetiethAtMost(8.9)));
        assert!(met(Goal::EveryAtMost(10.0)) && !met(Goal::EveryAtMost(9.9)));
        assert!(met(Goal::MedianAtLeast(5.5)) && !met(Goal::MedianAtLeast(5.6)));
        assert!(met(Goal::MedianAtMostOfKafka(0.5)) && !met(Goal::MedianAtMostOfKafka(0.49)));
        assert!(!measure(&[], &[1.0], Goal::MedianAtMost(1.0)).all_met(), "nothing was measured");
        assert!(!measure(&[1.0], &[], Goal::MedianAtMostOfKafka(1.0)).all_met(), "nothing to compare with");
    }

    #[test]
    fn a_row_says_how_many_runs_there_were_and_what_is_not_there() {
        let row = measure(&[1.0, 2.0], &[], Goal::MedianAtMost(1.0)).row();
        assert_eq!(row, "| gap | s | 1.500 (1.000 to 2.000, 2 runs) | – | – | ≤ 1 s | **no** |");
    }
}
