//! Label selectors and field selectors: parsing, matching, and the errors about them.
//!
//! An absent LabelSelector object matches nothing, an empty one everything: callers decide which they have.

mod fields;
mod labels;
mod parse;

#[cfg(test)]
mod tests;

pub use fields::{FieldSelector, FieldTerm};
pub use labels::{LabelSelector, Operator, Requirement, validate_labels, validate_selector};
