//! PriorityLevelConfigurations.

use jiff::Timestamp;
use serde_json::Value;

use crate::Hooks;
use crate::object::{drop_status, get, int, keep_status, name, text};
use crate::table::{self, Column};

pub static HOOKS: Hooks = Hooks {
    columns: &[
        Column::NAME,
        Column::new("Type", "string"),
        Column::new("NominalConcurrencyShares", "string"),
        Column::new("Queues", "string"),
        Column::new("HandSize", "string"),
        Column::new("QueueLengthLimit", "string"),
        Column::AGE,
    ],
    row,
    prepare_create: drop_status,
    prepare_update: keep_status,
    ..Hooks::GENERIC
};

fn row(level: &Value, now: Timestamp) -> Vec<Value> {
    let spec = get(level, "spec");
    let limited = get(spec, "limited");
    let queuing = get(get(limited, "limitResponse"), "queuing");
    let number = |v, key| int(v, key).map_or_else(|| "<none>".into(), Value::from);
    vec![
        name(level).into(),
        text(spec, "type").into(),
        number(limited, "nominalConcurrencyShares"),
        number(queuing, "queues"),
        number(queuing, "handSize"),
        number(queuing, "queueLengthLimit"),
        table::age(level, now),
    ]
}
