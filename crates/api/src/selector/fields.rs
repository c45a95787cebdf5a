//! Field selectors: `status.phase=Running,metadata.name!=x`.

use std::fmt;

use serde_json::Value;

use crate::Status;

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
