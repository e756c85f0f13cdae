// SPDX-License-Identifier: Apache-2.0
//! `odradek`, the user's tool. This file parses the command line; each verb has its file. It must not know how a
//! broker works inside: it composes libraries.
mod allocator;
mod dev;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Kafka-compatible streaming that belongs to Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "odradek", version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run brokers on this machine, ready for Kafka clients at once.
    Dev(dev::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.verb {
        Verb::Dev(arguments) => dev::run(arguments),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            let line = format!("{error:#}").replace('\n', " ");
            let _ = writeln!(std::io::stderr(), "odradek: {line}");
            ExitCode::FAILURE
        }
    }
}
