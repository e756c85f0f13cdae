// SPDX-License-Identifier: Apache-2.0
//! What a script of tools printed, without what differs from run to run, and how two such transcripts differ. A difference
//! is allowed by a row of a table in the documentation, and a row that allows nothing is an error: so the table stays true.
//!
//! The words in which a broker refuses are its own: of a tool that failed, the status, the lines up to their first colon
//! and the names of the exceptions are kept. Must not know which tools there are.

use crate::ToolRun;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeSet;
use std::fmt::Write;

/// One run of a tool: a name for people, and what it printed, in lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What the step is, different for each of a script.
    pub name: String,
    /// What is compared.
    pub lines: Vec<String>,
}

/// What one cluster calls its own.
#[derive(Clone, Debug, Default)]
pub struct OwnNames {
    /// Each broker's address, `host:port`.
    pub addresses: Vec<String>,
    /// Where the folders of the brokers are.
    pub folder: String,
}

/// What ends a path in the output of a tool.
const AFTER_A_PATH: [char; 6] = ['"', '\'', ',', ' ', '\t', ';'];

impl OwnNames {
    /// The step of this run.
    pub fn step(&self, name: &str, run: &ToolRun) -> Step {
        let mut lines = Vec::new();
        if run.status == 0 {
            lines.extend(run.stdout.lines().map(|line| self.without_own_names(before_the_words(line))));
        } else {
            lines.push(format!("ended with {}", run.status));
            lines.extend(run.stdout.lines().filter(|line| !is_of_a_stack(line)).map(before_the_reason));
            lines.extend(exceptions(&format!("{}\n{}", run.stdout, run.stderr)));
        }
        lines.retain(|line| !line.is_empty());
        Step { name: name.to_owned(), lines }
    }

    fn without_own_names(&self, line: &str) -> String {
        let mut line = line.to_owned();
        for address in &self.addresses {
            line = line.replace(address, "<broker>");
        }
        while !self.folder.is_empty()
            && let Some(start) = line.find(&self.folder)
        {
            let length = line[start..].find(AFTER_A_PATH).unwrap_or(line.len() - start);
            line.replace_range(start..start + length, "<folder>");
        }
        let ports: Vec<&str> = self.addresses.iter().filter_map(|address| address.rsplit(':').next()).collect();
        let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        for at in 0..words.len() {
            if ports.contains(&words[at].as_str()) {
                "<port>".clone_into(&mut words[at]);
            }
            if at > 0 && words[at - 1] == "TopicId:" || at > 1 && words[at - 2..at] == ["Cluster", "ID:"] {
                "<id>".clone_into(&mut words[at]);
            }
            // The order in which replicas came in sync; and that of settings, which is none.
            if at > 0 && ["Isr:", "Elr:", "Configs:"].contains(&words[at - 1].as_str()) {
                words[at] = in_order(&words[at]);
            }
        }
        // A coordinator is named with its id, and which broker it is was chosen by chance.
        let line = words.join(" ");
        (0..=9).fold(line, |line, id| line.replace(&format!("<broker> ({id})"), "<broker>"))
    }
}

fn in_order(list: &str) -> String {
    let mut items: Vec<&str> = list.split(',').collect();
    items.sort_unstable();
    items.join(",")
}

/// Whether a line is one of an exception and its stack: their words are kept otherwise.
fn is_of_a_stack(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("at ") || line.starts_with("Caused by") || line.starts_with("... ") || is_exception(line)
}

fn is_exception(line: &str) -> bool {
    line.split([':', ' ']).next().is_some_and(|word| word.contains('.') && word.ends_with("Exception"))
}

/// A tool that succeeds may still say that something was refused: the exception's name stays, the broker's words do not.
fn before_the_words(line: &str) -> &str {
    line.find("Exception: ").map_or(line, |at| &line[..at + "Exception".len()])
}

fn before_the_reason(line: &str) -> String {
    let kept = line.split(':').next().unwrap_or_default();
    kept.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The names of the exceptions in `text`, each once, in order. What only wraps another says nothing.
fn exceptions(text: &str) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let words = text.split(|c: char| !(c.is_alphanumeric() || "._$".contains(c)));
    words
        .filter(|word| word.contains('.') && word.ends_with("Exception"))
        .filter_map(|word| word.rsplit('.').next())
        .filter(|name| !["ExecutionException", "CompletionException", "RuntimeException"].contains(name))
        .filter(|name| seen.insert((*name).to_owned()))
        .map(str::to_owned)
        .collect()
}

/// A difference that is wanted: lines of a step with these words may be in one transcript only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// The step's name; a trailing `*` stands for any end.
    pub step: String,
    /// The words that such a line has; `*` is any line.
    pub words: String,
}

impl Allowed {
    /// What the table of `document` whose head begins with `head` allows. Its columns are steps and words, one or several
    /// of each in code spans, and a reason.
    ///
    /// # Errors
    /// When there is no such table, or a row of it lacks a column.
    pub fn of_table(document: &str, head: &str) -> Result<Vec<Self>> {
        let mut lines = document.lines().skip_while(|line| !line.starts_with(head));
        lines.next().with_context(|| format!("no table that begins with {head:?}"))?;
        let mut allowed = Vec::new();
        for row in lines.skip(1).take_while(|line| line.starts_with('|')) {
            let columns: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
            let [steps, words, reason] = columns[..] else { bail!("a row with other than three columns: {row}") };
            let (steps, words) = (code_spans(steps), code_spans(words));
            ensure!(!steps.is_empty() && !words.is_empty() && !reason.is_empty(), "an empty column: {row}");
            for step in &steps {
                allowed.extend(words.iter().map(|words| Self { step: step.clone(), words: words.clone() }));
            }
        }
        Ok(allowed)
    }

    fn allows(&self, step: &str, line: &str) -> bool {
        let is_step = match self.step.strip_suffix('*') {
            Some(begin) => step.starts_with(begin),
            None => self.step == step,
        };
        is_step && (self.words == "*" || line.contains(&self.words))
    }
}

fn code_spans(column: &str) -> Vec<String> {
    column.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Compares two transcripts of the same steps.
///
/// # Errors
/// Names every line that only one of them has and that no row allows, every row that allowed nothing, and steps that are
/// not the same.
pub fn compare(ours: &[Step], theirs: &[Step], allowed: &[Allowed]) -> Result<()> {
    let mut used = BTreeSet::new();
    let mut report = String::new();
    let same = ours.iter().zip(theirs).take_while(|(our, their)| our.name == their.name).count();
    if same < ours.len().max(theirs.len()) {
        let name = |steps: &[Step]| steps.get(same).map_or("the end", |step| &step.name).to_owned();
        writeln!(report, "not the same steps: {} of ours and {} of theirs", name(ours), name(theirs))?;
    }
    for (our, their) in ours.iter().zip(theirs).take(same) {
        let mut differing: Vec<(char, &str)> = only_in(&our.lines, &their.lines).map(|line| ('+', line)).collect();
        differing.extend(only_in(&their.lines, &our.lines).map(|line| ('-', line)));
        if differing.is_empty() && our.lines != their.lines {
            differing.push(('+', "(the same lines in another order)"));
        }
        for (side, line) in differing {
            let rows = allowed.iter().enumerate().filter(|(_, row)| row.allows(&our.name, line));
            let rows: Vec<usize> = rows.map(|(at, _)| at).collect();
            if rows.is_empty() {
                writeln!(report, "{}:\n  {side} {line}", our.name)?;
            }
            used.extend(rows);
        }
    }
    for (at, row) in allowed.iter().enumerate().filter(|(at, _)| !used.contains(at)) {
        writeln!(report, "row {at} of the table allows what does not happen: {row:?}")?;
    }
    ensure!(report.is_empty(), "differences (+ only ours, - only Apache Kafka's):\n{report}");
    Ok(())
}

/// The lines of `some` beyond those that `others` have too, counted.
fn only_in<'a>(some: &'a [String], others: &[String]) -> impl Iterator<Item = &'a str> {
    let mut left: Vec<&String> = others.iter().collect();
    some.iter().filter_map(move |line| match left.iter().position(|other| *other == line) {
        Some(at) => {
            left.swap_remove(at);
            None
        }
        None => Some(line.as_str()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> OwnNames {
        OwnNames { addresses: vec!["127.0.0.1:20001".to_owned()], folder: "/tmp/x".to_owned() }
    }

    fn run(status: i32, stdout: &str, stderr: &str) -> ToolRun {
        ToolRun { status, stdout: stdout.to_owned(), stderr: stderr.to_owned() }
    }

    fn step(name: &str, lines: &[&str]) -> Step {
        Step { name: name.to_owned(), lines: lines.iter().map(|line| (*line).to_owned()).collect() }
    }

    #[test]
    fn what_differs_from_run_to_run_is_taken_out() {
        let printed = "Error: org.x.SomeException: words\nTopic: t\tTopicId: abc\tIsr: 2,0\tElr: \tLastKnownElr: \n\nCluster ID: xyz\n\
                       1  127.0.0.1  20001  a\ng 127.0.0.1:20001  (2)   range\n{\"logDir\":\"/tmp/x/data/b-1\",\"n\":1}\n";
        let expected = [
            "Error: org.x.SomeException",
            "Topic: t TopicId: <id> Isr: 0,2 Elr: LastKnownElr:",
            "Cluster ID: <id>",
            "1 127.0.0.1 <port> a",
            "g <broker> range",
            "{\"logDir\":\"<folder>\",\"n\":1}",
        ];
        assert_eq!(names().step("s", &run(0, printed, "noise")), step("s", &expected));
    }

    #[test]
    fn of_a_failure_the_words_of_the_broker_are_left_out() {
        let stdout = "Error while asking : the broker's words\nError: t-0: more words\n";
        let stderr = "java.util.concurrent.ExecutionException: org.apache.kafka.common.errors.NoSuchException: words\n\
                      \tat x.Y.z(Y.java:1)\nCaused by: org.apache.kafka.common.errors.NoSuchException: words\n";
        let expected = ["ended with 1", "Error while asking", "Error", "NoSuchException"];
        assert_eq!(names().step("s", &run(1, stdout, stderr)), step("s", &expected));
    }

    #[test]
    fn a_difference_needs_a_row_and_a_row_a_difference() {
        let (ours, theirs) = ([step("s", &["a", "b", "ours"])], [step("s", &["a", "b", "theirs"])]);
        let row = |words: &str| Allowed { step: "s*".to_owned(), words: words.to_owned() };
        assert!(compare(&ours, &ours, &[]).is_ok());
        let complaint = compare(&ours, &theirs, &[row("ours")]).unwrap_err().to_string();
        assert!(complaint.contains("- theirs") && !complaint.contains("+ ours"), "{complaint}");
        assert!(compare(&ours, &theirs, &[row("ours"), row("theirs")]).is_ok());
        assert!(compare(&ours, &ours, &[row("ours")]).unwrap_err().to_string().contains("does not happen"));
        let turned = [step("s", &["b", "a", "ours"])];
        assert!(compare(&ours, &turned, &[]).unwrap_err().to_string().contains("another order"));
    }

    #[test]
    fn a_table_of_the_documentation_is_read() {
        let document = "text\n\n| step | words | why |\n|---|---|---|\n| `s` | `a b`, `c` | because |\n\nmore | text\n";
        let row = |words: &str| Allowed { step: "s".to_owned(), words: words.to_owned() };
        assert_eq!(Allowed::of_table(document, "| step |").unwrap(), [row("a b"), row("c")]);
        assert!(Allowed::of_table(document, "| none |").is_err());
        for row in ["| `s` | `a` |", "| `s` | a | why |", "| s | `a` | why |"] {
            assert!(Allowed::of_table(&format!("| step |\n|---|\n{row}\n"), "| step |").is_err(), "{row}");
        }
    }
}
