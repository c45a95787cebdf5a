//! MutatingWebhookConfigurations.

use super::webhook;
use crate::Hooks;

pub static HOOKS: Hooks = webhook::HOOKS;
