//! Exponential back-off per item, with client-go's bounds: 5 ms, doubling, at most 1000 s.

use std::{collections::HashMap, hash::Hash, time::Duration};

pub const BACKOFF_MS_MIN: u64 = 5;
pub const BACKOFF_MS_MAX: u64 = 1_000_000;

/// One entry per failing item.
#[derive(Debug)]
pub struct Backoff<K> {
    failures: HashMap<K, u32>,
}

impl<K> Default for Backoff<K> {
    fn default() -> Self {
        Self { failures: HashMap::new() }
    }
}

impl<K: Eq + Hash> Backoff<K> {
    /// The item failed: how long to wait.
    pub fn fail(&mut self, key: K) -> Duration {
        let failures = self.failures.entry(key).or_insert(0);
        let ms = BACKOFF_MS_MIN.saturating_mul(1u64.checked_shl(*failures).unwrap_or(u64::MAX)).min(BACKOFF_MS_MAX);
        *failures = failures.saturating_add(1);
        Duration::from_millis(ms)
    }
    /// The item succeeded, or is gone.
    pub fn forget(&mut self, key: &K) {
        self.failures.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_its_limit_and_starts_again_when_forgotten() {
        let mut backoff = Backoff::default();
        let ms: Vec<u128> = (0..80).map(|_| backoff.fail("a").as_millis()).collect();
        assert_eq!(ms[..4], [5, 10, 20, 40]);
        assert_eq!(ms[17..20], [655_360, 1_000_000, 1_000_000]);
        assert_eq!(ms[79], 1_000_000);
        assert_eq!(backoff.fail("b").as_millis(), 5);
        backoff.forget(&"a");
        assert_eq!(backoff.fail("a").as_millis(), 5);
    }
}
