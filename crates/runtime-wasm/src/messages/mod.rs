//! What a user reads when a program cannot be started or was ended: enough to mend it without the node's logs.

pub mod engines;
pub mod exports;
pub mod imports;
mod offers;
pub mod traps;

/// Names in one list; what is beyond is counted.
const NAMES_MAX: usize = 10;
/// Characters of a name that a program chose.
const NAME_CHARS_MAX: usize = 100;

/// `a, b and 3 others`
fn list(names: &[String]) -> String {
    let shown = names.iter().take(NAMES_MAX).map(|name| clip(name)).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMES_MAX) {
        0 => shown,
        1 => format!("{shown} and 1 other"),
        more => format!("{shown} and {more} others"),
    }
}

/// A name that a program chose, printable and of bounded length.
fn clip(name: &str) -> String {
    name.chars().take(NAME_CHARS_MAX).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn plural(word: &str, count: usize) -> String {
    if count == 1 { word.to_owned() } else { format!("{word}s") }
}
