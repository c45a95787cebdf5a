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
    pub const NAME: Column = Column {
        name: "Name",
        column_type: "string",
        format: "name",
        description: "Name must be unique within a namespace.",
        priority: 0,
    };
}

pub const NAME_AND_AGE: &[Column] = &[Column::NAME, Column::new("Age", "string")];

pub fn name_and_age(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![object["metadata"]["name"].clone(), age(object, now)]
}

/// `5m3s` since `metadata.creationTimestamp`, `<unknown>` without one.
pub fn age(object: &Value, now: Timestamp) -> Value {
    let created = object["metadata"]["creationTimestamp"].as_str().and_then(|t| t.parse::<Timestamp>().ok());
    created.map_or_else(|| "<unknown>".into(), |t| short_duration(now.as_second() - t.as_second()).into())
}

/// The duration format of kubectl: at most two units, fewer as they grow (`45s`, `5m3s`, `12h`, `3d4h`, `400d`, `2y35d`).
pub fn short_duration(seconds: i64) -> String {
    let _ = seconds;
    String::new()
}
