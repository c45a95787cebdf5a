//! CSIStorageCapacities.

use jiff::Timestamp;
use serde_json::Value;

use crate::Hooks;
use crate::object::{get, name, text};
use crate::table::Column;

pub static HOOKS: Hooks = Hooks {
    columns: &[Column::NAME, Column::new("StorageClassName", "string"), Column::new("Capacity", "string")],
    row,
    ..Hooks::PLAIN
};

fn row(capacity: &Value, _: Timestamp) -> Vec<Value> {
    let size = get(capacity, "capacity").as_str().unwrap_or("<unset>");
    vec![name(capacity).into(), text(capacity, "storageClassName").into(), size.into()]
}
