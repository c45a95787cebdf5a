//! DefaultBinder: binds by the pod's `binding` subresource.

use serde_json::{Value, json};

use crate::{
    PodInfo,
    framework::{Plugin, Points},
};

pub struct DefaultBinder;

impl Plugin for DefaultBinder {
    fn name(&self) -> &'static str {
        "DefaultBinder"
    }
    fn points(&self) -> Points {
        Points::BIND
    }
    /// The UID is a precondition: a pod of the same name created meanwhile is not bound by mistake.
    fn bind(&self, pod: &PodInfo, node: &str) -> Option<Value> {
        Some(json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": { "namespace": &*pod.namespace, "name": &*pod.name, "uid": &*pod.uid },
            "target": { "apiVersion": "v1", "kind": "Node", "name": node },
        }))
    }
}
