// SPDX-License-Identifier: Apache-2.0
//! `odradek dev broker`: shows the brokers of a running `odradek dev`, and makes single ones fail. It must not know how:
//! it asks the process that runs them.
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::Output;
use super::cluster::BrokerRow;
use super::control::{self, CONTROL_VARIABLE, Request};

const EXAMPLES: &str = "\
Examples:
  How the brokers of the `odradek dev` on this machine are:
    odradek dev broker list

  Kill one as kill -9 would, and start it again:
    odradek dev broker kill 1
    odradek dev broker restart 1

  Stop one where it is, as SIGSTOP would: connections stay open, nothing is answered:
    odradek dev broker pause 2
    odradek dev broker resume 2

  Which one is the controller:
    odradek dev broker list --output json | jq '.[] | select(.controller) | .id'

With several `odradek dev` at once, --control says which; its ready line in JSON has the path.";

/// Look at the brokers of a running `odradek dev`, and make single ones fail.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    /// Socket of the `odradek dev` that is meant; by default the only one that runs.
    #[arg(long, value_name = "PATH", env = CONTROL_VARIABLE, global = true)]
    control: Option<PathBuf>,
    /// Form of the answer.
    #[arg(long, value_enum, default_value_t = Output::Text, global = true)]
    output: Output,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum Verb {
    /// Show each broker: its rack, state, address, whether it is the controller, partitions that it leads.
    List,
    /// End a broker at once, as kill -9 does.
    Kill {
        /// The broker's id.
        id: i32,
    },
    /// Stop a broker where it is, as SIGSTOP does.
    Pause {
        /// The broker's id.
        id: i32,
    },
    /// Let a paused broker go on, as SIGCONT does.
    Resume {
        /// The broker's id.
        id: i32,
    },
    /// Start a broker again and wait until it serves; one that runs is killed first.
    Restart {
        /// The broker's id.
        id: i32,
    },
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let request = match arguments.verb {
        Verb::List => Request::List {},
        Verb::Kill { id } => Request::Kill { broker: id },
        Verb::Pause { id } => Request::Pause { broker: id },
        Verb::Resume { id } => Request::Resume { broker: id },
        Verb::Restart { id } => Request::Restart { broker: id },
    };
    let stream = control::connect(arguments.control.as_deref()).await?;
    let rows = control::ask(stream, request).await?;
    let mut out = std::io::stdout().lock();
    match arguments.output {
        Output::Json => writeln!(out, "{}", serde_json::to_string(&rows)?)?,
        Output::Text => out.write_all(table(&rows).as_bytes())?,
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// The rows in columns, with a line of titles.
fn table(rows: &[BrokerRow]) -> String {
    let titles = ["ID", "RACK", "STATE", "ADDRESS", "CONTROLLER", "LEADERS"].map(str::to_owned);
    let mut cells = vec![titles];
    cells.extend(rows.iter().map(|row| {
        [
            row.id.to_string(),
            row.rack.clone().unwrap_or_else(|| "-".to_owned()),
            row.state.clone(),
            row.address.clone(),
            if row.controller { "yes" } else { "-" }.to_owned(),
            row.leaders.to_string(),
        ]
    }));
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for row in &cells {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let _ = write!(line, "{cell:<width$}  ", width = width(column));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    for row in rows {
        if let Some(reason) = &row.reason {
            let _ = writeln!(text, "broker {} stopped by itself: {reason}", row.id);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_line_per_broker_and_a_reason_where_there_is_one() {
        let row = |id, rack: Option<&str>, state: &str, reason: Option<&str>| BrokerRow {
            id,
            rack: rack.map(str::to_owned),
            state: state.to_owned(),
            address: format!("127.0.0.1:{}", 9092 + id),
            data_dir: String::new(),
            controller: id == 0,
            leaders: 3,
            reason: reason.map(str::to_owned),
        };
        let text = table(&[row(0, Some("zone-a"), "running", None), row(1, None, "stopped", Some("disk full"))]);
        let expected = "\
ID  RACK    STATE    ADDRESS         CONTROLLER  LEADERS
0   zone-a  running  127.0.0.1:9092  yes         3
1   -       stopped  127.0.0.1:9093  -           3
broker 1 stopped by itself: disk full
";
        assert_eq!(text, expected);
    }
}
