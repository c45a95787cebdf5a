//! CSIDrivers.

use jiff::Timestamp;
use serde_json::Value;

use crate::Hooks;
use crate::object::{default as default_to, existing, flag, get, has, items, name, text};
use crate::table::{self, Column};
use serde_json::json;

pub static HOOKS: Hooks = Hooks {
    columns: &[
        Column::NAME,
        Column::new("AttachRequired", "boolean"),
        Column::new("PodInfoOnMount", "boolean"),
        Column::new("StorageCapacity", "boolean"),
        Column::new("TokenRequests", "string"),
        Column::new("RequiresRepublish", "boolean"),
        Column::new("Modes", "string"),
        Column::AGE,
    ],
    row,
    default,
    ..Hooks::GENERIC
};

fn default(driver: &mut Value) {
    let Some(spec) = driver.as_object_mut().and_then(|d| existing(d, "spec")) else { return };
    default_to(spec, "attachRequired", true);
    for key in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
        default_to(spec, key, false);
    }
    default_to(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    default_to(spec, "volumeLifecycleModes", json!(["Persistent"]));
}

fn row(driver: &Value, now: Timestamp) -> Vec<Value> {
    let spec = get(driver, "spec");
    let modes: Vec<&str> = items(spec, "volumeLifecycleModes").iter().filter_map(Value::as_str).collect();
    let audiences: Vec<&str> = items(spec, "tokenRequests").iter().map(|t| text(t, "audience")).collect();
    let tokens = if has(spec, "tokenRequests") { audiences.join(",") } else { "<unset>".to_owned() };
    vec![
        name(driver).into(),
        get(spec, "attachRequired").as_bool().unwrap_or(true).into(),
        flag(spec, "podInfoOnMount").into(),
        flag(spec, "storageCapacity").into(),
        tokens.into(),
        flag(spec, "requiresRepublish").into(),
        table::or_none(&modes.join(",")),
        table::age(driver, now),
    ]
}
