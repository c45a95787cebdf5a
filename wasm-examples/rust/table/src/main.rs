//! A program whose start is slow: it counts the primes below 4,000,000 before it answers with how many there are below its
//! argument. `prepare` does that beforehand, for `skiff.dev/snapshot: prepare`.

use std::sync::OnceLock;

const SIZE: usize = 4_000_000;
/// Primes below each thousand.
static COUNTS: OnceLock<Vec<u32>> = OnceLock::new();

fn counts() -> Vec<u32> {
    let mut composite = vec![false; SIZE];
    let (mut counts, mut found) = (Vec::new(), 0);
    for n in 0..SIZE {
        if n % 1000 == 0 {
            counts.push(found);
        }
        if n >= 2 && !composite[n] {
            found += 1;
            (n.saturating_mul(n)..SIZE).step_by(n).for_each(|multiple| composite[multiple] = true);
        }
    }
    counts
}

#[unsafe(no_mangle)]
pub extern "C" fn prepare() {
    COUNTS.get_or_init(counts);
}

fn main() {
    let below: usize = std::env::args().nth(1).and_then(|word| word.parse().ok()).unwrap_or(1_000_000);
    match COUNTS.get_or_init(counts).get(below / 1000) {
        Some(count) => println!("{count} primes below {}", below / 1000 * 1000),
        None => std::process::exit(1),
    }
}
