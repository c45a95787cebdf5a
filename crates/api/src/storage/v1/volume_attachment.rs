//! VolumeAttachments.

use jiff::Timestamp;
use serde_json::Value;

use crate::Hooks;
use crate::object::{drop_status, flag, get, keep_status, name, text};
use crate::table::{self, Column};

pub static HOOKS: Hooks = Hooks {
    columns: &[
        Column::NAME,
        Column::new("Attacher", "string"),
        Column::new("PV", "string"),
        Column::new("Node", "string"),
        Column::new("Attached", "boolean"),
        Column::AGE,
    ],
    row,
    prepare_create: drop_status,
    prepare_update: keep_status,
    ..Hooks::PLAIN
};

fn row(attachment: &Value, now: Timestamp) -> Vec<Value> {
    let spec = get(attachment, "spec");
    vec![
        name(attachment).into(),
        text(spec, "attacher").into(),
        text(get(spec, "source"), "persistentVolumeName").into(),
        text(spec, "nodeName").into(),
        flag(get(attachment, "status"), "attached").into(),
        table::age(attachment, now),
    ]
}
