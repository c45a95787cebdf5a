//! What of a pod's status the API must be told: the difference to what it was told last.
//!
//! The patch is a strategic one with the pod's uid, so that conditions of others stay, and a pod of the same name that
//! came later is not written to.

use k8s_openapi::api::core::v1::PodStatus;
use serde_json::{Map, Value, json};

/// `None` when there is nothing to say.
pub fn patch(uid: &str, told: &PodStatus, now: &PodStatus) -> Option<Value> {
    if told == now {
        return None;
    }
    let (told, now) = (fields(told), fields(now));
    let mut status = Map::new();
    for (key, value) in &now {
        if told.get(key) != Some(value) {
            status.insert(key.clone(), changed(key, told.get(key), value));
        }
    }
    for key in told.keys().filter(|k| !now.contains_key(*k)) {
        status.insert(key.clone(), Value::Null);
    }
    (!status.is_empty()).then(|| json!({ "metadata": { "uid": uid }, "status": status }))
}

fn fields(status: &PodStatus) -> Map<String, Value> {
    match serde_json::to_value(status) {
        Ok(Value::Object(fields)) => fields,
        // A status always serializes to an object.
        _ => Map::new(),
    }
}

fn changed(key: &str, told: Option<&Value>, now: &Value) -> Value {
    let items = now.as_array();
    match (key, items) {
        ("conditions", Some(items)) => {
            let before = told.and_then(Value::as_array);
            let same = |c: &&Value| before.is_some_and(|b| b.contains(c));
            items.iter().filter(|c| !same(c)).cloned().collect()
        }
        // Merged by address: an old one would stay.
        ("podIPs" | "hostIPs", Some(items)) if told.is_some() => {
            let replace = std::iter::once(json!({ "$patch": "replace" }));
            replace.chain(items.iter().cloned()).collect()
        }
        _ => now.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(value: Value) -> PodStatus {
        serde_json::from_value(value).expect("a status")
    }

    #[test]
    fn only_what_changed_is_told() {
        let cond = |t: &str, s: &str| json!({ "type": t, "status": s });
        let told = status(json!({ "phase": "Pending", "reason": "x", "qosClass": "Burstable",
            "conditions": [cond("Ready", "False"), cond("Initialized", "True")] }));
        let now = status(json!({ "phase": "Running", "qosClass": "Burstable", "podIP": "10.0.0.1",
            "podIPs": [{ "ip": "10.0.0.1" }], "conditions": [cond("Ready", "True"), cond("Initialized", "True")] }));
        assert_eq!(patch("u", &told, &told), None);
        let expected = json!({ "metadata": { "uid": "u" }, "status": { "phase": "Running", "reason": null,
            "podIP": "10.0.0.1", "podIPs": [{ "ip": "10.0.0.1" }], "conditions": [cond("Ready", "True")] } });
        assert_eq!(patch("u", &told, &now), Some(expected));
    }

    #[test]
    fn an_address_that_changes_replaces_the_old_one() {
        let ip = |ip: &str| status(json!({ "podIPs": [{ "ip": ip }] }));
        let patch = patch("u", &ip("a"), &ip("b")).expect("a patch");
        assert_eq!(patch["status"]["podIPs"], json!([{ "$patch": "replace" }, { "ip": "b" }]));
    }
}
