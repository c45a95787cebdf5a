//! The linked programs in memory, by module and machine.
//!
//! What must stay true: a program is there once however many ask for it; those that no container uses take at most
//! [`UNUSED_CODE_BYTES_MAX`] together, and those that were asked for longest ago go first. One that went is loaded from its
//! artefact when it is asked for again.

use std::{collections::HashMap, sync::Arc};

use tokio::sync::OnceCell;

/// Machine code of programs that no container uses: 128 MiB. A JavaScript component has some 30 MiB.
pub const UNUSED_CODE_BYTES_MAX: usize = 128 << 20;
/// Programs that no container uses.
pub const UNUSED_PROGRAMS_MAX: usize = 256;

/// A module's digest, and the machine that it is compiled for.
pub type Key = (String, u64);
pub type Cell<P> = Arc<OnceCell<Arc<P>>>;

/// Something that takes memory while it is kept.
pub trait Code {
    fn code_bytes(&self) -> usize;
}

pub struct Programs<P> {
    entries: HashMap<Key, Entry<P>>,
    /// Counts askings.
    clock: u64,
}

struct Entry<P> {
    cell: Cell<P>,
    asked: u64,
}

impl<P> Default for Programs<P> {
    fn default() -> Self {
        Self { entries: HashMap::new(), clock: 0 }
    }
}

impl<P: Code> Programs<P> {
    pub fn cell(&mut self, key: Key) -> Cell<P> {
        self.clock += 1;
        let entry = self.entries.entry(key).or_insert_with(|| Entry { cell: Cell::default(), asked: 0 });
        entry.asked = self.clock;
        entry.cell.clone()
    }

    pub fn get(&self, key: &Key) -> Option<&Cell<P>> {
        self.entries.get(key).map(|entry| &entry.cell)
    }

    pub fn remove(&mut self, key: &Key) {
        self.entries.remove(key);
    }

    pub fn retain(&mut self, keep: impl Fn(&Key) -> bool) {
        self.entries.retain(|key, _| keep(key));
    }

    /// Lets go of what is too much.
    pub fn trim(&mut self) {
        let mut unused: Vec<(u64, usize, Key)> = vec![];
        self.entries.retain(|key, entry| {
            // Nobody waits for it, and no container has it.
            let alone = Arc::strong_count(&entry.cell) == 1;
            match entry.cell.get() {
                // It could not be compiled.
                None => !alone,
                Some(program) => {
                    if alone && Arc::strong_count(program) == 1 {
                        unused.push((entry.asked, program.code_bytes(), key.clone()));
                    }
                    true
                }
            }
        });
        unused.sort_unstable_by_key(|(asked, ..)| std::cmp::Reverse(*asked));
        let mut bytes = 0;
        for (index, (_, size, key)) in unused.into_iter().enumerate() {
            bytes += size;
            if bytes > UNUSED_CODE_BYTES_MAX || index >= UNUSED_PROGRAMS_MAX {
                self.entries.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake(usize);

    impl Code for Fake {
        fn code_bytes(&self) -> usize {
            self.0
        }
    }

    fn key(name: &str) -> Key {
        (name.to_owned(), 0)
    }

    #[test]
    fn what_is_unused_for_longest_goes() {
        let mut programs = Programs::default();
        let third = UNUSED_CODE_BYTES_MAX / 3;
        for name in ["a", "b", "c", "d"] {
            assert!(programs.cell(key(name)).set(Arc::new(Fake(third))).is_ok());
        }
        let running = programs.cell(key("a")).get().cloned();
        drop(programs.cell(key("b")));
        drop(programs.cell(key("broken")));
        programs.trim();
        let has = |programs: &Programs<Fake>, name| programs.entries.contains_key(&key(name));
        for (name, expected) in [("a", true), ("b", true), ("c", true), ("d", true), ("broken", false)] {
            assert_eq!(has(&programs, name), expected, "{name}");
        }
        // "a" is unused now, and was asked for before "b"; "c" and "d" before that.
        drop(running);
        programs.trim();
        for (name, expected) in [("a", true), ("b", true), ("c", false), ("d", true)] {
            assert_eq!(has(&programs, name), expected, "{name}");
        }
    }

    #[test]
    fn small_ones_are_counted() {
        let mut programs = Programs::default();
        for index in 0..UNUSED_PROGRAMS_MAX + 10 {
            assert!(programs.cell(key(&index.to_string())).set(Arc::new(Fake(1))).is_ok());
        }
        programs.trim();
        assert_eq!(programs.entries.len(), UNUSED_PROGRAMS_MAX);
        assert!(!programs.entries.contains_key(&key("9")) && programs.entries.contains_key(&key("10")));
    }
}
