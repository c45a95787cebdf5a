//! kubectl's JSONPath templates: text with `{…}` in between, where `…` is a path (`.spec.containers[*].image`), a
//! quoted string, or `range PATH … end`.

use std::cmp::Ordering;

use anyhow::{Result, bail};
use serde_json::Value;

/// A template.
#[derive(Clone, Debug, PartialEq)]
pub struct Template(Vec<Node>);

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Text(String),
    Path(Path),
    Range(Path, Vec<Node>),
}

/// Steps from the object (or, within a range, from its element).
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Path(Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    /// `..name`
    Descendants(String),
    Every,
    Slice {
        start: Option<i64>,
        end: Option<i64>,
        step: i64,
    },
    Filter(Path, &'static str, Operand),
    /// `['a','b']`
    Fields(Vec<String>),
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Value(Value),
    Path(Path),
    /// `[?(@.x)]`
    Exists,
}

impl Template {
    /// # Errors
    /// When a brace or a path is wrong.
    pub fn parse(text: &str) -> Result<Self> {
        let mut stack: Vec<(Path, Vec<Node>)> = Vec::new();
        let mut nodes = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            if open > 0 {
                nodes.push(Node::Text(rest[..open].to_owned()));
            }
            let Some(close) = closing_brace(&rest[open..]) else { bail!("unclosed brace in jsonpath {text:?}") };
            let inner = rest[open + 1..open + close].trim();
            rest = &rest[open + close + 1..];
            if let Some(path) = inner.strip_prefix("range ") {
                stack.push((Path::parse(path.trim())?, std::mem::take(&mut nodes)));
            } else if inner == "end" {
                let Some((path, outer)) = stack.pop() else { bail!("end without range in jsonpath {text:?}") };
                let body = std::mem::replace(&mut nodes, outer);
                nodes.push(Node::Range(path, body));
            } else if inner.starts_with(['"', '\'']) {
                nodes.push(Node::Text(unquote(inner)?));
            } else {
                nodes.push(Node::Path(Path::parse(inner)?));
            }
        }
        if !rest.is_empty() {
            nodes.push(Node::Text(rest.to_owned()));
        }
        if !stack.is_empty() {
            bail!("range without end in jsonpath {text:?}");
        }
        Ok(Self(nodes))
    }

    pub fn render(&self, object: &Value) -> String {
        let mut out = String::new();
        render(&self.0, object, object, &mut out);
        out
    }
}

fn render(nodes: &[Node], root: &Value, current: &Value, out: &mut String) {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Path(path) => {
                let values: Vec<String> = path.find(root, current).into_iter().map(plain).collect();
                out.push_str(&values.join(" "));
            }
            Node::Range(path, body) => {
                for element in path.find(root, current) {
                    render(body, root, element, out);
                }
            }
        }
    }
}

/// A string without quotes, anything else as JSON.
pub fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The index of the brace that closes the one at 0.
fn closing_brace(text: &str) -> Option<usize> {
    let mut quote = None;
    for (i, c) in text.char_indices().skip(1) {
        match (quote, c) {
            (None, '}') => return Some(i),
            (None, '"' | '\'') => quote = Some(c),
            (Some(q), c) if q == c => quote = None,
            _ => {}
        }
    }
    None
}

fn unquote(text: &str) -> Result<String> {
    let quote = text.chars().next().unwrap_or('"');
    let Some(inner) = text.strip_prefix(quote).and_then(|t| t.strip_suffix(quote)) else {
        bail!("unterminated string {text}")
    };
    let mut out = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some('r') => out.push('\r'),
                Some(other) => out.push(other),
                None => bail!("unterminated escape in {text}"),
            },
            c => out.push(c),
        }
    }
    Ok(out)
}

impl Path {
    /// `.a.b[0]`, `a.b`, `$.a`, `@.a`.
    ///
    /// # Errors
    /// When a step is not understood.
    pub fn parse(text: &str) -> Result<Self> {
        let mut steps = Vec::new();
        let mut rest = text.trim_start_matches(['$', '@']);
        if !rest.is_empty() && !rest.starts_with(['.', '[']) {
            let (name, after) = field(rest);
            steps.push(Step::Field(name));
            rest = after;
        }
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix("..") {
                let (name, after) = field(after);
                steps.push(Step::Descendants(name));
                rest = after;
            } else if let Some(after) = rest.strip_prefix('.') {
                if after.is_empty() || after.starts_with('[') {
                    rest = after;
                    continue;
                }
                let (name, after) = field(after);
                steps.push(if name == "*" { Step::Every } else { Step::Field(name) });
                rest = after;
            } else if rest.starts_with('[') {
                let Some(close) = closing_bracket(rest) else { bail!("unclosed bracket in jsonpath {text:?}") };
                steps.push(bracket(rest[1..close].trim())?);
                rest = &rest[close + 1..];
            } else {
                bail!("unexpected {rest:?} in jsonpath {text:?}");
            }
        }
        Ok(Self(steps))
    }

    pub fn find<'v>(&self, root: &'v Value, current: &'v Value) -> Vec<&'v Value> {
        let mut found = vec![current];
        for step in &self.0 {
            found = found.into_iter().flat_map(|value| step.find(root, value)).collect();
        }
        found
    }

    /// The first match, or null.
    pub fn first<'v>(&self, object: &'v Value) -> &'v Value {
        static NULL: Value = Value::Null;
        self.find(object, object).into_iter().next().unwrap_or(&NULL)
    }
}

/// A name up to the next `.` or `[`; a backslash keeps either in the name.
fn field(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '\\' => name.extend(chars.next().map(|(_, c)| c)),
            '.' | '[' => return (name, &text[i..]),
            c => name.push(c),
        }
    }
    (name, "")
}

fn closing_bracket(text: &str) -> Option<usize> {
    let (mut quote, mut depth) = (None, 0);
    for (i, c) in text.char_indices() {
        match (quote, c) {
            (None, '[') => depth += 1,
            (None, ']') => {
                depth -= 1;
                if depth == 0 {
                    return Some(i);
                }
            }
            (None, '"' | '\'') => quote = Some(c),
            (Some(q), c) if q == c => quote = None,
            _ => {}
        }
    }
    None
}

fn bracket(inner: &str) -> Result<Step> {
    if inner == "*" {
        return Ok(Step::Every);
    }
    if let Some(condition) = inner.strip_prefix("?(").and_then(|c| c.strip_suffix(')')) {
        return filter(condition.trim());
    }
    if inner.starts_with(['"', '\'']) {
        let names = inner.split(',').map(|n| unquote(n.trim())).collect::<Result<Vec<_>>>()?;
        return Ok(Step::Fields(names));
    }
    let parts: Vec<&str> = inner.split(':').collect();
    let number = |text: &str| match text.trim() {
        "" => Ok(None),
        text => text.parse::<i64>().map(Some).map_err(|_| anyhow::anyhow!("{text:?} is not an array index")),
    };
    match parts[..] {
        [index] => {
            let Some(start) = number(index)? else { bail!("an array index is missing") };
            // One past -1 is the end.
            let end = if start == -1 { None } else { Some(start + 1) };
            Ok(Step::Slice { start: Some(start), end, step: 1 })
        }
        [start, end] => Ok(Step::Slice { start: number(start)?, end: number(end)?, step: 1 }),
        [start, end, step] => {
            let step = number(step)?.unwrap_or(1);
            if step < 1 {
                bail!("the step of a slice must be positive");
            }
            Ok(Step::Slice { start: number(start)?, end: number(end)?, step })
        }
        _ => bail!("[{inner}] is not understood"),
    }
}

fn filter(condition: &str) -> Result<Step> {
    for operator in ["==", "!=", "<=", ">=", "<", ">"] {
        let Some((left, right)) = condition.split_once(operator) else { continue };
        let right = right.trim();
        let operand = if right.starts_with(['@', '$']) {
            Operand::Path(Path::parse(right)?)
        } else if right.starts_with(['"', '\'']) {
            Operand::Value(unquote(right)?.into())
        } else {
            Operand::Value(serde_json::from_str(right).map_err(|_| anyhow::anyhow!("{right:?} is not a value"))?)
        };
        return Ok(Step::Filter(Path::parse(left.trim())?, operator, operand));
    }
    Ok(Step::Filter(Path::parse(condition)?, "", Operand::Exists))
}

impl Step {
    fn find<'v>(&self, root: &'v Value, value: &'v Value) -> Vec<&'v Value> {
        match self {
            Self::Field(name) => value.get(name).into_iter().collect(),
            Self::Fields(names) => names.iter().filter_map(|n| value.get(n)).collect(),
            Self::Descendants(name) => descendants(value, name),
            Self::Every => children(value),
            Self::Slice { start, end, step } => slice(value, *start, *end, *step),
            Self::Filter(path, operator, operand) => {
                children(value).into_iter().filter(|v| holds(path, operator, operand, root, v)).collect()
            }
        }
    }
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(map) => map.values().collect(),
        _ => Vec::new(),
    }
}

fn descendants<'v>(value: &'v Value, name: &str) -> Vec<&'v Value> {
    let mut out: Vec<&Value> = value.get(name).into_iter().collect();
    for child in children(value) {
        out.extend(descendants(child, name));
    }
    out
}

fn slice(value: &Value, start: Option<i64>, end: Option<i64>, step: i64) -> Vec<&Value> {
    let Some(items) = value.as_array() else { return Vec::new() };
    let length = items.len() as i64;
    let place = |i: i64| if i < 0 { i + length } else { i }.clamp(0, length);
    let (from, to) = (place(start.unwrap_or(0)), place(end.unwrap_or(length)));
    // An index before the first element names none.
    if start.is_some_and(|s| s + length < 0) {
        return Vec::new();
    }
    (from..to).step_by(step as usize).filter_map(|i| items.get(i as usize)).collect()
}

fn holds(path: &Path, operator: &str, operand: &Operand, root: &Value, value: &Value) -> bool {
    let found = path.find(root, value);
    let right = match operand {
        Operand::Exists => return !found.is_empty(),
        Operand::Value(v) => v,
        Operand::Path(p) => match p.find(root, value).first() {
            Some(v) => *v,
            None => return false,
        },
    };
    found.into_iter().any(|left| match (operator, compare(left, right)) {
        ("!=", order) => order != Some(Ordering::Equal),
        (_, None) => false,
        ("==", Some(order)) => order.is_eq(),
        ("<", Some(order)) => order.is_lt(),
        (">", Some(order)) => order.is_gt(),
        ("<=", Some(order)) => order.is_le(),
        (_, Some(order)) => order.is_ge(),
    })
}

/// Of two values of one type.
pub fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => x.as_f64()?.partial_cmp(&y.as_f64()?),
        (Value::String(x), Value::String(y)) => Some(x.cmp(y)),
        (Value::Bool(x), Value::Bool(y)) => Some(x.cmp(y)),
        _ => (a == b).then_some(Ordering::Equal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn templates() {
        let object = json!({"kind": "List", "items": [
            {"metadata": {"name": "a", "labels": {"app.kubernetes.io/name": "x"}}, "spec": {"n": 1, "list": [1, 2, 3]}},
            {"metadata": {"name": "b"}, "spec": {"n": 5, "list": []}, "ok": true}]});
        for (template, expected) in [
            ("{.items[*].metadata.name}", "a b"),
            ("{.items[0].metadata.name}", "a"),
            ("{.items[-1].metadata.name}", "b"),
            ("{.items[9].metadata.name}", ""),
            ("{.items[-9].metadata.name}", ""),
            ("{.items[0].spec.list[1:]}", "2 3"),
            ("{.items[0].spec.list[::2]}", "1 3"),
            ("{.items[0].spec.list}", "[1,2,3]"),
            ("{range .items[*]}{.metadata.name}{\"\\t\"}{.spec.n}{\"\\n\"}{end}", "a\t1\nb\t5\n"),
            (r"{.items[0].metadata.labels.app\.kubernetes\.io/name}", "x"),
            ("{.items[0].metadata.labels['app.kubernetes.io/name']}", "x"),
            ("{..name}", "a b"),
            ("{.items[?(@.spec.n>1)].metadata.name}", "b"),
            ("{.items[?(@.metadata.name==\"a\")].spec.n}", "1"),
            ("{.items[?(@.ok)].metadata.name}", "b"),
            ("n={.items[0].spec.n}!", "n=1!"),
            ("{$.kind}", "List"),
            ("{.missing}", ""),
            ("{'}'}", "}"),
        ] {
            assert_eq!(Template::parse(template).unwrap().render(&object), expected, "{template}");
        }
    }

    #[test]
    fn templates_that_are_wrong() {
        for template in ["{", "{.a[}", "{range .a}", "{end}", "{.a[x]}", "{.a[1:2:0]}", "{\"x}", "{.a[?(@.b==c)]}"] {
            assert!(Template::parse(template).is_err(), "{template}");
        }
    }
}
