//! What goes wrong with requests is told in the container's log, but not without end.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::log::{Log, Stream};

/// Faults told in one [`WINDOW`]; the next window's first says how many more there were.
const TOLD_MAX: u32 = 10;
const WINDOW: Duration = Duration::from_secs(10);

#[derive(Default)]
pub struct Faults(Mutex<State>);

#[derive(Default)]
struct State {
    window: Option<Instant>,
    told: u32,
    untold: u64,
}

impl Faults {
    pub fn tell(&self, log: &Log, now: Instant, text: impl FnOnce() -> String) {
        let Some(untold) = self.admit(now) else { return };
        let mut text = text();
        text.push('\n');
        if untold > 0 {
            text.insert_str(0, &format!("{untold} more failed requests were not told\n"));
        }
        if let Err(error) = log.write(Stream::Stderr, text.as_bytes()) {
            tracing::warn!(error = %error, "fault of a request not written to its container's log");
        }
    }

    /// Whether to tell one more, and how many were not told before it.
    fn admit(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock();
        if state.window.is_none_or(|begun| now.duration_since(begun) >= WINDOW) {
            state.window = Some(now);
            state.told = 0;
        }
        if state.told >= TOLD_MAX {
            state.untold += 1;
            return None;
        }
        state.told += 1;
        Some(std::mem::take(&mut state.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_faults_is_counted_and_not_told() {
        let (faults, now) = (Faults::default(), Instant::now());
        let told = (0..1000).filter(|_| faults.admit(now).is_some()).count();
        assert_eq!(told, TOLD_MAX as usize);
        assert_eq!(faults.admit(now + WINDOW), Some(1000 - u64::from(TOLD_MAX)));
        assert_eq!(faults.admit(now + WINDOW), Some(0));
    }
}
