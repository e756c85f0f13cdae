// SPDX-License-Identifier: Apache-2.0
//! Where log lines go: stderr, as text or JSON, filtered. Nothing else.
use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::MakeWriterExt as _;

use crate::config::{LogConfig, LogFormat};
use crate::incarnation;

/// kube reports each request that fails as an error of its own. Who made the request says it too, and knows what it means.
/// What is configured comes later, and wins.
const QUIET: &str = "kube_client=off";

/// Why logging could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter is not one.
    #[error("{0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Something else in this process logs already.
    #[error("{0}")]
    Taken(#[from] tracing_subscriber::util::TryInitError),
}

/// Starts logging for the process. RUST_LOG, if set, wins over the configured level.
pub fn start(config: &LogConfig) -> Result<(), LoggingError> {
    use tracing_subscriber::util::SubscriberInitExt as _;
    let level = match std::env::var("RUST_LOG") {
        Ok(level) if !level.is_empty() => level,
        _ => config.level.clone().unwrap_or_else(|| "info".to_owned()),
    };
    let filter = EnvFilter::try_new(format!("{QUIET},{level}"))?;
    // What a killed broker stumbles over while its threads end is no news: a process would have said nothing.
    let writer = std::io::stderr.with_filter(|_| !incarnation::is_killed_here());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match config.format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).finish().try_init()?,
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init()?,
    }
    Ok(())
}
