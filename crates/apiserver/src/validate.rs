//! Whether what would be stored is valid: the metadata rules of every kind, then the kind's own.

use skiff_api::{Status, meta};

use crate::{
    context::Context,
    object,
    pipeline::{Part, Stage},
};

pub(crate) fn validate(cx: &Context, stage: &Stage) -> Result<(), Status> {
    let stored = &cx.resource().stored;
    let hooks = stored.hooks;
    let object = &stage.object;
    let mut errors = Vec::new();
    match (&stage.old, stage.part) {
        (_, Part::Whole | Part::Finalize | Part::Deletion) => {}
        (None, _) => {
            errors.extend(meta::validate(object, stored));
            errors.extend((hooks.validate)(object));
        }
        (Some(old), Part::Main) => {
            errors.extend(meta::validate_update(object, old));
            errors.extend((hooks.validate)(object));
            errors.extend((hooks.validate_update)(object, old));
        }
        // What may not change in the spec was taken from what is stored.
        (Some(old), Part::EphemeralContainers | Part::Resize) => {
            errors.extend(meta::validate_update(object, old));
            errors.extend((hooks.validate)(object));
        }
        (Some(old), Part::Status) => {
            errors.extend(meta::validate_update(object, old));
            errors.extend((hooks.validate_status)(object, old));
        }
    }
    if !errors.is_empty() {
        return Err(Status::invalid(cx.kind(), object::name(object), &errors));
    }
    if matches!(stage.part, Part::Main) {
        for warning in (hooks.warnings)(object) {
            cx.warn(warning);
        }
    }
    Ok(())
}
