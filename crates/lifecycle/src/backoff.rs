//! Back-off of restarts, pulls and retries: the kubelet's figures.

use jiff::{SignedDuration, Timestamp};

use crate::observed::Backoff;

/// What to do about a container that ended at `finished`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Start it now; the next restart waits for `next_s`.
    Now { next_s: u64 },
    /// Not before; `delay_s` is what the message says.
    Wait { until: Timestamp, delay_s: u64 },
}

/// The first restart is immediate, the next waits for `initial_s` after the end, then twice as long up to `max_s`.
/// Twice `max_s` without a restart (10 minutes by default) starts anew.
pub fn restart(entry: Option<&Backoff>, finished: Timestamp, now: Timestamp, initial_s: u64, max_s: u64) -> Restart {
    let initial = Restart::Now { next_s: initial_s.min(max_s) };
    let Some(entry) = entry else { return initial };
    if finished.duration_since(entry.updated) > after(2 * max_s) {
        return initial;
    }
    let until = later(finished, entry.delay_s);
    if now < until {
        return Restart::Wait { until, delay_s: entry.delay_s };
    }
    Restart::Now { next_s: (entry.delay_s * 2).clamp(initial_s.min(max_s), max_s) }
}

/// Seconds to wait after the `failures`th failure in a row (from 1): doubling from `initial_s` to `max_s`.
pub fn delay_s(failures: u32, initial_s: u64, max_s: u64) -> u64 {
    let doublings = failures.saturating_sub(1).min(20);
    initial_s.saturating_mul(1 << doublings).min(max_s)
}

pub fn later(at: Timestamp, seconds: u64) -> Timestamp {
    at.checked_add(after(seconds)).unwrap_or(Timestamp::MAX)
}

fn after(seconds: u64) -> SignedDuration {
    SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX))
}

/// As Go prints a duration of whole seconds: `10s`, `1m20s`, `5m0s`.
pub fn text(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        _ => format!("{}h{}m{}s", seconds / 3600, seconds / 60 % 60, seconds % 60),
    }
}
