// SPDX-License-Identifier: Apache-2.0
//! What is written and what has to come back: a planned set of records of mixed sizes, and the tally of what was read.
//! Knows no client and no broker.

use anyhow::{Context, Result, ensure};

/// A repeatable stream of numbers (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The stream of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `low..high`.
    ///
    /// # Panics
    /// When the range is empty.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        assert!(low < high, "an empty range");
        low + self.next_u64() % (high - low)
    }
}

/// The records of one round trip: `count` of them, record `i` always the same for the same seed.
///
/// Keys are unique (`k0`, `k1`, …), values are printable text without tabs and line ends, so that line-oriented
/// tools carry them unchanged. Sizes: every 16th is empty, most are below 4 KB, and one in 200 has 100 to 180 KB;
/// half of them compress well and half do not.
#[derive(Clone, Debug)]
pub struct Plan {
    seed: u64,
    count: u32,
}

impl Plan {
    /// `count` records of `seed`.
    pub fn new(seed: u64, count: u32) -> Self {
        Self { seed, count }
    }

    /// The number of records.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The key of record `index`.
    pub fn key(index: u32) -> String {
        format!("k{index}")
    }

    /// The value of record `index`.
    pub fn value(&self, index: u32) -> String {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut random = Random::new(self.seed ^ (u64::from(index) << 32));
        let size = match (index % 16, index % 200) {
            (_, 7) => random.between(100_000, 180_000),
            (0, _) => 0,
            (1..=9, _) => random.between(1, 300),
            (10..=13, _) => random.between(300, 4_000),
            _ => random.between(4_000, 16_000),
        } as usize;
        let mut value = String::with_capacity(size);
        if random.next_u64().is_multiple_of(2) {
            while value.len() < size {
                let letter = ALPHABET[(random.next_u64() % 64) as usize] as char;
                let repeats = random.between(1, 60) as usize;
                value.extend(std::iter::repeat_n(letter, repeats.min(size - value.len())));
            }
        } else {
            while value.len() < size {
                let mut bits = random.next_u64();
                for _ in 0..10.min(size - value.len()) {
                    value.push(ALPHABET[(bits % 64) as usize] as char);
                    bits /= 64;
                }
            }
        }
        value
    }

    /// The records `from..to` as lines of key, tab, value: what the line-oriented tools read.
    pub fn lines(&self, from: u32, to: u32) -> String {
        let mut lines = String::new();
        for index in from..to {
            lines.push_str(&Self::key(index));
            lines.push('\t');
            lines.push_str(&self.value(index));
            lines.push('\n');
        }
        lines
    }

    /// A number that stands for all keys and values, whatever their order.
    pub fn checksum(&self) -> u64 {
        (0..self.count)
            .fold(0, |sum, index| sum.wrapping_add(hash(Self::key(index).as_bytes(), self.value(index).as_bytes())))
    }
}

/// FNV-1a over key and value with a separator.
fn hash(key: &[u8], value: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in key.iter().chain(&[0xff]).chain(value) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}

/// What was read back, compared with a [`Plan`] record by record.
#[derive(Debug)]
pub struct Tally<'a> {
    plan: &'a Plan,
    seen: Vec<bool>,
    count: u32,
    checksum: u64,
    /// Per partition: the last offset and the last record's index, both of which have to rise.
    last: Vec<Option<(i64, u32)>>,
}

impl<'a> Tally<'a> {
    /// Nothing read yet of `plan`, which one producer wrote in order to `partitions` partitions.
    pub fn new(plan: &'a Plan, partitions: usize) -> Self {
        Self { plan, seen: vec![false; plan.count as usize], count: 0, checksum: 0, last: vec![None; partitions] }
    }

    /// How many records have been counted.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Counts a record.
    ///
    /// # Errors
    /// When it is none of the plan's, was seen before, has another value, or breaks its partition's order.
    pub fn observe(&mut self, partition: usize, offset: i64, key: &[u8], value: &[u8]) -> Result<()> {
        let at = || format!("partition {partition}, offset {offset}, key {:?}", String::from_utf8_lossy(key));
        let index: u32 = std::str::from_utf8(key)
            .ok()
            .and_then(|key| key.strip_prefix('k')?.parse().ok())
            .with_context(|| format!("{}: not a planned key", at()))?;
        let seen = self.seen.get_mut(index as usize).with_context(|| format!("{}: not a planned key", at()))?;
        ensure!(!*seen, "{}: read a second time", at());
        *seen = true;
        let planned = self.plan.value(index);
        ensure!(
            planned.as_bytes() == value,
            "{}: the value ({} bytes) is not the one written ({} bytes)",
            at(),
            value.len(),
            planned.len()
        );
        let last = self.last.get_mut(partition).with_context(|| format!("{}: no such partition was made", at()))?;
        if let Some((last_offset, last_index)) = *last {
            ensure!(
                offset > last_offset && index > last_index,
                "{}: came after offset {last_offset}, key k{last_index}",
                at()
            );
        }
        *last = Some((offset, index));
        self.count += 1;
        self.checksum = self.checksum.wrapping_add(hash(key, value));
        Ok(())
    }

    /// Counts the lines of a tool that prints partition, offset, key and value with tabs between them, the first two
    /// perhaps with a name and a colon before them.
    ///
    /// # Errors
    /// When a line is not of that form, and as [`Tally::observe`].
    pub fn observe_lines(&mut self, lines: &str) -> Result<()> {
        for line in lines.lines() {
            let mut fields = line.splitn(4, '\t');
            let mut number = || {
                let field = fields.next()?;
                field.rsplit(':').next()?.parse::<i64>().ok()
            };
            let (Some(partition), Some(offset)) = (number(), number()) else {
                anyhow::bail!("not a record: {:?}", &line.chars().take(200).collect::<String>());
            };
            let (Some(key), Some(value)) = (fields.next(), fields.next()) else {
                anyhow::bail!("no key or value: {:?}", &line.chars().take(200).collect::<String>());
            };
            self.observe(usize::try_from(partition)?, offset, key.as_bytes(), value.as_bytes())?;
        }
        Ok(())
    }

    /// Whether everything of the plan was read, count and checksum.
    ///
    /// # Errors
    /// When not; names the first record that is missing.
    pub fn finish(&self) -> Result<()> {
        if let Some(missing) = self.seen.iter().position(|seen| !seen) {
            anyhow::bail!("read {} of {} records; the first one missing is k{missing}", self.count, self.plan.count);
        }
        ensure!(self.count == self.plan.count, "read {} records", self.count);
        ensure!(self.checksum == self.plan.checksum(), "the checksum differs");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plan_has_all_sizes_and_is_repeatable() {
        let plan = Plan::new(1, 1_000);
        let sizes: Vec<usize> = (0..1_000).map(|index| plan.value(index).len()).collect();
        assert!(sizes.contains(&0));
        assert!(sizes.iter().any(|size| *size > 100_000));
        assert_eq!(plan.checksum(), Plan::new(1, 1_000).checksum());
        assert_ne!(plan.checksum(), Plan::new(2, 1_000).checksum());
    }

    #[test]
    fn tally_refuses_what_is_not_the_plan() {
        let plan = Plan::new(3, 4);
        let read = |records: &[(usize, i64, u32)]| -> Result<()> {
            let mut tally = Tally::new(&plan, 2);
            for (partition, offset, index) in records {
                let key = Plan::key(*index);
                tally.observe(*partition, *offset, key.as_bytes(), plan.value(*index).as_bytes())?;
            }
            tally.finish()
        };
        assert!(read(&[(0, 0, 0), (1, 0, 1), (0, 1, 2), (1, 1, 3)]).is_ok());
        assert!(read(&[(0, 0, 0), (1, 0, 1), (0, 1, 2)]).is_err(), "a gap");
        assert!(read(&[(0, 0, 0), (0, 1, 0)]).is_err(), "twice");
        assert!(read(&[(0, 0, 1), (0, 1, 0)]).is_err(), "out of order");
        assert!(read(&[(0, 5, 0), (0, 5, 1)]).is_err(), "one offset twice");
        assert!(read(&[(0, 0, 9)]).is_err(), "not planned");
        let mut tally = Tally::new(&plan, 1);
        assert!(tally.observe(0, 0, b"k1", b"?").is_err(), "another value");
        let mut tally = Tally::new(&plan, 2);
        let line = |prefix: &str, index| format!("{prefix}\tk{index}\t{}\n", plan.value(index));
        assert!(tally.observe_lines(&line("Partition:0\tOffset:0", 0)).is_ok());
        assert!(tally.observe_lines(&line("1\t7", 1)).is_ok());
        assert!(tally.observe_lines("Processed a total of 2 messages").is_err());
    }
}
