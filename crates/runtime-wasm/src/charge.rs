//! Memory of the host's that is held for a container, beside what its instances have: what waits in pipes, streams, sockets
//! and bodies.
//!
//! What must stay true: whoever keeps such a buffer has a [`Charge`] of at least its size, taken before it grows, and the
//! charge lives as long as the buffer. Small buffers of a fixed size are charged once, at their upper bound; a charge is a
//! few atomic operations and never waits. At the limit the buffer does not grow: its writer waits, or gets an error that
//! programs know; where there is no such error the guest ends (`OOMKilled`).

use std::sync::{Arc, atomic::Ordering};

use crate::limits::{Budget, OutOfMemory, Usage};

/// Where the memory of a container's guests and of their buffers is counted.
#[derive(Clone)]
pub struct Account {
    usage: Arc<Usage>,
    budget: Arc<Budget>,
    /// Of the whole container.
    max: u64,
}

impl Account {
    /// Of a container, or of one process of it.
    pub fn new(max: u64, usage: Arc<Usage>, budget: Arc<Budget>) -> Self {
        Self { usage, budget, max }
    }

    /// One with room for everything, of which nobody hears.
    #[cfg(test)]
    pub fn unlimited() -> Self {
        Self::new(u64::MAX, Arc::default(), Budget::new(Some(u64::MAX)))
    }

    /// Counts them until [`Self::give_back`].
    ///
    /// # Errors
    /// Whose limit is reached.
    pub fn take(&self, bytes: u64) -> Result<(), OutOfMemory> {
        if let Err(used) = self.usage.take(bytes, self.max) {
            return Err(OutOfMemory::Container { limit: self.max, used, more: bytes });
        }
        if !self.budget.take(bytes) {
            self.usage.give_back(bytes);
            let used = self.usage.memory_bytes.load(Ordering::Relaxed);
            return Err(OutOfMemory::Node { limit: self.budget.max(), used });
        }
        Ok(())
    }

    pub fn give_back(&self, bytes: u64) {
        self.budget.give_back(bytes);
        self.usage.give_back(bytes);
    }

    /// Counts them for as long as the charge lives.
    ///
    /// # Errors
    /// Whose limit is reached.
    pub fn charge(&self, bytes: u64) -> Result<Charge, OutOfMemory> {
        let mut charge = self.nothing();
        charge.at_least(bytes)?;
        Ok(charge)
    }

    /// A charge that may grow.
    pub fn nothing(&self) -> Charge {
        Charge { account: self.clone(), bytes: 0 }
    }
}

/// Bytes that are counted while this lives.
pub struct Charge {
    account: Account,
    bytes: u64,
}

impl Charge {
    /// Grows to that many, if it has fewer.
    ///
    /// # Errors
    /// Whose limit is reached; then it stays as it was.
    pub fn at_least(&mut self, bytes: u64) -> Result<(), OutOfMemory> {
        if bytes > self.bytes {
            self.account.take(bytes - self.bytes)?;
            self.bytes = bytes;
        }
        Ok(())
    }

    /// Shrinks to that many, if it has more.
    pub fn at_most(&mut self, bytes: u64) {
        if bytes < self.bytes {
            self.account.give_back(self.bytes - bytes);
            self.bytes = bytes;
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.at_most(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_counts_with_its_process_its_container_and_the_node_while_it_lives() {
        let container = Arc::new(Usage::default());
        let process = Usage::of(&container);
        let budget = Budget::new(Some(1000));
        let used = |usage: &Usage| usage.memory_bytes.load(Ordering::Relaxed);
        let account = Account::new(100, process.clone(), budget.clone());
        let mut charge = account.charge(60).expect("there is room");
        assert_eq!((used(&process), used(&container)), (60, 60));
        assert!(matches!(account.charge(41), Err(OutOfMemory::Container { limit: 100, used: 60, more: 41 })));
        charge.at_least(100).expect("there is room");
        charge.at_least(50).expect("it has them");
        assert_eq!(used(&container), 100);
        charge.at_most(30);
        assert_eq!(used(&container), 30);
        let other = Account::new(u64::MAX, Arc::default(), budget);
        assert!(matches!(other.charge(971), Err(OutOfMemory::Node { limit: 1000, .. })));
        let rest = other.charge(970).expect("the node has as much");
        drop((charge, rest));
        assert_eq!((used(&process), used(&container)), (0, 0));
        assert_eq!(container.memory_bytes_peak.load(Ordering::Relaxed), 100);
        other.charge(1000).expect("all is given back");
    }
}
