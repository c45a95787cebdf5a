//! Label selectors and field selectors: parsing, matching, and the errors about them.
//!
//! An absent LabelSelector object matches nothing, an empty one everything: callers decide which they have.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use crate::field::{FieldError, FieldErrors, Path, invalid_each};
use crate::{Status, names};

/// A conjunction of requirements on labels. Empty: everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
    /// Of an absent selector.
    nothing: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    /// Sorted, without duplicates.
    pub values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Equals,
    NotEquals,
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

impl Requirement {
    fn new(key: &str, operator: Operator, mut values: Vec<String>) -> Self {
        values.sort();
        values.dedup();
        Self { key: key.to_owned(), operator, values }
    }

    /// `value` is the label's, if the object has it.
    pub fn matches(&self, value: Option<&str>) -> bool {
        let listed = |v: &str| self.values.iter().any(|x| x == v);
        let compared = |v: &str| Some((v.parse::<i64>().ok()?, self.values.first()?.parse::<i64>().ok()?));
        match self.operator {
            Operator::Equals | Operator::In => value.is_some_and(listed),
            Operator::NotEquals | Operator::NotIn => !value.is_some_and(listed),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => value.and_then(compared).is_some_and(|(a, b)| a > b),
            Operator::LessThan => value.and_then(compared).is_some_and(|(a, b)| a < b),
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, values) = (&self.key, self.values.join(","));
        match self.operator {
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

/// `app=web,tier in (a,b)`: what `labelSelector=` takes back.
impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, r) in self.requirements.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            r.fmt(f)?;
        }
        Ok(())
    }
}

impl LabelSelector {
    pub fn everything() -> Self {
        Self::default()
    }
    pub fn nothing() -> Self {
        Self { requirements: Vec::new(), nothing: true }
    }
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// The form of the `labelSelector` query parameter; an error is a 400 of upstream's wording.
    pub fn parse(text: &str) -> Result<Self, Status> {
        let mut requirements = Parser::new(text).parse().map_err(Status::bad_request)?;
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self { requirements, nothing: false })
    }

    /// All of these labels; no labels is everything.
    pub fn from_map<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut requirements: Vec<_> =
            labels.into_iter().map(|(k, v)| Requirement::new(k, Operator::Equals, vec![v.to_owned()])).collect();
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Self { requirements, nothing: false }
    }

    /// From `{matchLabels, matchExpressions}`; null matches nothing. Malformed parts match nothing either, since
    /// validation has refused them.
    pub fn from_object(selector: &Value) -> Self {
        if selector.is_null() {
            return Self::nothing();
        }
        let mut out = selector["matchLabels"].as_object().map_or_else(Self::everything, |m| {
            Self::from_map(m.iter().map(|(k, v)| (k.as_str(), v.as_str().unwrap_or_default())))
        });
        for e in selector["matchExpressions"].as_array().into_iter().flatten() {
            let operator = match e["operator"].as_str() {
                Some("In") => Operator::In,
                Some("NotIn") => Operator::NotIn,
                Some("Exists") => Operator::Exists,
                Some("DoesNotExist") => Operator::DoesNotExist,
                _ => return Self::nothing(),
            };
            let values =
                e["values"].as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect();
            out.requirements.push(Requirement::new(e["key"].as_str().unwrap_or_default(), operator, values));
        }
        out.requirements.sort_by(|a, b| a.key.cmp(&b.key));
        out
    }

    /// From a typed selector; `None` matches nothing.
    pub fn from_typed(selector: Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector>) -> Self {
        selector.and_then(|s| serde_json::to_value(s).ok()).map_or_else(Self::nothing, |v| Self::from_object(&v))
    }

    pub fn matches_by<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches(label(&r.key)))
    }
    pub fn matches_map(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        self.matches_by(|k| labels.and_then(|l| l.get(k)).map(String::as_str))
    }
    /// `labels` as in `metadata.labels`; null is no labels.
    pub fn matches_labels(&self, labels: &Value) -> bool {
        self.matches_by(|k| labels.get(k).and_then(Value::as_str))
    }
    /// By an object's `metadata.labels`.
    pub fn matches_object(&self, object: &Value) -> bool {
        self.matches_labels(&object["metadata"]["labels"])
    }
}

/// What is wrong with a LabelSelector object.
pub fn validate_selector(selector: &Value, at: &Path<'_>, out: &mut FieldErrors) {
    if let Some(labels) = selector["matchLabels"].as_object() {
        validate_labels(labels, &at.child("matchLabels"), out);
    }
    for (i, e) in selector["matchExpressions"].as_array().into_iter().flatten().enumerate() {
        let expressions = at.child("matchExpressions");
        let at = expressions.index(i);
        let values = e["values"].as_array().map_or(&[][..], Vec::as_slice);
        match e["operator"].as_str().unwrap_or_default() {
            "In" | "NotIn" if values.is_empty() => out.push(FieldError::required(
                &at.child("values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            )),
            "Exists" | "DoesNotExist" if !values.is_empty() => out.push(FieldError::forbidden(
                &at.child("values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => {
                out.push(FieldError::invalid(&at.child("operator"), other, "not a valid selector operator"));
            }
        }
        let key = e["key"].as_str().unwrap_or_default();
        invalid_each(out, &at.child("key"), key, names::qualified_name(key));
        for (j, v) in values.iter().enumerate() {
            let v = v.as_str().unwrap_or_default();
            invalid_each(out, &at.child("values").index(j), v, names::label_value(v));
        }
    }
}

/// A map of labels: `nodeSelector`, `matchLabels`.
pub fn validate_labels(labels: &Map<String, Value>, at: &Path<'_>, out: &mut FieldErrors) {
    for (k, v) in labels {
        let v = v.as_str().unwrap_or_default();
        invalid_each(out, at, k, names::qualified_name(k));
        invalid_each(out, at, v, names::label_value(v));
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Token<'a> {
    End,
    Close,
    Comma,
    Not,
    DoubleEquals,
    Equals,
    Greater,
    Less,
    NotEquals,
    Open,
    /// Also `in` and `notin`, which are values elsewhere.
    Word(&'a str),
    /// A run of symbols that means nothing.
    Error,
}

/// Recursive descent over tokens, with one of look-ahead.
struct Parser<'a> {
    tokens: Vec<(Token<'a>, &'a str)>,
    at: usize,
}

fn is_symbol(b: u8) -> bool {
    b"=!(),><".contains(&b)
}

fn tokens(text: &str) -> Vec<(Token<'_>, &str)> {
    let bytes = text.as_bytes();
    let (mut out, mut i) = (Vec::new(), 0);
    while i < bytes.len() {
        let start = i;
        if bytes[i].is_ascii_whitespace() {
            i += 1;
            continue;
        }
        if !is_symbol(bytes[i]) {
            while i < bytes.len() && !is_symbol(bytes[i]) && !bytes[i].is_ascii_whitespace() {
                i += 1;
            }
            out.push((Token::Word(&text[start..i]), &text[start..i]));
            continue;
        }
        let (token, length) = match (bytes[i], bytes.get(i + 1)) {
            (b'=', Some(b'=')) => (Token::DoubleEquals, 2),
            (b'!', Some(b'=')) => (Token::NotEquals, 2),
            (b'=', _) => (Token::Equals, 1),
            (b'!', _) => (Token::Not, 1),
            (b'(', _) => (Token::Open, 1),
            (b')', _) => (Token::Close, 1),
            (b',', _) => (Token::Comma, 1),
            (b'>', _) => (Token::Greater, 1),
            (b'<', _) => (Token::Less, 1),
            _ => (Token::Error, 1),
        };
        i += length;
        out.push((token, &text[start..i]));
    }
    out.push((Token::End, ""));
    out
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        Self { tokens: tokens(text), at: 0 }
    }
    fn peek(&self) -> (Token<'a>, &'a str) {
        self.tokens.get(self.at).copied().unwrap_or((Token::End, ""))
    }
    fn next(&mut self) -> (Token<'a>, &'a str) {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn parse(mut self) -> Result<Vec<Requirement>, String> {
        let mut out = Vec::new();
        loop {
            match self.peek() {
                (Token::Word(_) | Token::Not, _) => {}
                (Token::End, _) => return Ok(out),
                (_, found) => return Err(format!("found '{found}', expected: !, identifier, or 'end of string'")),
            }
            out.push(self.requirement().map_err(|e| format!("unable to parse requirement: {e}"))?);
            match self.next() {
                (Token::End, _) => return Ok(out),
                (Token::Comma, _) => match self.peek() {
                    (Token::Word(_) | Token::Not, _) => {}
                    (_, found) => return Err(format!("found '{found}', expected: identifier after ','")),
                },
                (_, found) => return Err(format!("found '{found}', expected: ',' or 'end of string'")),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let (mut token, mut found) = self.next();
        let negated = token == Token::Not;
        if negated {
            (token, found) = self.next();
        }
        let Token::Word(key) = token else { return Err(format!("found '{found}', expected: identifier")) };
        invalid("<nil>", key, names::qualified_name(key))?;
        if negated {
            return Ok(Requirement::new(key, Operator::DoesNotExist, Vec::new()));
        }
        if matches!(self.peek().0, Token::End | Token::Comma) {
            return Ok(Requirement::new(key, Operator::Exists, Vec::new()));
        }
        let operator = match self.next() {
            (Token::Word("in"), _) => Operator::In,
            (Token::Word("notin"), _) => Operator::NotIn,
            (Token::Equals | Token::DoubleEquals, _) => Operator::Equals,
            (Token::NotEquals, _) => Operator::NotEquals,
            (Token::Greater, _) => Operator::GreaterThan,
            (Token::Less, _) => Operator::LessThan,
            (_, found) => return Err(format!("found '{found}', expected: in, notin, =, ==, !=, gt, lt")),
        };
        let values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => vec![self.exact_value()?],
        };
        let numeric = matches!(operator, Operator::GreaterThan | Operator::LessThan);
        for (i, v) in values.iter().enumerate() {
            if numeric && v.parse::<i64>().is_err() {
                let why = "for 'Gt', 'Lt' operators, the value must be an integer".to_owned();
                invalid(&format!("values[{i}]"), v, vec![why])?;
            }
            invalid(&format!("values[{i}][{key}]"), v, names::label_value(v))?;
        }
        Ok(Requirement::new(key, operator, values))
    }

    fn exact_value(&mut self) -> Result<String, String> {
        if matches!(self.peek().0, Token::End | Token::Comma) {
            return Ok(String::new());
        }
        match self.next() {
            (Token::Word(value), _) => Ok(value.to_owned()),
            (_, found) => Err(format!("found '{found}', expected: identifier")),
        }
    }

    /// `(a,b)`; a value may be empty, as in `(a,)`.
    fn values(&mut self) -> Result<Vec<String>, String> {
        match self.next() {
            (Token::Open, _) => {}
            (_, found) => return Err(format!("found '{found}' expected: '('")),
        }
        let mut out = Vec::new();
        let mut expects_value = true;
        loop {
            match self.next() {
                (Token::Word(value), _) if expects_value => {
                    out.push(value.to_owned());
                    expects_value = false;
                }
                (Token::Comma, _) => {
                    if expects_value {
                        out.push(String::new());
                    }
                    expects_value = true;
                }
                (Token::Close, _) => {
                    if expects_value {
                        out.push(String::new());
                    }
                    return Ok(out);
                }
                (_, found) if expects_value => {
                    return Err(format!("found '{found}', expected: ',', ')' or identifier"));
                }
                (_, found) => return Err(format!("found '{found}', expected: ',' or ')'")),
            }
        }
    }
}

fn invalid(field: &str, value: &str, why: Vec<String>) -> Result<(), String> {
    if why.is_empty() { Ok(()) } else { Err(FieldError::invalid(field, value, why.join("; ")).to_string()) }
}

/// A conjunction of `field=value` and `field!=value`. Empty: everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<FieldTerm>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldTerm {
    pub field: String,
    pub value: String,
    pub negated: bool,
}

impl FieldSelector {
    pub fn everything() -> Self {
        Self::default()
    }
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }
    pub fn terms(&self) -> &[FieldTerm] {
        &self.terms
    }
    /// The value that `field` must equal, if the selector says so: `metadata.name=x` makes a list a read of one.
    pub fn required_value(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|t| t.field == field && !t.negated).map(|t| t.value.as_str())
    }

    /// The form of the `fieldSelector` query parameter; an error is a 400 of upstream's wording.
    pub fn parse(text: &str) -> Result<Self, Status> {
        let mut terms = Vec::new();
        for part in split_unescaped(text) {
            if part.is_empty() {
                continue;
            }
            let (field, value, negated) = split_term(part)
                .ok_or_else(|| Status::bad_request(format!("invalid selector: '{text}'; can't understand '{part}'")))?;
            terms.push(FieldTerm { field: field.to_owned(), value: unescape(value)?, negated });
        }
        Ok(Self { terms })
    }

    /// Refuses fields that a kind does not know. `known` are the kind's own, beyond name and namespace.
    pub fn check(&self, known: &[&str]) -> Result<(), Status> {
        for t in &self.terms {
            let field = t.field.as_str();
            if matches!(field, "metadata.name" | "metadata.namespace") || known.contains(&field) {
                continue;
            }
            return Err(Status::bad_request(if known.is_empty() {
                format!("{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
            } else {
                format!("field label not supported: {field}")
            }));
        }
        Ok(())
    }

    /// An absent field is the empty string.
    pub fn matches_by<'a>(&self, field: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.terms.iter().all(|t| (field(&t.field).unwrap_or_default() == t.value) != t.negated)
    }

    /// By an object's metadata and what its kind's `fields` hook returned.
    pub fn matches_object(&self, object: &Value, fields: &[(&'static str, String)]) -> bool {
        self.matches_by(|name| match name {
            "metadata.name" => object["metadata"]["name"].as_str(),
            "metadata.namespace" => object["metadata"]["namespace"].as_str(),
            _ => fields.iter().find(|(k, _)| *k == name).map(|(_, v)| v.as_str()),
        })
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, t) in self.terms.iter().enumerate() {
            let value = t.value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
            write!(f, "{}{}{}{value}", if i > 0 { "," } else { "" }, t.field, if t.negated { "!=" } else { "=" })?;
        }
        Ok(())
    }
}

fn split_unescaped(text: &str) -> Vec<&str> {
    let (mut out, mut start, mut escaped) = (Vec::new(), 0, false);
    for (i, b) in text.bytes().enumerate() {
        match b {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b',' => {
                out.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    out.push(&text[start..]);
    out
}

fn split_term(term: &str) -> Option<(&str, &str, bool)> {
    for (i, _) in term.char_indices() {
        let rest = &term[i..];
        for (operator, negated) in [("!=", true), ("==", false), ("=", false)] {
            if let Some(value) = rest.strip_prefix(operator) {
                return Some((&term[..i], value, negated));
            }
        }
    }
    None
}

fn unescape(value: &str) -> Result<String, Status> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                Some(c) => {
                    return Err(Status::bad_request(format!("invalid field selector: invalid escape sequence: \\{c}")));
                }
                None => return Err(Status::bad_request("invalid field selector: invalid escape sequence: \\")),
            },
            ',' | '=' => {
                return Err(Status::bad_request(format!("invalid field selector: unescaped {c:?} in value {value:?}")));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn label_selectors_match() {
        let labels = json!({"app": "web", "tier": "front", "n": "5"});
        for (selector, expected) in [
            ("", true),
            ("app", true),
            ("!app", false),
            ("!x", true),
            ("app=web", true),
            ("app==web,tier=front", true),
            ("app != web", false),
            ("x!=web", true),
            ("app in (api, web)", true),
            ("app notin (api,web)", false),
            ("x notin (a)", true),
            ("x in ()", false),
            ("n>4", true),
            ("n<5", false),
            ("app>1", false),
            ("in in (in)", false),
            ("x=", false),
        ] {
            assert_eq!(LabelSelector::parse(selector).unwrap().matches_labels(&labels), expected, "{selector}");
        }
    }

    #[test]
    fn label_selectors_print_what_they_parse() {
        for (input, printed) in [
            ("b=1,a==2", "a=2,b=1"),
            ("x in (b,a,b)", "x in (a,b)"),
            ("x notin (,a)", "x notin (,a)"),
            ("!a , b", "!a,b"),
            ("a>1", "a>1"),
        ] {
            let parsed = LabelSelector::parse(input).unwrap();
            assert_eq!(parsed.to_string(), printed);
            assert_eq!(LabelSelector::parse(printed).unwrap(), parsed);
        }
    }

    #[test]
    fn label_selectors_that_do_not_parse() {
        for (input, message) in [
            ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
            ("=x", "found '=', expected: !, identifier, or 'end of string'"),
            ("a,", "found '', expected: identifier after ','"),
            ("a in b", "unable to parse requirement: found 'b' expected: '('"),
            ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
            ("a=b c", "found 'c', expected: ',' or 'end of string'"),
            (
                "a>x",
                "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer",
            ),
        ] {
            assert_eq!(LabelSelector::parse(input).unwrap_err().message, message, "{input}");
        }
        assert!(
            LabelSelector::parse("a/b/c=1")
                .unwrap_err()
                .message
                .starts_with("unable to parse requirement: <nil>: Invalid value: \"a/b/c\": a valid label key must")
        );
    }

    #[test]
    fn selector_objects() {
        let selector = json!({"matchLabels": {"a": "1"}, "matchExpressions": [
            {"key": "b", "operator": "In", "values": ["x", "y"]}, {"key": "c", "operator": "DoesNotExist"}]});
        let parsed = LabelSelector::from_object(&selector);
        assert_eq!(parsed.to_string(), "a=1,b in (x,y),!c");
        assert!(parsed.matches_object(&json!({"metadata": {"labels": {"a": "1", "b": "y"}}})));
        assert!(!LabelSelector::from_object(&Value::Null).matches_labels(&json!({})));
        assert!(LabelSelector::from_object(&json!({})).matches_labels(&Value::Null));
        let check = |v: &Value| {
            let mut out = Vec::new();
            validate_selector(v, &Path::new("s"), &mut out);
            out.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(check(&selector), Vec::<String>::new());
        let bad = json!({"matchExpressions": [{"key": "b", "operator": "In"}, {"key": "c", "operator": "Gt"}]});
        assert_eq!(
            check(&bad),
            [
                "s.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
                "s.matchExpressions[1].operator: Invalid value: \"Gt\": not a valid selector operator",
            ]
        );
    }

    #[test]
    fn field_selectors() {
        let object = json!({"metadata": {"name": "a", "namespace": "n"}});
        let fields = [("status.phase", "Running".to_owned()), ("x", "a,b".to_owned())];
        for (selector, expected) in [
            ("", true),
            ("metadata.name=a", true),
            ("metadata.name!=a", false),
            ("status.phase==Running,metadata.namespace=n", true),
            ("status.phase!=Running", false),
            ("spec.nodeName=", true),
            (r"x=a\,b", true),
        ] {
            assert_eq!(
                FieldSelector::parse(selector).unwrap().matches_object(&object, &fields),
                expected,
                "{selector}"
            );
        }
        assert_eq!(FieldSelector::parse("a").unwrap_err().message, "invalid selector: 'a'; can't understand 'a'");
        let selector = FieldSelector::parse("spec.foo=1").unwrap();
        assert_eq!(selector.check(&["status.phase"]).unwrap_err().message, "field label not supported: spec.foo");
        assert!(selector.check(&[]).unwrap_err().message.contains("is not a known field selector"));
        assert_eq!(FieldSelector::parse(r"x=a\,b").unwrap().to_string(), r"x=a\,b");
    }
}
