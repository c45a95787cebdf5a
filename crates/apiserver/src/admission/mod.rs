//! The rules that look beyond the object: each in its own file, each with a line in [`RULES`], which is their order.

mod namespace_lifecycle;
mod pod_defaults;

use serde_json::Value;
use skiff_api::Status;

use crate::{context::Context, pipeline::Stage};

/// One rule. A rule that does not mutate, or does not validate, leaves the function out.
pub(crate) struct Rule {
    pub mutate: Option<Mutate>,
    pub validate: Option<Validate>,
}

type Mutate = fn(&Context, &mut Stage) -> Result<(), Status>;
type Validate = fn(&Context, &Stage) -> Result<(), Status>;

const RULES: &[Rule] = &[
    namespace_lifecycle::RULE,
    pod_defaults::SERVICE_ACCOUNT,
    pod_defaults::RUNTIME_CLASS,
    pod_defaults::PRIORITY,
    pod_defaults::TOLERATION_SECONDS,
];

pub(crate) fn mutate(cx: &Context, stage: &mut Stage) -> Result<(), Status> {
    RULES.iter().filter_map(|r| r.mutate).try_for_each(|rule| rule(cx, stage))
}

pub(crate) fn validate(cx: &Context, stage: &Stage) -> Result<(), Status> {
    RULES.iter().filter_map(|r| r.validate).try_for_each(|rule| rule(cx, stage))
}

/// A pod that is being created.
fn new_pod<'s>(cx: &Context, stage: &'s mut Stage) -> Option<&'s mut Value> {
    (cx.resource().is("", "pods") && stage.old.is_none()).then_some(&mut stage.object)
}
