//! Field-path errors, worded as upstream words them, because clients and people match on them.

use serde_json::Value;

pub type FieldErrors = Vec<FieldError>;

/// Where in an object one is: links on the stack, written out only when there is an error to report, because
/// validation runs on every write and finds nothing nearly always.
#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    part: Part<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Part<'a> {
    Name(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    pub const fn new(name: &'a str) -> Self {
        Self { parent: None, part: Part::Name(name) }
    }
    /// `self.name`.
    pub const fn child<'b>(&'b self, name: &'b str) -> Path<'b> {
        Path { parent: Some(self), part: Part::Name(name) }
    }
    /// `self[3]`.
    pub const fn index<'b>(&'b self, index: usize) -> Path<'b> {
        Path { parent: Some(self), part: Part::Index(index) }
    }
    /// `self[key]`.
    pub const fn key<'b>(&'b self, key: &'b str) -> Path<'b> {
        Path { parent: Some(self), part: Part::Key(key) }
    }
}

impl std::fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.part {
            Part::Name(name) if self.parent.is_some() => write!(f, ".{name}"),
            Part::Name(name) => f.write_str(name),
            Part::Index(index) => write!(f, "[{index}]"),
            Part::Key(key) => write!(f, "[{key}]"),
        }
    }
}

impl From<&Path<'_>> for String {
    fn from(path: &Path<'_>) -> String {
        path.to_string()
    }
}

/// One `Invalid value` for each message.
pub fn invalid_each(out: &mut FieldErrors, at: &Path<'_>, value: &str, messages: Vec<String>) {
    out.extend(messages.into_iter().map(|m| FieldError::invalid(at, value, m)));
}

/// The cause types of `Status.details.causes[].reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorType {
    Required,
    Invalid,
    /// As `Invalid`, of a value that is too large or too private to be shown.
    InvalidOmitted,
    NotSupported,
    Duplicate,
    Forbidden,
    TooLong,
    TooMany,
    NotFound,
    TypeInvalid,
    Internal,
}

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    pub error_type: ErrorType,
    /// `spec.containers[0].name`, `metadata.labels[app.kubernetes.io/name]`.
    pub field: String,
    pub value: Value,
    pub detail: String,
}

impl FieldError {
    pub fn new(
        error_type: ErrorType,
        field: impl Into<String>,
        value: impl Into<Value>,
        detail: impl Into<String>,
    ) -> Self {
        Self { error_type, field: field.into(), value: value.into(), detail: detail.into() }
    }
    pub fn required(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::Required, field, Value::Null, detail)
    }
    pub fn invalid(field: impl Into<String>, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::Invalid, field, value, detail)
    }
    pub fn invalid_omitted(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::InvalidOmitted, field, Value::Null, detail)
    }
    /// An update changed what may not change.
    pub fn immutable(field: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::invalid(field, value, "field is immutable")
    }
    pub fn forbidden(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::Forbidden, field, Value::Null, detail)
    }
    pub fn duplicate(field: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::new(ErrorType::Duplicate, field, value, "")
    }
    pub fn too_many(field: impl Into<String>, count: usize, max: usize) -> Self {
        Self::new(ErrorType::TooMany, field, count, format!("must have at most {max} items"))
    }
    pub fn too_long(field: impl Into<String>, max_bytes: usize) -> Self {
        Self::new(ErrorType::TooLong, field, Value::Null, format!("may not be more than {max_bytes} bytes"))
    }
    pub fn not_found(field: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::new(ErrorType::NotFound, field, value, "")
    }
    /// `supported` is quoted, sorted and listed.
    pub fn not_supported(field: impl Into<String>, value: impl Into<Value>, supported: &[&str]) -> Self {
        let mut names: Vec<_> = supported.iter().map(|s| format!("{s:?}")).collect();
        names.sort();
        Self::new(ErrorType::NotSupported, field, value, format!("supported values: {}", names.join(", ")))
    }

    /// `FieldValueInvalid` and the like.
    pub fn reason(&self) -> &'static str {
        match self.error_type {
            ErrorType::Required => "FieldValueRequired",
            ErrorType::Invalid | ErrorType::InvalidOmitted => "FieldValueInvalid",
            ErrorType::NotSupported => "FieldValueNotSupported",
            ErrorType::Duplicate => "FieldValueDuplicate",
            ErrorType::Forbidden => "FieldValueForbidden",
            ErrorType::TooLong => "FieldValueTooLong",
            ErrorType::TooMany => "FieldValueTooMany",
            ErrorType::NotFound => "FieldValueNotFound",
            ErrorType::TypeInvalid => "FieldValueTypeInvalid",
            ErrorType::Internal => "InternalError",
        }
    }

    /// Without the field: `Invalid value: "a b": must …`.
    pub fn body(&self) -> String {
        let label = match self.error_type {
            ErrorType::Required => "Required value",
            ErrorType::Invalid | ErrorType::InvalidOmitted | ErrorType::TypeInvalid => "Invalid value",
            ErrorType::NotSupported => "Unsupported value",
            ErrorType::Duplicate => "Duplicate value",
            ErrorType::Forbidden => "Forbidden",
            ErrorType::TooLong => "Too long",
            ErrorType::TooMany => "Too many",
            ErrorType::NotFound => "Not found",
            ErrorType::Internal => "Internal error",
        };
        let with_value = matches!(
            self.error_type,
            ErrorType::Invalid
                | ErrorType::TypeInvalid
                | ErrorType::NotSupported
                | ErrorType::Duplicate
                | ErrorType::NotFound
                | ErrorType::TooMany
        ) && !(self.error_type == ErrorType::TooMany && self.value.is_null());
        let mut out = label.to_owned();
        if with_value {
            out.push_str(": ");
            out.push_str(&self.value.to_string());
        }
        if !self.detail.is_empty() {
            out.push_str(": ");
            out.push_str(&self.detail);
        }
        out
    }
}

impl std::fmt::Display for FieldError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}
