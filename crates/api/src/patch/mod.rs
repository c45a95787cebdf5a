//! The four kinds of patch, and who owns which field.
//!
//! All are functions from an object and a patch to an object; none reads a clock. What a patch makes of an object is
//! decoded, defaulted and validated afterwards as if the client had sent it whole.
//!
//! - [`mod@json`]: RFC 6902, [`merge`]: RFC 7386, [`strategic`]: upstream's merge with directives;
//! - [`apply`]: server-side apply; [`managed_fields`]: the tracking of all other writes;
//! - [`fields`]: sets of fields as `FieldsV1` has them, [`structured`]: objects taken apart by their schema.

pub mod apply;
pub mod fields;
pub mod json;
pub mod managed_fields;
pub mod merge;
pub mod strategic;
pub mod structured;

#[cfg(test)]
mod tests;

use serde_json::json;

use crate::Status;

/// 422 as upstream has it: the message is generic, the reason is in the cause.
fn unprocessable(reason: impl std::fmt::Display) -> Status {
    Status {
        details: json!({ "causes": [{ "reason": "FieldValueInvalid", "message": reason.to_string() }] }),
        ..Status::new(422, "Invalid", "the server rejected our request due to an error in our request")
    }
}
