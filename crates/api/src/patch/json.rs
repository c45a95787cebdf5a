//! JSON patch (RFC 6902).

use serde_json::Value;

use super::unprocessable;
use crate::Status;

/// Operations of one patch; more is 413.
pub const OPERATIONS_MAX: usize = 10_000;

/// All operations, in order, or none.
///
/// # Errors
/// 400 for what is not a patch, 413 for too many operations, 422 for an operation that cannot be done or a test that
/// fails.
pub fn apply(patch: &[u8], target: &mut Value) -> Result<(), Status> {
    let patch: json_patch::Patch =
        serde_json::from_slice(patch).map_err(|error| Status::bad_request(format!("invalid JSON patch: {error}")))?;
    if patch.len() > OPERATIONS_MAX {
        return Err(Status::new(
            413,
            "RequestEntityTooLarge",
            format!(
                "Request entity too large: The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {}",
                patch.len()
            ),
        ));
    }
    json_patch::patch(target, &patch).map_err(unprocessable)
}
