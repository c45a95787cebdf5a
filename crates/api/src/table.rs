//! Server-side printing: the columns and cells of `kubectl get`.

use jiff::Timestamp;
use serde_json::Value;

/// A column of a `meta.k8s.io/v1 Table`.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub name: &'static str,
    /// `string`, `integer`, `date`, `boolean`.
    pub column_type: &'static str,
    /// `name` for the first one.
    pub format: &'static str,
    pub description: &'static str,
    /// 0 is always shown, 1 with `-o wide`.
    pub priority: i32,
}

impl Column {
    pub const fn new(name: &'static str, column_type: &'static str) -> Self {
        Self { name, column_type, format: "", description: "", priority: 0 }
    }
    pub const fn wide(mut self) -> Self {
        self.priority = 1;
        self
    }
    pub const fn about(mut self, description: &'static str) -> Self {
        self.description = description;
        self
    }
    pub const AGE: Column = Column::new("Age", "string").about("Time since the object was created.");
    pub const NAME: Column = Column {
        name: "Name",
        column_type: "string",
        format: "name",
        description: "Name must be unique within a namespace.",
        priority: 0,
    };
}

pub const NAME_AND_AGE: &[Column] = &[Column::NAME, Column::AGE];

pub fn name_and_age(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![object["metadata"]["name"].clone(), age(object, now)]
}

/// `5m3s` since `metadata.creationTimestamp`, `<unknown>` without one.
pub fn age(object: &Value, now: Timestamp) -> Value {
    since(&object["metadata"]["creationTimestamp"], now).into()
}

/// The duration since a time of an object, `<unknown>` without one.
pub fn since(time: &Value, now: Timestamp) -> String {
    let time = time.as_str().and_then(|t| t.parse::<Timestamp>().ok());
    time.map_or_else(|| "<unknown>".to_owned(), |t| short_duration(now.as_second() - t.as_second()))
}

/// `<none>` for the empty string.
pub fn or_none(text: &str) -> Value {
    if text.is_empty() { "<none>".into() } else { text.into() }
}

/// `a=1,b=2`, `<none>` without any.
pub fn labels(labels: &Value) -> Value {
    let pairs: Vec<String> = labels
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
        .collect();
    or_none(&pairs.join(","))
}

/// A LabelSelector object in its string form, `<none>` for an empty or absent one.
pub fn selector(selector: &Value) -> Value {
    or_none(&crate::selector::LabelSelector::from_object(selector).to_string())
}

/// The names and the images of a pod spec's containers, comma-separated.
pub fn containers_and_images(spec: &Value) -> [Value; 2] {
    ["name", "image"].map(|key| {
        let values: Vec<&str> =
            crate::object::items(spec, "containers").iter().map(|c| crate::object::text(c, key)).collect();
        values.join(",").into()
    })
}

/// A count that is absent when it is zero.
pub fn count(v: &Value, key: &str) -> Value {
    crate::object::int(v, key).unwrap_or(0).into()
}

/// The duration format of kubectl: at most two units, fewer as they grow (`45s`, `5m3s`, `12h`, `3d4h`, `400d`, `2y35d`).
pub fn short_duration(seconds: i64) -> String {
    let two = |n: i64, unit: &str, rest: i64, rest_unit: &str| {
        if rest == 0 { format!("{n}{unit}") } else { format!("{n}{unit}{rest}{rest_unit}") }
    };
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        // Clocks differ by a second or two.
        ..=-2 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{days}d"),
        63_072_000..252_288_000 => two(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_kubectl_writes_them() {
        let (m, h, d) = (60, 3600, 86400);
        for (seconds, expected) in [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (2 * m, "2m"),
            (5 * m + 3, "5m3s"),
            (10 * m + 3, "10m"),
            (179 * m, "179m"),
            (3 * h, "3h"),
            (7 * h + 5 * m, "7h5m"),
            (8 * h + 5 * m, "8h"),
            (47 * h, "47h"),
            (2 * d, "2d"),
            (3 * d + 4 * h, "3d4h"),
            (8 * d + 4 * h, "8d"),
            (400 * d, "400d"),
            (765 * d, "2y35d"),
            (730 * d, "2y"),
            (8 * 365 * d + 5 * d, "8y"),
        ] {
            assert_eq!(short_duration(seconds), expected, "{seconds}");
        }
    }
}
