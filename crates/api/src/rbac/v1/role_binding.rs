//! RoleBindings.

use super::rules;
use crate::Hooks;

pub static HOOKS: Hooks = Hooks {
    default: rules::default_binding,
    validate: |binding| rules::validate_binding(binding, &["Role", "ClusterRole"], true),
    validate_update: rules::validate_binding_update,
    columns: rules::BINDING_COLUMNS,
    row: rules::binding_row,
    create_on_update: true,
    ..Hooks::PLAIN
};
