// SPDX-License-Identifier: Apache-2.0
//! The threads and the disk of one broker among several in this process, so that it can be paused and killed as if it
//! were a process of its own, and be started again beside the others. It must not know what a broker is.
//!
//! What a real process has and an incarnation has not:
//! - A kill takes effect at the next call of the disk and at the next poll of a task. A task that is being polled when
//!   the kill comes may still send what it has; what it then wants of the disk fails. So a client may, very rarely,
//!   get an error instead of a closed connection.
//! - Memory is shared: one broker that uses it up takes all of them along.
//! - Both kinds of death leave the page cache: a loss of power is not imitated here.
use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use odradek_disk::{Closed, Disk, Gate, GatedDisk, RealDisk, Standing};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::threads;

/// How long a pause or a kill waits for the worker threads to come to their rest. A worker is busy for milliseconds at a
/// time; one that is not there by then meets the gate of the disk instead.
const REST_TIME: Duration = Duration::from_secs(1);
/// How long a kill waits for threads to end. They end at their next step; only a system call that hangs can last.
const END_TIME: Duration = Duration::from_secs(10);

/// One life of a broker: its threads and its way to the disk. Dropping it kills without waiting.
#[derive(Debug)]
pub struct Incarnation {
    runtime: Mutex<Option<Runtime>>,
    handle: Handle,
    workers: usize,
    life: Life,
    alive: watch::Receiver<usize>,
}

/// What the threads of an incarnation share.
#[derive(Debug, Clone)]
struct Life {
    /// A name for the log, if there are others to tell it from.
    name: Option<Arc<str>>,
    disk: GatedDisk,
    /// Where the worker threads rest. Apart from the disk's, which closes only once no task runs any more.
    rest: Arc<Gate>,
    alive: Arc<watch::Sender<usize>>,
}

/// What a thread of an incarnation has about it.
struct Marks {
    life: Life,
    /// Names the broker in every line that the thread logs.
    _named: Option<tracing::span::EnteredSpan>,
}

thread_local! {
    static MARKS: RefCell<Option<Marks>> = const { RefCell::new(None) };
}

impl Life {
    fn count_thread(&self) {
        self.alive.send_modify(|alive| *alive += 1);
    }

    fn begin_thread(&self) {
        let named = self.name.as_ref().map(|name| tracing::error_span!("broker", id = &**name).entered());
        MARKS.set(Some(Marks { life: self.clone(), _named: named }));
    }

    fn end_thread(&self) {
        // The span is left here, not when the thread's own variables end: the subscriber's may be gone by then.
        drop(MARKS.take());
        self.alive.send_modify(|alive| *alive -= 1);
    }
}

/// A thread's part in its incarnation; ends with the thread, also when that panics.
struct Counted(Life);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.end_thread();
    }
}

/// Starts a thread that belongs to the incarnation of the calling thread, if that has one: the log names it, and a kill
/// waits for its end. It has to end by itself, at the latest when the disk refuses.
pub(crate) fn spawn_thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let life = MARKS.with_borrow(|marks| marks.as_ref().map(|marks| marks.life.clone()));
    // Counted before it runs: a kill in between has to wait for it, too. A closure that is never run is dropped.
    let counted = life.inspect(Life::count_thread).map(Counted);
    let run = move || {
        if let Some(Counted(life)) = &counted {
            life.begin_thread();
        }
        work();
        drop(counted);
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map(drop)
}

/// Whether the calling thread belongs to a broker that was killed: what it still has to say nobody would have heard.
pub(crate) fn is_killed_here() -> bool {
    MARKS.with_borrow(|marks| marks.as_ref().is_some_and(|marks| marks.life.disk.gate().standing() == Standing::Closed))
}

impl Incarnation {
    /// Starts the threads: `workers` for tasks, one per core by default. `name` marks their lines in the log.
    ///
    /// # Errors
    /// When the system refuses threads.
    pub fn new(name: Option<&str>, workers: Option<usize>) -> io::Result<Self> {
        let (alive, seen) = watch::channel(0);
        let life = Life {
            name: name.map(Arc::from),
            disk: GatedDisk::new(Arc::new(RealDisk)),
            rest: Arc::default(),
            alive: Arc::new(alive),
        };
        let workers = match workers {
            Some(workers) => workers,
            None => std::thread::available_parallelism()?.get(),
        };
        let (beginning, ending) = (life.clone(), life.clone());
        let runtime = threads::builder(Some(workers))
            .on_thread_start(move || {
                beginning.count_thread();
                beginning.begin_thread();
            })
            .on_thread_stop(move || ending.end_thread())
            .build()?;
        let handle = runtime.handle().clone();
        Ok(Self { runtime: Mutex::new(Some(runtime)), handle, workers, life, alive: seen })
    }

    /// The disk that ends with this incarnation.
    pub fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.life.disk.clone())
    }

    /// A gate that stands as the incarnation does, for threads that do not pass the disk in each of their steps.
    pub fn gate(&self) -> Arc<Gate> {
        Arc::clone(self.life.disk.gate())
    }

    /// Runs a task on the incarnation's threads. It is cancelled by a kill.
    pub fn spawn<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.handle.spawn(task)
    }

    /// Stops all threads where they are, as SIGSTOP does: sockets stay open and nothing is answered. What the kernel does
    /// by itself it does: it accepts connections and takes bytes until its buffers are full.
    pub async fn pause(&self) {
        if self.is_killed() {
            return;
        }
        self.rest_workers().await;
        let gate = self.gate();
        // It waits for calls of the disk that are under way.
        let _ = tokio::task::spawn_blocking(move || gate.pause()).await;
    }

    /// Lets all threads go on, as SIGCONT does.
    pub fn resume(&self) {
        self.life.disk.gate().resume();
        self.life.rest.resume();
    }

    /// Whether it was killed.
    pub fn is_killed(&self) -> bool {
        self.runtime().is_none()
    }

    /// Ends all threads without letting any finish what it does, as SIGKILL does: when this returns, nothing more is
    /// written, no lock is held, sockets are closed. Works on a paused one too. `held` is what the caller has of the broker,
    /// and is dropped once it can do nothing any more. False if a thread is still there after ten seconds: then a socket
    /// may be, too.
    pub async fn kill<T>(&self, held: T) -> bool {
        self.rest_workers().await;
        self.end();
        let closing = self.life.disk.clone();
        let _ = tokio::task::spawn_blocking(move || closing.close()).await;
        self.life.rest.close();
        drop(held);
        self.ended().await
    }

    /// Ends the threads after a broker on them was shut down: no task has anything to do any more.
    pub async fn finish(&self) -> bool {
        self.end();
        self.ended().await
    }

    fn runtime(&self) -> std::sync::MutexGuard<'_, Option<Runtime>> {
        self.runtime.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the threads to end; those that rest do so once they are let go.
    fn end(&self) {
        if let Some(runtime) = self.runtime().take() {
            runtime.shutdown_background();
        }
    }

    async fn ended(&self) -> bool {
        let mut alive = self.alive.clone();
        let ended = tokio::time::timeout(END_TIME, alive.wait_for(|alive| *alive == 0)).await;
        ended.is_ok()
    }

    /// Occupies every worker with a task that waits at the gate, so that no other task is polled. If they rest already,
    /// this changes nothing.
    async fn rest_workers(&self) {
        if self.is_killed() || self.life.rest.standing() != Standing::Open {
            return;
        }
        let (arrived, mut arrivals) = mpsc::channel(self.workers);
        self.life.rest.pause();
        for _ in 0..self.workers {
            let (arrived, rest) = (arrived.clone(), Arc::clone(&self.life.rest));
            self.handle.spawn(async move {
                let _ = arrived.try_send(());
                // Blocks the thread on purpose. Refused or let go, the thread goes on.
                let _: Result<(), Closed> = rest.wait();
            });
        }
        let all = async {
            for _ in 0..self.workers {
                arrivals.recv().await;
            }
        };
        let _ = tokio::time::timeout(REST_TIME, all).await;
    }
}

impl Drop for Incarnation {
    fn drop(&mut self) {
        self.end();
        self.life.disk.close();
        self.life.rest.close();
    }
}
