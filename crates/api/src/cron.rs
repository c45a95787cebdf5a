//! Cron schedules: five fields (minute, hour, day of month, month, day of week), or `@hourly` and its like, or
//! `@every 1h30m`.

use std::str::FromStr;

use jiff::civil::DateTime;
use jiff::{Span, ToSpan};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    Fields(Box<Fields>),
    /// Seconds, at least one.
    Every(i64),
}

/// Bit sets of the values that match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    minute: u64,
    hour: u64,
    day: u64,
    month: u64,
    weekday: u64,
    /// Written as `*`: then the other of the two days decides alone.
    any_day: bool,
    any_weekday: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    #[error("expected exactly 5 fields, found {count}: [{fields}]")]
    FieldCount { count: usize, fields: String },
    #[error("failed to parse int from {0}")]
    Number(String),
    #[error("beginning of range ({start}) below minimum ({min}): {text}")]
    BelowMinimum { start: u32, min: u32, text: String },
    #[error("end of range ({end}) above maximum ({max}): {text}")]
    AboveMaximum { end: u32, max: u32, text: String },
    #[error("beginning of range ({start}) beyond end of range ({end}): {text}")]
    Backwards { start: u32, end: u32, text: String },
    #[error("step of range should be a positive number: {0}")]
    Step(String),
    #[error("too many hyphens or slashes: {0}")]
    Syntax(String),
    #[error("unrecognized descriptor: {0}")]
    Descriptor(String),
    #[error("failed to parse duration {0}")]
    Duration(String),
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// How far ahead [`Schedule::next_after`] looks: the leap day of a century that has none is eight years off.
const YEARS_MAX: i16 = 9;

impl FromStr for Schedule {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, CronError> {
        let text = text.trim();
        if let Some(duration) = text.strip_prefix("@every ") {
            let span: Span = duration.trim().parse().map_err(|_| CronError::Duration(text.to_owned()))?;
            let seconds = span
                .total((jiff::Unit::Second, jiff::SpanRelativeTo::days_are_24_hours()))
                .map_err(|_| CronError::Duration(text.to_owned()))?;
            return Ok(Self::Every((seconds as i64).max(1)));
        }
        let fields = match text {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            _ if text.starts_with('@') => return Err(CronError::Descriptor(text.to_owned())),
            _ => text,
        };
        let parts: Vec<&str> = fields.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = parts[..] else {
            return Err(CronError::FieldCount { count: parts.len(), fields: parts.join(" ") });
        };
        let any = |field: &str| field.split(',').any(|p| p.starts_with(['*', '?']));
        Ok(Self::Fields(Box::new(Fields {
            minute: set(minute, 0, 59, &[])?,
            hour: set(hour, 0, 23, &[])?,
            day: set(day, 1, 31, &[])?,
            month: set(month, 1, 12, &MONTHS)?,
            weekday: set(weekday, 0, 6, &WEEKDAYS)?,
            any_day: any(day),
            any_weekday: any(weekday),
        })))
    }
}

fn set(field: &str, min: u32, max: u32, names: &[&str]) -> Result<u64, CronError> {
    let mut bits = 0;
    for part in field.split(',') {
        bits |= range(part, min, max, names)?;
    }
    Ok(bits)
}

/// `*`, `5`, `1-5`, each with `/step`.
fn range(text: &str, min: u32, max: u32, names: &[&str]) -> Result<u64, CronError> {
    let owned = || text.to_owned();
    let (span, step) = match text.split_once('/') {
        Some((_, step)) if step.contains('/') => return Err(CronError::Syntax(owned())),
        Some((span, step)) => (span, Some(number(step, &[], 0)?)),
        None => (text, None),
    };
    let (start, end) = match span.split_once('-') {
        _ if matches!(span, "*" | "?") => (min, max),
        Some((_, end)) if end.contains('-') => return Err(CronError::Syntax(owned())),
        Some((start, end)) => (number(start, names, min)?, number(end, names, min)?),
        None => {
            let start = number(span, names, min)?;
            // `5/10` runs from 5 to the end.
            (start, if step.is_some() { max } else { start })
        }
    };
    if start < min {
        return Err(CronError::BelowMinimum { start, min, text: owned() });
    }
    if end > max {
        return Err(CronError::AboveMaximum { end, max, text: owned() });
    }
    if start > end {
        return Err(CronError::Backwards { start, end, text: owned() });
    }
    let step = step.unwrap_or(1);
    if step == 0 {
        return Err(CronError::Step(owned()));
    }
    Ok((start..=end).step_by(step as usize).fold(0, |bits, n| bits | 1 << n))
}

fn number(text: &str, names: &[&str], first: u32) -> Result<u32, CronError> {
    let lower = text.to_lowercase();
    if let Some(i) = names.iter().position(|n| *n == lower) {
        return Ok(first + i as u32);
    }
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(CronError::Number(text.to_owned()));
    }
    text.parse().map_err(|_| CronError::Number(text.to_owned()))
}

fn has(bits: u64, n: i8) -> bool {
    bits & (1 << n) != 0
}

impl Fields {
    fn matches_day(&self, time: DateTime) -> bool {
        let day = has(self.day, time.day());
        let weekday = has(self.weekday, time.weekday().to_sunday_zero_offset());
        if self.any_day || self.any_weekday { day && weekday } else { day || weekday }
    }
}

impl Schedule {
    /// The first time after `time` that matches, to the minute, in the zone that `time` is meant in; `None` for a
    /// day that does not come, as the 31st of February.
    pub fn next_after(&self, time: DateTime) -> Option<DateTime> {
        let fields = match self {
            Self::Every(seconds) => return time.checked_add(seconds.seconds()).ok(),
            Self::Fields(fields) => fields,
        };
        let mut next = time.with().second(0).subsec_nanosecond(0).build().ok()?.checked_add(1.minute()).ok()?;
        let last_year = time.year().saturating_add(YEARS_MAX);
        while next.year() <= last_year {
            let midnight = next.date().at(0, 0, 0, 0);
            if !has(fields.month, next.month()) {
                next = midnight.first_of_month().checked_add(1.month()).ok()?;
            } else if !fields.matches_day(next) {
                next = midnight.checked_add(1.day()).ok()?;
            } else if !has(fields.hour, next.hour()) {
                next = midnight.with().hour(next.hour()).build().ok()?.checked_add(1.hour()).ok()?;
            } else if !has(fields.minute, next.minute()) {
                next = next.checked_add(1.minute()).ok()?;
            } else {
                return Some(next);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_times() {
        for (schedule, after, expected) in [
            ("* * * * *", "2026-01-01T00:00:30", "2026-01-01T00:01:00"),
            ("*/15 * * * *", "2026-01-01T00:46:00", "2026-01-01T01:00:00"),
            ("0 0 * * *", "2026-12-31T12:00:00", "2027-01-01T00:00:00"),
            ("30 4 1,15 * *", "2026-01-02T00:00:00", "2026-01-15T04:30:00"),
            ("0 9 * * MON-FRI", "2026-01-02T10:00:00", "2026-01-05T09:00:00"),
            ("0 0 13 * fri", "2026-01-03T00:00:00", "2026-01-09T00:00:00"),
            ("0 0 29 feb *", "2026-01-01T00:00:00", "2028-02-29T00:00:00"),
            ("5/20 * * * *", "2026-01-01T00:06:00", "2026-01-01T00:25:00"),
            ("@hourly", "2026-01-01T00:00:00", "2026-01-01T01:00:00"),
            ("@weekly", "2026-01-01T00:00:00", "2026-01-04T00:00:00"),
            ("@every 90s", "2026-01-01T00:00:00", "2026-01-01T00:01:30"),
        ] {
            let next = schedule.parse::<Schedule>().unwrap().next_after(after.parse().unwrap());
            assert_eq!(next, Some(expected.parse().unwrap()), "{schedule} after {after}");
        }
        assert_eq!("0 0 31 2 *".parse::<Schedule>().unwrap().next_after("2026-01-01T00:00:00".parse().unwrap()), None);
    }

    #[test]
    fn what_is_no_schedule() {
        for (schedule, error) in [
            ("", "expected exactly 5 fields, found 0: []"),
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("a * * * *", "failed to parse int from a"),
            ("1-2-3 * * * *", "too many hyphens or slashes: 1-2-3"),
            ("@never", "unrecognized descriptor: @never"),
            ("@every x", "failed to parse duration @every x"),
            ("-1 * * * *", "failed to parse int from "),
        ] {
            assert_eq!(schedule.parse::<Schedule>().unwrap_err().to_string(), error, "{schedule}");
        }
    }
}
