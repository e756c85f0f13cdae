// SPDX-License-Identifier: Apache-2.0
//! What a leader makes of its followers' fetches: whether they are served, what they tell of the follower's progress,
//! and what follows from that for ISR, high watermark and low watermark. Must not read records: the view does.

use odradek_model::{BrokerEpoch, BrokerId, LeaderEpoch, Offset};

use super::{Effect, Partition, Role};
use crate::error::{FollowerFetchError, LeadershipError, ReadError};
use crate::planted::PlantedBug;
use crate::read_replica::{ReadReplica, preferred_read_replica};
use crate::time::MonotonicTime;
use crate::view::PartitionView;
use crate::waits::{WaitError, WaitToken, Waiting};

/// A follower's fetch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FollowerFetch {
    /// Who fetches.
    pub replica: BrokerId,
    /// Of its registration (KIP-903). Brokers of this cluster always say it.
    pub broker_epoch: BrokerEpoch,
    /// The epoch in which it believes this replica to lead.
    pub leader_epoch: LeaderEpoch,
    /// Where its log ends.
    pub fetch_offset: Offset,
    /// The latest epoch in its log; `None` (-1) if it has none.
    pub last_fetched_epoch: Option<LeaderEpoch>,
    /// Where its log starts.
    pub log_start_offset: Offset,
}

/// What a follower's fetch gets.
#[derive(Clone, Debug)]
pub enum FollowerFetched {
    /// Read from here ([`PartitionView::read_for_follower`]), outside of whatever lock holds the partition.
    Read(PartitionView),
    /// The follower's log differs: where this log ends in the largest epoch at or below the follower's last. No records
    /// and no watermarks are given: they would not hold for what it has.
    Diverging {
        /// That epoch.
        epoch: LeaderEpoch,
        /// Its end.
        end_offset: Offset,
    },
}

impl Partition {
    /// Judges a follower's fetch and takes note of how far the follower has come. To be called once per request, when
    /// it arrives and before anything is read: what is appended later must not keep a follower from being caught up.
    /// To look again after waiting, use [`Self::follower_view`].
    pub fn follower_fetch(
        &mut self,
        fetch: &FollowerFetch,
        now: MonotonicTime,
    ) -> Result<(FollowerFetched, Vec<Effect>), FollowerFetchError> {
        self.now = self.now.max(now);
        let fetched = self.follower_view(fetch)?;
        let mut effects = Vec::new();
        if let FollowerFetched::Read(view) = &fetched {
            let (now, high_watermark, log_end) = (self.now, self.high_watermark, view.log_end_offset());
            let Role::Leader(leader) = &mut self.role else {
                unreachable!("only a leader's fetch is good");
            };
            let progress = leader.followers.get_mut(&fetch.replica).expect("a good fetch is a replica's");
            progress.fetched(fetch.fetch_offset, fetch.log_start_offset, fetch.broker_epoch, log_end, now);
            let proposed = leader.propose_join(fetch.replica, high_watermark, &*self.local.brokers, self.planted);
            effects.extend(proposed.map(Effect::ProposeIsr));
            effects.extend(self.advance());
            self.wake_deletions(&mut effects);
        }
        // The follower hears of a high watermark that has risen with its own fetch.
        let fetched = match fetched {
            FollowerFetched::Read(view) => FollowerFetched::Read(self.view_from(view.epoch_start_offset)),
            diverging @ FollowerFetched::Diverging { .. } => diverging,
        };
        Ok((fetched, effects))
    }

    /// Judges a follower's fetch and notes nothing.
    pub fn follower_view(&self, fetch: &FollowerFetch) -> Result<FollowerFetched, FollowerFetchError> {
        let unchecked = self.planted.has(PlantedBug::FetchEpochUnchecked);
        let leader = self.leader((!unchecked).then_some(fetch.leader_epoch))?;
        let replica = fetch.replica;
        if !leader.followers.contains_key(&replica) {
            return Err(FollowerFetchError::NotAReplica { replica });
        }
        let status = self.local.brokers.status(replica).filter(|status| !status.fenced);
        if let Some(status) = status.filter(|status| status.epoch > fetch.broker_epoch)
            && !self.planted.has(PlantedBug::BrokerEpochUnchecked)
        {
            let (found, current) = (fetch.broker_epoch, status.epoch);
            return Err(FollowerFetchError::StaleBrokerEpoch { replica, found, current });
        }
        let (offset, start, end) = (fetch.fetch_offset, self.log.log_start_offset(), self.log.log_end_offset());
        let out_of_range = FollowerFetchError::OffsetOutOfRange { offset, start, end };
        if let Some(last_epoch) = fetch.last_fetched_epoch {
            match self.diverging(offset, last_epoch) {
                Ok(None) => {}
                Ok(Some((epoch, end_offset))) => return Ok(FollowerFetched::Diverging { epoch, end_offset }),
                Err(_) => return Err(out_of_range),
            }
        }
        if offset < start || offset > end {
            return Err(out_of_range);
        }
        Ok(FollowerFetched::Read(self.view_from(leader.epoch_start_offset)))
    }

    /// Whether who has read up to `fetch_offset`, the last of it in `last_epoch`, has read what is not in this log: then
    /// where this log ends in the largest epoch at or below. For followers and consumers alike (Fetch from version 12
    /// on); to be asked under the same lock as the view.
    ///
    /// # Errors
    /// `OffsetOutOfRange`: below the log start, or an epoch of which nothing is known.
    pub fn diverging(
        &self,
        fetch_offset: Offset,
        last_epoch: LeaderEpoch,
    ) -> Result<Option<(LeaderEpoch, Offset)>, ReadError> {
        let (start, end) = (self.log.log_start_offset(), self.log.log_end_offset());
        let known = if last_epoch < 0 { None } else { self.log.epoch_end(last_epoch) };
        match known {
            Some((epoch, epoch_end)) if fetch_offset >= start => {
                Ok((epoch < last_epoch || epoch_end < fetch_offset).then_some((epoch, epoch_end)))
            }
            _ => Err(ReadError::OffsetOutOfRange { offset: fetch_offset, start, end }),
        }
    }

    /// Waits until there is something for a follower to fetch. It has read (or found nothing) up to `seen_end`, the
    /// log end of its view.
    pub fn wait_follower_fetch(
        &mut self,
        token: WaitToken,
        fetch_offset: Offset,
        seen_end: Offset,
    ) -> Result<Waiting, WaitError> {
        let waits_for = seen_end.max(fetch_offset);
        if self.reign().is_none() || self.log.log_end_offset() > waits_for {
            return Ok(Waiting::Ready);
        }
        self.waits.wait_appended(token, waits_for)?;
        Ok(Waiting::Registered)
    }

    /// The follower that a consumer in `rack` should read `fetch_offset` from instead (KIP-392); `None` if it is served
    /// here. `rack_of` gives a broker's rack if it is live and the client can reach it.
    pub fn preferred_read_replica<'a>(
        &self,
        rack: &str,
        fetch_offset: Offset,
        requested_epoch: Option<LeaderEpoch>,
        rack_of: impl Fn(BrokerId) -> Option<&'a str>,
    ) -> Result<Option<BrokerId>, LeadershipError> {
        let leader = self.leader(requested_epoch)?;
        let followers: Vec<_> = leader
            .followers
            .iter()
            .map(|(broker, progress)| ReadReplica {
                broker: *broker,
                rack: rack_of(*broker),
                in_sync: leader.leadership.in_sync.contains(broker),
                log_start: progress.log_start,
                log_end: progress.log_end,
                lag_ms: progress.lag_ms(self.now),
            })
            .collect();
        Ok(preferred_read_replica(rack, rack_of(self.local.id), fetch_offset, &followers))
    }
}
