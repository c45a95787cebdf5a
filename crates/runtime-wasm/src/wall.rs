//! A limit of real time for a container's main process (annotation `skiff.dev/wall-time`): however it spends it, it ends then.

use std::{collections::BTreeMap, future::Future, time::Duration};

use skiff_runtime::{Exit, annotations::WALL_TIME};

/// The limit that a pod's annotations name, if they do: `500ms`, `30s`, `5m`, `2h`.
///
/// # Errors
/// In words for the user.
pub fn limit(annotations: &BTreeMap<String, String>) -> Result<Option<Duration>, String> {
    let Some(text) = annotations.get(WALL_TIME) else { return Ok(None) };
    let wrong = || format!("annotation {WALL_TIME}: {text:?} is not a time like 500ms, 30s, 5m or 2h");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let millis = number.checked_mul(millis).filter(|&millis| millis > 0).ok_or_else(wrong)?;
    Ok(Some(Duration::from_millis(millis)))
}

/// Runs it to its end, or until its time is over.
pub async fn within(limit: Option<Duration>, run: impl Future<Output = Exit>) -> Exit {
    let Some(limit) = limit else { return run.await };
    tokio::time::timeout(limit, run).await.unwrap_or_else(|_| Exit {
        code: 137,
        reason: "DeadlineExceeded",
        message: format!("its wall time of {limit:?} is over (annotation {WALL_TIME})"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        let read = |text: &str| limit(&BTreeMap::from([(WALL_TIME.to_owned(), text.to_owned())]));
        for (text, millis) in [("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("2h", 7_200_000)] {
            assert_eq!(read(text), Ok(Some(Duration::from_millis(millis))), "{text}");
        }
        for text in ["", "5", "s", "-1s", "0s", "1.5s", "5 s", "1d", "99999999999999999999s", "18446744073709551615h"] {
            assert!(read(text).is_err_and(|message| message.contains("wall-time")), "{text}");
        }
        assert_eq!(limit(&BTreeMap::new()), Ok(None));
    }
}
