//! The figures: collected as histograms, printed as a table or as JSON.

use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::table;

/// One line of the report.
#[derive(Default)]
pub struct Report {
    cluster: Value,
    rows: Vec<Row>,
}

struct Row {
    name: String,
    figure: Figure,
}

enum Figure {
    /// Times of single operations, and how long all of them took together.
    Times {
        histogram: Histogram<u64>,
        all: Duration,
    },
    One {
        value: f64,
        unit: &'static str,
    },
}

/// Times from a microsecond to an hour, to three digits.
pub fn histogram() -> Histogram<u64> {
    // The bounds are constants in the range that the crate takes; without them it would grow by itself.
    Histogram::new_with_bounds(1, 3_600_000_000, 3).unwrap_or_else(|_| Histogram::new(3).expect("3 digits are allowed"))
}

pub fn record(histogram: &mut Histogram<u64>, time: Duration) {
    histogram.saturating_record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1));
}

impl Report {
    pub fn cluster(&mut self, version: &str, own: bool) {
        self.cluster = json!({ "version": version, "startedHere": own });
    }
    pub fn times(&mut self, name: impl Into<String>, histogram: Histogram<u64>, all: Duration) {
        self.rows.push(Row { name: name.into(), figure: Figure::Times { histogram, all } });
    }
    pub fn one(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        self.rows.push(Row { name: name.into(), figure: Figure::One { value, unit } });
    }

    pub fn table(&self) -> String {
        let rows = self.rows.iter().map(|row| match &row.figure {
            Figure::Times { histogram, all } => {
                let ms = |micros: u64| format!("{:.2} ms", micros as f64 / 1000.0);
                vec![
                    row.name.clone(),
                    histogram.len().to_string(),
                    format!("{:.0}/s", per_second(histogram, *all)),
                    ms(histogram.value_at_quantile(0.5)),
                    ms(histogram.value_at_quantile(0.99)),
                    ms(histogram.max()),
                ]
            }
            Figure::One { value, unit } => vec![row.name.clone(), "1".into(), format!("{value:.1} {unit}")],
        });
        let version = self.cluster["version"].as_str().unwrap_or("unknown");
        format!("cluster: {version}\n{}", table::render(&["MEASURED", "N", "RATE OR VALUE", "P50", "P99", "MAX"], rows))
    }

    pub fn json(&self) -> Result<String> {
        let results: Vec<Value> = self.rows.iter().map(Row::json).collect();
        let all = json!({ "cluster": self.cluster, "results": results });
        Ok(serde_json::to_string_pretty(&all)? + "\n")
    }
}

impl Row {
    fn json(&self) -> Value {
        match &self.figure {
            Figure::Times { histogram, all } => {
                let ms = |micros: u64| micros as f64 / 1000.0;
                json!({
                    "name": self.name,
                    "count": histogram.len(),
                    "seconds": all.as_secs_f64(),
                    "perSecond": per_second(histogram, *all),
                    "p50Ms": ms(histogram.value_at_quantile(0.5)),
                    "p99Ms": ms(histogram.value_at_quantile(0.99)),
                    "maxMs": ms(histogram.max()),
                })
            }
            Figure::One { value, unit } => json!({ "name": self.name, "value": value, "unit": unit }),
        }
    }
}

fn per_second(histogram: &Histogram<u64>, all: Duration) -> f64 {
    histogram.len() as f64 / all.as_secs_f64().max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let mut report = Report::default();
        report.cluster("v1.37.0", true);
        let mut times = histogram();
        for ms in 1..=100 {
            record(&mut times, Duration::from_millis(ms));
        }
        report.times("creates", times, Duration::from_secs(2));
        report.one("memory", 41.25, "MiB");
        let expected = "cluster: v1.37.0\n\
            MEASURED   N     RATE OR VALUE   P50        P99        MAX\n\
            creates    100   50/s            50.02 ms   99.01 ms   100.03 ms\n\
            memory     1     41.2 MiB\n";
        assert_eq!(report.table(), expected);
        let json: Value = serde_json::from_str(&report.json().unwrap()).unwrap();
        assert_eq!(json["results"][0]["perSecond"], 50.0);
        assert_eq!(json["results"][1], json!({ "name": "memory", "value": 41.25, "unit": "MiB" }));
    }
}
