// SPDX-License-Identifier: Apache-2.0
//! Which broker says that it is the active controller, and of which epoch: asked of each broker's metrics, again and
//! again, and kept as a history. It must not know which faults there are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::wait::until;

/// How often each broker is asked.
const PERIOD: Duration = Duration::from_millis(50);
/// A broker that says nothing for so long says nothing this time.
const ANSWER_PATIENCE: Duration = Duration::from_millis(500);
/// The longest answer that is read: far more than a few topics' series.
const ANSWER_BYTES_MAX: u64 = 4 << 20;
/// What is older than this is nobody's word any more.
const FRESH: Duration = Duration::from_secs(1);

const LEADS: &str = "kafka_controller_kafkacontroller_activecontrollercount";
const EPOCH: &str = "odradek_controller_epoch";

/// What one broker said at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    pub broker: u8,
    /// When the answer was there.
    pub at: Instant,
    pub leads: bool,
    pub epoch: i64,
}

/// Asks until it is dropped.
#[derive(Debug)]
pub struct Leadership {
    said: Arc<Mutex<Vec<Said>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Leadership {
    /// Begins to ask the brokers, counted from 0, at these addresses. Each time that one says something new, that is a
    /// line in `file`.
    pub fn watch(brokers: &[SocketAddr], file: &Path) -> Result<Self> {
        let begun = Instant::now();
        let file = Arc::new(File::create(file)?);
        let (said, stop) = (Arc::<Mutex<Vec<Said>>>::default(), Arc::<AtomicBool>::default());
        let mut threads = Vec::new();
        for (broker, address) in (0..).zip(brokers.iter().copied()) {
            let (said, stop, file) = (Arc::clone(&said), Arc::clone(&stop), Arc::clone(&file));
            let mut before = None;
            let ask_again_and_again = move || {
                while !stop.load(Ordering::Relaxed) {
                    let answer = ask(address).ok();
                    let at = Instant::now();
                    if let Some((leads, epoch)) = answer {
                        lock(&said).push(Said { broker, at, leads, epoch });
                    }
                    if before.replace(answer) != Some(answer) {
                        let seconds = at.duration_since(begun).as_secs_f64();
                        let word =
                            answer.map_or("silent".to_owned(), |(leads, epoch)| format!("leads={leads} epoch={epoch}"));
                        // It is for people who look at a failure; a full disk fails louder elsewhere.
                        let _ = (&*file).write_all(format!("{seconds:.3} broker {broker} {word}\n").as_bytes());
                    }
                    pause();
                }
            };
            threads.push(std::thread::Builder::new().name(format!("asks-{broker}")).spawn(ask_again_and_again)?);
        }
        Ok(Self { said, stop, threads })
    }

    /// Who says now that it leads, with its epoch.
    pub fn leaders(&self) -> Vec<(u8, i64)> {
        let said = lock(&self.said);
        let mut leaders = Vec::new();
        let brokers = said.iter().map(|one| one.broker).max().map_or(0, |last| last + 1);
        for broker in 0..brokers {
            let newest = said.iter().rev().find(|one| one.broker == broker);
            if let Some(one) = newest.filter(|one| one.leads && one.at.elapsed() < FRESH) {
                leaders.push((broker, one.epoch));
            }
        }
        leaders
    }

    /// Waits until exactly one broker says that it leads, and returns it.
    pub async fn one(&self, patience: Duration) -> Result<(u8, i64)> {
        until("exactly one broker is the active controller", patience, async || {
            let leaders = self.leaders();
            ensure!(leaders.len() == 1, "these say that they are, with epochs: {leaders:?}");
            Ok(leaders[0])
        })
        .await
    }

    /// Waits until a broker says that it leads an epoch above `epoch`, and returns the first that said so.
    pub async fn after(&self, epoch: i64, patience: Duration) -> Result<Said> {
        until(&format!("a broker leads an epoch above {epoch}"), patience, async || {
            let said = lock(&self.said);
            let first = said.iter().find(|one| one.leads && one.epoch > epoch);
            first.copied().with_context(|| format!("now these lead: {:?}", newest_leaders(&said)))
        })
        .await
    }

    /// The brokers that ever said that they lead.
    pub fn ever(&self) -> BTreeSet<u8> {
        lock(&self.said).iter().filter(|one| one.leads).map(|one| one.broker).collect()
    }

    /// Whether no two brokers ever said that they lead the same epoch.
    ///
    /// # Errors
    /// Who did.
    pub fn check(&self) -> Result<()> {
        check(&lock(&self.said))
    }
}

impl Drop for Leadership {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // It asks at most once more.
            let _ = thread.join();
        }
    }
}

fn lock(said: &Mutex<Vec<Said>>) -> MutexGuard<'_, Vec<Said>> {
    said.lock().unwrap_or_else(PoisonError::into_inner)
}

#[expect(clippy::disallowed_methods, reason = "a thread of its own that does nothing but ask")]
fn pause() {
    std::thread::sleep(PERIOD);
}

fn newest_leaders(said: &[Said]) -> Vec<(u8, i64)> {
    said.iter().rev().take(20).filter(|one| one.leads).map(|one| (one.broker, one.epoch)).collect()
}

fn check(said: &[Said]) -> Result<()> {
    let mut leader_of = BTreeMap::new();
    for one in said.iter().filter(|one| one.leads && one.epoch > 0) {
        let first = *leader_of.entry(one.epoch).or_insert(one.broker);
        ensure!(
            first == one.broker,
            "the brokers {first} and {} both say that they lead epoch {}",
            one.broker,
            one.epoch
        );
    }
    Ok(())
}

/// One broker's word: whether it leads, and the highest epoch that it knows.
fn ask(address: SocketAddr) -> Result<(bool, i64)> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_PATIENCE)?;
    stream.set_read_timeout(Some(ANSWER_PATIENCE))?;
    stream.set_write_timeout(Some(ANSWER_PATIENCE))?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: broker\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut text)?;
    let number = |series: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
        line.trim().parse::<f64>().ok().map(|value| value as i64)
    };
    let leads = number(LEADS).context("the metrics do not say who leads")?;
    Ok((leads == 1, number(EPOCH).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_leaders_of_one_epoch_are_found() {
        let said = |broker, leads, epoch| Said { broker, at: Instant::now(), leads, epoch };
        let mut history = vec![said(0, true, 1), said(1, false, 1), said(1, true, 2), said(0, true, 1)];
        check(&history).unwrap();
        history.push(said(2, true, 2));
        assert!(check(&history).unwrap_err().to_string().contains("both say that they lead epoch 2"));
    }
}
