//! Prints a line every `INTERVAL_MS` milliseconds (default 1000) until it is stopped, or `COUNT` lines if that is set.

use std::{thread::sleep, time::Duration};

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    match text.parse() {
        Ok(n) => Some(n),
        Err(e) => {
            eprintln!("{name}={text} is not a number: {e}");
            std::process::exit(2)
        }
    }
}

fn main() {
    let interval = Duration::from_millis(number("INTERVAL_MS").unwrap_or(1000));
    let count = number("COUNT").unwrap_or(u64::MAX);
    for tick in 1..=count {
        println!("tick {tick}");
        if tick < count {
            sleep(interval);
        }
    }
}
