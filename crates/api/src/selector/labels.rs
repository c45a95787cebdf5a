//! Label selectors: matching, printing, and the checks of their object form.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use super::parse::Parser;
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
    pub(super) fn new(key: &str, operator: Operator, mut values: Vec<String>) -> Self {
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
