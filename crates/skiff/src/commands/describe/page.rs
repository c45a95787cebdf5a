//! A page of `describe`: fields that line up within their block, blocks within blocks.

use serde_json::Value;

/// Lines of a page. A block's fields line up with each other.
#[derive(Debug, Default)]
pub struct Page {
    blocks: Vec<Block>,
}

#[derive(Debug)]
struct Block {
    indent: usize,
    lines: Vec<(String, String)>,
}

impl Page {
    /// `Key:   value`; a value of several lines continues under its beginning.
    pub fn field(&mut self, key: &str, value: impl Into<String>) {
        self.field_at(0, key, value);
    }

    pub fn field_at(&mut self, indent: usize, key: &str, value: impl Into<String>) {
        let line = (format!("{key}:"), value.into());
        match self.blocks.last_mut() {
            Some(block) if block.indent == indent => block.lines.push(line),
            _ => self.blocks.push(Block { indent, lines: vec![line] }),
        }
    }

    /// `Key:` with a block below it.
    pub fn heading(&mut self, indent: usize, key: &str) {
        self.blocks.push(Block { indent, lines: vec![(format!("{key}:"), String::new())] });
        // What follows at this depth lines up among itself.
        self.blocks.push(Block { indent, lines: Vec::new() });
    }

    /// A line as it is.
    pub fn line(&mut self, indent: usize, text: impl Into<String>) {
        self.blocks.push(Block { indent, lines: vec![(text.into(), String::new())] });
    }

    /// A table, below what it is of.
    pub fn table(&mut self, indent: usize, header: &[&str], rows: Vec<Vec<String>>) {
        let dashes = header.iter().map(|h| "-".repeat(h.len())).collect();
        let text = crate::table::render(header, std::iter::once(dashes).chain(rows));
        for line in text.lines() {
            self.line(indent, line);
        }
    }

    pub fn render(&self) -> String {
        let mut out = String::new();
        for block in &self.blocks {
            let with_value = block.lines.iter().filter(|(_, v)| !v.is_empty());
            let width = with_value.map(|(k, _)| k.chars().count()).max().unwrap_or(0);
            let margin = " ".repeat(block.indent);
            for (key, value) in &block.lines {
                let mut values = value.lines();
                match values.next() {
                    None => out.push_str(format!("{margin}{key}").trim_end()),
                    Some(first) => out.push_str(format!("{margin}{key:<width$}  {first}").trim_end()),
                }
                out.push('\n');
                for more in values {
                    out.push_str(format!("{margin}{:<width$}  {more}", "").trim_end());
                    out.push('\n');
                }
            }
        }
        out
    }
}

/// A string as it is, null as `<none>`, lists and maps on one line each.
pub fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<none>".to_owned(),
        Value::String(s) if s.is_empty() => "<none>".to_owned(),
        Value::String(s) => s.clone(),
        other => other.to_string(),
    }
}

/// `a=b`, one a line.
pub fn pairs(map: &Value, separator: &str) -> String {
    let lines: Vec<String> =
        map.as_object().into_iter().flatten().map(|(k, v)| format!("{k}{separator}{}", shown(v))).collect();
    if lines.is_empty() { "<none>".to_owned() } else { lines.join("\n") }
}

/// An object without a page of its own: every field, indented as it is nested.
pub fn tree(page: &mut Page, indent: usize, value: &Value) {
    for (key, value) in value.as_object().into_iter().flatten() {
        let title = title(key);
        match value {
            Value::Object(map) if !map.is_empty() => {
                page.heading(indent, &title);
                tree(page, indent + 2, value);
            }
            Value::Array(items) if items.iter().any(Value::is_object) => {
                page.heading(indent, &title);
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        page.line(indent, "");
                    }
                    tree(page, indent + 2, item);
                }
            }
            Value::Array(items) => {
                page.field_at(indent, &title, items.iter().map(shown).collect::<Vec<_>>().join("\n"))
            }
            other => page.field_at(indent, &title, shown(other)),
        }
    }
}

/// `maxReplicas` as `Max Replicas`.
fn title(key: &str) -> String {
    let mut out = String::new();
    let mut last_lower = false;
    for (i, c) in key.chars().enumerate() {
        if i == 0 {
            out.extend(c.to_uppercase());
        } else {
            if c.is_uppercase() && last_lower {
                out.push(' ');
            }
            out.push(c);
        }
        last_lower = c.is_lowercase() || c.is_ascii_digit();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn blocks_line_up() {
        let mut page = Page::default();
        page.field("Name", "x");
        page.field("Labels", "a=1\nb=2");
        page.heading(0, "Containers");
        page.field_at(2, "Image", "i");
        page.field_at(2, "Port", "80");
        page.field("Node", "n");
        assert_eq!(
            page.render(),
            "Name:    x\nLabels:  a=1\n         b=2\nContainers:\n  Image:  i\n  Port:   80\nNode:  n\n"
        );
    }

    #[test]
    fn any_object_has_a_page() {
        let mut page = Page::default();
        tree(
            &mut page,
            0,
            &json!({"maxReplicas": 3, "list": [1, 2], "nested": {"clusterIP": ""}, "items": [{"a": 1}, {"a": 2}]}),
        );
        assert_eq!(
            page.render(),
            "Items:\n  A:  1\n\n  A:  2\nList:          1\n               2\nMax Replicas:  3\nNested:\n  Cluster IP:  <none>\n"
        );
    }
}
