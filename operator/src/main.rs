// SPDX-License-Identifier: Apache-2.0
//! The operator's binary: parses the command line, starts logging and the runtime.

use anyhow::Context as _;
use clap::Parser;
use odradek_operator::options::{Command, CommandLine, LogFormat};
use tracing_subscriber::EnvFilter;

fn main() -> anyhow::Result<()> {
    match CommandLine::parse().command {
        Command::Crds => {
            use std::io::Write;
            std::io::stdout().write_all(odradek_crds::render::all_definitions_yaml().as_bytes())?;
            Ok(())
        }
        Command::Run(options) => {
            let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,kube_runtime=warn"));
            let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
            match options.log_format {
                LogFormat::Text => logs.init(),
                LogFormat::Json => logs.json().flatten_event(true).init(),
            }
            // Reconciling waits far more than it computes: two threads keep memory small.
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .max_blocking_threads(4)
                .enable_all()
                .build()
                .context("cannot start the runtime")?
                .block_on(odradek_operator::run::run(*options))
        }
    }
}
