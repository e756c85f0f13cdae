// SPDX-License-Identifier: Apache-2.0
//! A budget of bytes shared by many holders: memory that strangers can make us spend has a ceiling.
//! It knows nothing of frames, requests or Kafka.
//!
//! Rules (design section 7):
//! - A holder takes bytes in steps, as it really needs them; what it only *claims* is never charged.
//! - When the budget is used up, a step waits until others give back.
//! - The oldest unfinished holder always gets its step, also beyond the budget, so that a set of
//!   half-served holders can never block itself. One holder at a time can overdraw, and only by what one
//!   frame may hold, so memory stays below `total + largest frame`.
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// A shared ceiling for bytes.
#[derive(Debug)]
pub struct Budget {
    total: usize,
    /// Bytes charged now. Written under the lock, read without it by metrics.
    used: AtomicUsize,
    ledger: Mutex<Ledger>,
}

#[derive(Debug, Default)]
struct Ledger {
    next_ticket: u64,
    /// Every unfinished holder by age, with the waker of its waiting step if it waits.
    /// Bounded by the number of connections: each has one growing frame.
    unfinished: BTreeMap<u64, Option<Waker>>,
    waiting: usize,
}

impl Budget {
    /// A budget of `total` bytes.
    pub fn new(total: usize) -> Arc<Self> {
        Arc::new(Self { total, used: AtomicUsize::new(0), ledger: Mutex::new(Ledger::default()) })
    }

    /// Bytes charged now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// The ceiling.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Opens an account: its age starts now. Nothing is charged yet.
    pub fn open(self: &Arc<Self>) -> Charge {
        let mut ledger = self.lock();
        let ticket = ledger.next_ticket;
        ledger.next_ticket += 1;
        ledger.unfinished.insert(ticket, None);
        drop(ledger);
        Charge { budget: Arc::clone(self), ticket: Some(ticket), bytes: 0 }
    }

    /// Charges as much of `wanted` as is free, at least `least`, without waiting.
    ///
    /// For reads: `least` is the first batch, which is always allowed.
    pub fn take_available(self: &Arc<Self>, wanted: usize, least: usize) -> Charge {
        let ledger = self.lock();
        let free = self.total.saturating_sub(self.used());
        let bytes = wanted.min(free).max(least);
        self.used.fetch_add(bytes, Ordering::Relaxed);
        drop(ledger);
        Charge { budget: Arc::clone(self), ticket: None, bytes }
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_back(&self, ticket: Option<u64>, bytes: usize) {
        let mut ledger = self.lock();
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(ticket) = ticket
            && let Some(Some(_)) = ledger.unfinished.remove(&ticket)
        {
            ledger.waiting -= 1;
        }
        if ledger.waiting == 0 {
            return;
        }
        // Waiting steps are rare (the budget is used up), so all are woken and look again, oldest first.
        let wakers: Vec<Waker> = ledger.unfinished.values_mut().filter_map(Option::take).collect();
        ledger.waiting = 0;
        drop(ledger);
        for waker in wakers {
            waker.wake();
        }
    }
}

/// What one holder has been charged; given back when dropped.
#[derive(Debug)]
pub struct Charge {
    budget: Arc<Budget>,
    /// The age in the ledger while it can still grow.
    ticket: Option<u64>,
    bytes: usize,
}

impl Charge {
    /// Bytes charged to this holder.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Charges `more` bytes, waiting for its turn when the budget is used up. Cancelling is harmless.
    pub async fn grow(&mut self, more: usize) {
        poll_fn(|context| {
            let Some(ticket) = self.ticket else {
                // A settled account does not grow by rule; charging it is still honest accounting.
                self.budget.used.fetch_add(more, Ordering::Relaxed);
                return Poll::Ready(());
            };
            let mut ledger = self.budget.lock();
            let oldest = ledger.unfinished.first_key_value().map(|(t, _)| *t);
            let fits = self.budget.used() + more <= self.budget.total;
            if fits || oldest == Some(ticket) {
                if let Some(slot) = ledger.unfinished.get_mut(&ticket)
                    && slot.take().is_some()
                {
                    ledger.waiting -= 1;
                }
                self.budget.used.fetch_add(more, Ordering::Relaxed);
                return Poll::Ready(());
            }
            let waker = context.waker().clone();
            if let Some(slot) = ledger.unfinished.get_mut(&ticket)
                && slot.replace(waker).is_none()
            {
                ledger.waiting += 1;
            }
            Poll::Pending
        })
        .await;
        self.bytes += more;
    }

    /// Charges `more` bytes that are in memory already.
    pub fn add(&mut self, more: usize) {
        self.budget.used.fetch_add(more, Ordering::Relaxed);
        self.bytes += more;
    }

    /// The frame is complete: it grows no more and gives its place as the oldest to the next.
    /// Its bytes stay charged until it is dropped.
    pub fn settle(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.budget.give_back(Some(ticket), 0);
        }
    }

    /// Gives back what is above `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        if bytes < self.bytes {
            let surplus = self.bytes - bytes;
            self.bytes = bytes;
            self.budget.give_back(None, surplus);
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.give_back(self.ticket.take(), self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    const SHORT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn a_step_waits_until_bytes_are_given_back() {
        let budget = Budget::new(100);
        let mut first = budget.open();
        first.grow(60).await;
        let mut second = budget.open();
        second.grow(40).await;
        let mut third = budget.open();
        assert!(timeout(SHORT, third.grow(1)).await.is_err());
        drop(second);
        timeout(SHORT, third.grow(1)).await.expect("bytes were given back");
        assert_eq!(budget.used(), 61);
    }

    #[tokio::test]
    async fn the_oldest_always_finishes_and_then_the_next_is_oldest() {
        let budget = Budget::new(100);
        let mut first = budget.open();
        let mut second = budget.open();
        second.grow(100).await;
        timeout(SHORT, first.grow(500)).await.expect("the oldest overdraws");
        assert!(timeout(SHORT, second.grow(1)).await.is_err());
        first.settle();
        timeout(SHORT, second.grow(1)).await.expect("now the oldest");
        drop(first);
        drop(second);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn a_waiting_step_is_woken_by_the_drop_of_the_oldest() {
        let budget = Budget::new(10);
        let mut first = budget.open();
        first.grow(10).await;
        let other = Arc::clone(&budget);
        let waiting = tokio::spawn(async move {
            let mut second = other.open();
            second.grow(10).await;
            second.bytes()
        });
        tokio::task::yield_now().await;
        drop(first);
        let bytes = timeout(Duration::from_secs(1), waiting).await.expect("woken").expect("no panic");
        assert_eq!(bytes, 10);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn a_read_gets_what_is_free_but_at_least_its_first_batch() {
        let budget = Budget::new(100);
        let mut big = budget.take_available(80, 1);
        assert_eq!(big.bytes(), 80);
        let small = budget.take_available(80, 50);
        assert_eq!(small.bytes(), 50);
        big.shrink_to(10);
        assert_eq!(budget.used(), 60);
    }
}
