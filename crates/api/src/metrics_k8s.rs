//! `metrics.k8s.io`: what pods and nodes use. Its objects are measured when they are asked for and never stored, so it is not in
//! the table of stored kinds; served it is like any other group.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    Hooks, Kind,
    kinds::{SchemaSource, Verbs},
    object::{items, text},
    schema::Schema,
    table::Column,
};

pub const GROUP: &str = "metrics.k8s.io";
pub const VERSION: &str = "v1beta1";

/// NodeMetrics and PodMetrics, as kinds that can be read.
pub fn kinds() -> Vec<Kind> {
    let usage = json!({ "type": "object", "description": "What is used, by resource: cpu and memory.",
        "additionalProperties": { "type": "string" } });
    let common = json!({
        "timestamp": { "type": "string", "format": "date-time", "description": "The end of the window." },
        "window": { "type": "string", "description": "The time over which the use of CPU was measured." },
    });
    let (mut node, mut pod) = (common.clone(), common);
    node["usage"] = usage.clone();
    pod["containers"] = json!({ "type": "array", "description": "What each container uses.", "items": {
        "type": "object", "required": ["name", "usage"],
        "properties": { "name": { "type": "string" }, "usage": usage } } });
    vec![
        kind("NodeMetrics", "nodes", false, "What a node uses.", node, &NODE),
        kind("PodMetrics", "pods", true, "What the containers of a pod use.", pod, &POD),
    ]
}

fn kind(
    name: &'static str,
    plural: &'static str,
    namespaced: bool,
    description: &str,
    properties: Value,
    hooks: &'static Hooks,
) -> Kind {
    let raw = json!({ "type": "object", "description": description, "properties": properties });
    let schema = Schema::from_crd(&raw).unwrap_or_else(|_| Schema::any());
    Kind {
        group: GROUP.into(),
        version: VERSION.into(),
        kind: name.into(),
        plural: plural.into(),
        // As upstream's metrics server: `pod` and `node` stay those of the core group.
        singular: "".into(),
        namespaced,
        short_names: Vec::new(),
        categories: Vec::new(),
        verbs: Verbs::ReadOnly,
        subresources: (&[]).into(),
        schema_name: format!("io.k8s.metrics.pkg.apis.metrics.v1beta1.{name}").into(),
        schema: SchemaSource::Custom { schema: Arc::new(schema), raw: Arc::new(raw) },
        storage: (GROUP.into(), plural.into()),
        storage_version: (GROUP.into(), VERSION.into()),
        hooks,
    }
}

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::new("cpu", "string").about("CPU used over the window, in cores."),
    Column::new("memory", "string").about("Memory used at its end."),
    Column::new("Window", "string").about("The time over which the use of CPU was measured."),
];

static NODE: Hooks = Hooks {
    columns: COLUMNS,
    row: |object, _: Timestamp| row(object, std::slice::from_ref(&object["usage"])),
    ..Hooks::PLAIN
};

static POD: Hooks = Hooks {
    columns: COLUMNS,
    row: |object, _: Timestamp| {
        let usages: Vec<Value> = items(object, "containers").iter().map(|c| c["usage"].clone()).collect();
        row(object, &usages)
    },
    ..Hooks::PLAIN
};

fn row(object: &Value, usages: &[Value]) -> Vec<Value> {
    let sum = |resource: &str, unit: &str| {
        let numbers = usages.iter().filter_map(|u| text(u, resource).strip_suffix(unit)?.parse::<u64>().ok());
        format!("{}{unit}", numbers.sum::<u64>())
    };
    let cells = [sum("cpu", "n"), sum("memory", "Ki"), text(object, "window").to_owned()];
    std::iter::once(object["metadata"]["name"].clone()).chain(cells.map(Value::from)).collect()
}

/// Nano-cores and bytes as the quantities that `usage` carries.
pub fn usage(nano_cores: u64, memory_bytes: u64) -> Value {
    json!({ "cpu": format!("{nano_cores}n"), "memory": format!("{}Ki", memory_bytes / 1024) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_adds_up_what_the_containers_use() {
        let containers = [usage(1_500, 4096), usage(500, 2048)].map(|usage| json!({ "name": "c", "usage": usage }));
        let pod = json!({ "metadata": { "name": "p" }, "window": "10s", "containers": containers });
        assert_eq!((POD.row)(&pod, Timestamp::UNIX_EPOCH), ["p", "2000n", "6Ki", "10s"]);
    }
}
