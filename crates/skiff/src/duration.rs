//! Durations on the command line, as kubectl takes them: `300ms`, `90s`, `10m`, `1h30m`; a bare 0 is none.

use std::time::Duration;

/// # Errors
/// A sentence for clap that says what is accepted.
pub fn parse(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let wrong = || format!("{text:?} is not a duration: write 300ms, 90s, 10m or 1h30m");
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let value: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let unit_end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        total += value
            * match &rest[..unit_end] {
                "ms" => 0.001,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return Err(wrong()),
            };
        rest = &rest[unit_end..];
    }
    if text.is_empty() { Err(wrong()) } else { Duration::try_from_secs_f64(total).map_err(|_| wrong()) }
}

/// `850 µs`, `12 ms`, `1.25 s`, `3m5s`: for people.
pub fn show(d: Duration) -> String {
    match d.as_micros() {
        us @ 0..1_000 => format!("{us} µs"),
        us @ 1_000..1_000_000 => format!("{} ms", us / 1000),
        us @ 1_000_000..60_000_000 => format!("{:.2} s", us as f64 / 1e6),
        _ => format!("{}m{}s", d.as_secs() / 60, d.as_secs() % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, ms) in [("300ms", 300), ("90s", 90_000), ("1h30m", 5_400_000), ("1.5s", 1500), ("0", 0)] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "5", "5x", "s", "-1s", "1e3s", "99999999999999999999h"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shown() {
        for (us, text) in [(850, "850 µs"), (12_345, "12 ms"), (1_250_000, "1.25 s"), (185_000_000, "3m5s")] {
            assert_eq!(show(Duration::from_micros(us)), text);
        }
    }
}
