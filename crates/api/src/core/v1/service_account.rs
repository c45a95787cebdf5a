//! ServiceAccounts.

use crate::Hooks;

/// Nothing of an account is checked beyond its metadata.
pub static HOOKS: Hooks = Hooks::PLAIN;
