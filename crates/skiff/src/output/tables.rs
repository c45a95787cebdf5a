//! Tables that the server made, as kubectl prints them.

use crate::table::CELL_CHARS_MIN;
use serde_json::Value;

/// What is added to or left out of the server's columns.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    pub wide: bool,
    pub headers: bool,
    /// A column before all others.
    pub namespace: bool,
    pub labels: bool,
    /// A column for each of these labels.
    pub label_columns: Vec<String>,
    /// `pod/`, before every name.
    pub prefix: Option<String>,
}

/// Prints tables of one kind; later ones line up with earlier ones, as far as they can.
#[derive(Debug, Default)]
pub struct Printer {
    shape: Shape,
    widths: Vec<usize>,
    header_printed: bool,
}

impl Printer {
    pub fn new(shape: Shape) -> Self {
        Self { header_printed: !shape.headers, shape, widths: Vec::new() }
    }

    /// The text of a `Table`; the header comes with the first one.
    pub fn render(&mut self, table: &Value) -> String {
        let none = Vec::new();
        let columns = table["columnDefinitions"].as_array().unwrap_or(&none);
        let shown: Vec<usize> = columns
            .iter()
            .enumerate()
            .filter(|(_, c)| self.shape.wide || c["priority"].as_i64().unwrap_or(0) == 0)
            .map(|(i, _)| i)
            .collect();
        let mut lines = Vec::new();
        if !self.header_printed && !columns.is_empty() {
            self.header_printed = true;
            lines.push(self.header(columns, &shown));
        }
        for row in table["rows"].as_array().unwrap_or(&none) {
            lines.push(self.row(row, columns, &shown));
        }
        self.align(&lines)
    }

    fn header(&self, columns: &[Value], shown: &[usize]) -> Vec<String> {
        let mut line = Vec::new();
        if self.shape.namespace {
            line.push("NAMESPACE".to_owned());
        }
        line.extend(shown.iter().map(|i| columns[*i]["name"].as_str().unwrap_or_default().to_uppercase()));
        line.extend(self.shape.label_columns.iter().map(|l| l.rsplit('/').next().unwrap_or(l).to_uppercase()));
        if self.shape.labels {
            line.push("LABELS".to_owned());
        }
        line
    }

    fn row(&self, row: &Value, columns: &[Value], shown: &[usize]) -> Vec<String> {
        let metadata = &row["object"]["metadata"];
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let mut line = Vec::new();
        if self.shape.namespace {
            line.push(text(&metadata["namespace"]));
        }
        for (position, i) in shown.iter().enumerate() {
            let value = cell(&row["cells"][*i], &columns[*i]);
            match &self.shape.prefix {
                Some(prefix) if position == 0 && columns[*i]["format"] == "name" => {
                    line.push(format!("{prefix}/{value}"))
                }
                _ => line.push(value),
            }
        }
        let labels = &metadata["labels"];
        line.extend(self.shape.label_columns.iter().map(|l| text(&labels[l.as_str()])));
        if self.shape.labels {
            let pairs: Vec<String> =
                labels.as_object().into_iter().flatten().map(|(k, v)| format!("{k}={}", text(v))).collect();
            line.push(if pairs.is_empty() { "<none>".to_owned() } else { pairs.join(",") });
        }
        line
    }

    fn align(&mut self, lines: &[Vec<String>]) -> String {
        let mut out = String::new();
        for line in lines {
            self.widths.resize(self.widths.len().max(line.len()), 0);
            for (width, cell) in self.widths.iter_mut().zip(line) {
                *width = (*width).max(cell.chars().count()).max(CELL_CHARS_MIN);
            }
        }
        for line in lines {
            let padded: String = line
                .iter()
                .zip(&self.widths)
                .map(|(cell, width)| format!("{cell:<width$}   ", width = *width))
                .collect();
            out.push_str(padded.trim_end());
            out.push('\n');
        }
        out
    }
}

/// A cell on one line; dates are shown as they are.
fn cell(value: &Value, column: &Value) -> String {
    let text = match value {
        Value::Null => "<none>".to_owned(),
        Value::String(s) => s.clone(),
        other => other.to_string(),
    };
    let text = match text.split_once(['\n', '\r', '\u{c}']) {
        Some((first, _)) => format!("{first}..."),
        None => text,
    };
    if column["type"] == "date" && text.is_empty() { "<unknown>".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn table() -> Value {
        json!({"columnDefinitions": [{"name": "Name", "format": "name", "priority": 0}, {"name": "Node", "priority": 1}, {"name": "Age", "priority": 0}],
            "rows": [{"cells": ["a", "n1", "5s"], "object": {"metadata": {"namespace": "x", "labels": {"app": "web"}}}},
                     {"cells": ["long", null, "1d"], "object": {"metadata": {"namespace": "yy"}}}]})
    }

    fn shown(shape: Shape) -> String {
        Printer::new(shape).render(&table())
    }

    #[test]
    fn shapes() {
        let plain = Shape { headers: true, ..Shape::default() };
        assert_eq!(shown(plain.clone()), "NAME   AGE\na      5s\nlong   1d\n");
        assert_eq!(shown(Shape::default()), "a      5s\nlong   1d\n");
        assert_eq!(
            shown(Shape { wide: true, ..plain.clone() }),
            "NAME   NODE     AGE\na      n1       5s\nlong   <none>   1d\n"
        );
        assert_eq!(
            shown(Shape { namespace: true, labels: true, label_columns: vec!["app".into()], ..plain.clone() }),
            "NAMESPACE   NAME   AGE   APP   LABELS\nx           a      5s    web   app=web\nyy          long   1d          <none>\n"
        );
        assert_eq!(
            shown(Shape { prefix: Some("pod".into()), ..plain }),
            "NAME       AGE\npod/a      5s\npod/long   1d\n"
        );
    }

    #[test]
    fn later_rows_line_up_with_earlier_ones() {
        let mut printer = Printer::new(Shape { headers: true, ..Shape::default() });
        printer.render(&table());
        let more = json!({"columnDefinitions": table()["columnDefinitions"], "rows": [{"cells": ["b", "", "0s"]}]});
        assert_eq!(printer.render(&more), "b      0s\n");
    }
}
