// SPDX-License-Identifier: Apache-2.0
//! How work that holds a cluster ends before it is done: at its deadline, or because somebody ends this process. Either
//! way the work is dropped and its caller goes on, so that the cluster is looked at and removed.

use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens for whoever ends this process: a person, a terminal that goes away, or a CI whose time is up.
#[derive(Debug)]
pub struct Ending {
    interrupt: Signal,
    hang_up: Signal,
    terminate: Signal,
}

impl Ending {
    /// From now on these signals no longer end the process by themselves.
    pub fn listen() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits until somebody ends this process, and says who.
    pub async fn wait(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "interrupted",
            _ = self.hang_up.recv() => "the terminal went away",
            _ = self.terminate.recv() => "terminated",
        }
    }

    /// What `work` gives, unless it takes longer than `patience` or this process is told to end: then an error, and
    /// whether that is the end of the run.
    pub async fn or<T>(&mut self, patience: Duration, work: impl Future<Output = Result<T>>) -> (Result<T>, bool) {
        tokio::select! {
            outcome = tokio::time::timeout(patience, work) => {
                (outcome.unwrap_or_else(|_| Err(anyhow!("not done after {patience:?}"))), false)
            }
            who = self.wait() => (Err(anyhow!(who)), true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Signal as SignalName, getpid, kill_process};

    const LONG: Duration = Duration::from_mins(1);

    #[tokio::test]
    async fn work_that_hangs_ends_at_its_deadline_or_by_a_signal_and_the_caller_goes_on() {
        let mut ending = Ending::listen().unwrap();
        let (outcome, ended) = ending.or(LONG, async { Ok(7) }).await;
        assert_eq!((outcome.unwrap(), ended), (7, false));

        let (outcome, ended) = ending.or(Duration::from_millis(20), std::future::pending::<Result<()>>()).await;
        assert!(outcome.unwrap_err().to_string().contains("not done after 20ms"));
        assert!(!ended);

        for (signal, said) in [(SignalName::HUP, "terminal"), (SignalName::TERM, "terminated")] {
            kill_process(getpid(), signal).unwrap();
            let (outcome, ended) = ending.or(LONG, std::future::pending::<Result<()>>()).await;
            assert!(outcome.unwrap_err().to_string().contains(said));
            assert!(ended);
        }
    }
}
