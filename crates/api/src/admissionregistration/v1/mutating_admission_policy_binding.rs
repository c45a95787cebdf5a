//! MutatingAdmissionPolicyBindings: as the validating ones.

use super::validating_admission_policy_binding as validating;
use crate::Hooks;
use crate::table::Column;

pub static HOOKS: Hooks = Hooks {
    default: validating::default,
    validate: validating::validate,
    columns: &[Column::NAME, Column::new("PolicyName", "string"), Column::new("ParamRef", "string"), Column::AGE],
    row: validating::row,
    ..Hooks::GENERIC
};
