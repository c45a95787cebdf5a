//! The suite that every kind gets for free from the table: create, read, list, watch, update, patch, dry run, table,
//! delete. A kind that needs more than a name to be valid says so in [`body`].

use std::time::Duration;

use serde_json::{Value, json};
use skiff_api::{
    Kind,
    kinds::{self, Verbs},
};

use crate::support::Server;

#[tokio::test]
async fn every_kind_lives() {
    let server = Server::start().await;
    for kind in kinds::builtin().iter().filter(|k| matches!(k.verbs, Verbs::All | Verbs::NoDeleteCollection)) {
        let suite = lives(&server, kind);
        tokio::time::timeout(Duration::from_secs(30), suite)
            .await
            .unwrap_or_else(|_| panic!("{kind:?} takes too long"));
    }
}

fn collection(kind: &Kind) -> String {
    let root = match kind.group.as_ref() {
        "" => format!("/api/{}", kind.version),
        group => format!("/apis/{group}/{}", kind.version),
    };
    if kind.namespaced {
        format!("{root}/namespaces/default/{}", kind.plural)
    } else {
        format!("{root}/{}", kind.plural)
    }
}

async fn lives(server: &Server, kind: &Kind) {
    let all = collection(kind);
    let (name, sent) = body(kind);
    let path = format!("{all}/{name}");
    let context = format!("{kind:?}");
    let before = server.get(&all).await.ok()["metadata"]["resourceVersion"].as_str().unwrap().to_owned();

    let dry = server.post(&format!("{all}?dryRun=All&fieldValidation=Strict"), &sent).await;
    assert_eq!(dry.code, 201, "{context}: {}", dry.text);
    server.get(&path).await.fails(404, "NotFound");

    let created = server.post(&format!("{all}?fieldValidation=Strict&fieldManager=suite"), &sent).await.ok();
    assert_eq!(
        (&created["kind"], &created["apiVersion"]),
        (&json!(kind.kind), &json!(kind.api_version())),
        "{context}"
    );
    assert_eq!(created["metadata"]["managedFields"][0]["manager"], "suite", "{context}");
    server.post(&all, &sent).await.fails(409, "AlreadyExists");
    assert_eq!(server.get(&path).await.ok(), created, "{context}");

    // What was read can be written back, and nothing happens.
    let same = server.put(&path, &created).await.ok();
    assert_eq!(same["metadata"]["resourceVersion"], created["metadata"]["resourceVersion"], "{context}");

    let labels = json!({"metadata": {"labels": {"suite": "yes"}}});
    let patched = server.merge(&path, &labels).await.ok();
    assert_eq!(patched["metadata"]["labels"]["suite"], "yes", "{context}");
    assert_eq!(patched["metadata"].get("generation"), created["metadata"].get("generation"), "{context}");

    let list = server.get(&format!("{all}?labelSelector=suite%3Dyes")).await.ok();
    assert_eq!(list["kind"], format!("{}List", kind.kind), "{context}");
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "{context}");

    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = server.request(http::Method::GET, &path, &accept, "").await.ok();
    let cells = table["rows"][0]["cells"].as_array().map(Vec::len);
    assert_eq!(cells, table["columnDefinitions"].as_array().map(Vec::len), "{context}");

    let options = json!({"gracePeriodSeconds": 0});
    server.delete(&path, &options).await.ok();
    if server.get(&path).await.code == 200 {
        // Held by a finalizer of its own (namespaces, protected volumes).
        server.merge(&path, &json!({"metadata": {"finalizers": null}})).await.ok();
        if kind.plural == "namespaces" {
            let done = json!({"metadata": {"name": name}, "spec": {"finalizers": []}});
            server.put(&format!("{path}/finalize"), &done).await.ok();
        }
    }
    server.get(&path).await.fails(404, "NotFound");
    let mut events = server.watch(&format!("{all}?watch=true&resourceVersion={before}")).await;
    assert_eq!(events.line().await, format!("ADDED {name}"), "{context}");
    assert_eq!(events.line().await, format!("MODIFIED {name}"), "{context}");
}

/// The name and the least that is valid.
fn body(kind: &Kind) -> (String, Value) {
    let name = match kind.plural.as_ref() {
        "ipaddresses" => "10.1.2.3",
        "customresourcedefinitions" => "widgets.example.com",
        "apiservices" => "v1.example.com",
        _ => "suite",
    };
    let mut object = json!({ "apiVersion": kind.api_version(), "kind": kind.kind, "metadata": { "name": name, "labels": { "made": "here" } } });
    if let (Value::Object(into), Value::Object(from)) = (&mut object, rest(kind)) {
        into.extend(from);
    }
    (name.to_owned(), object)
}

fn template(restart: &str) -> Value {
    json!({
        "metadata": { "labels": { "a": "b" } },
        "spec": { "restartPolicy": restart, "containers": [{ "name": "c", "image": "i" }] },
    })
}

fn rest(kind: &Kind) -> Value {
    let selector = json!({ "matchLabels": { "a": "b" } });
    let webhook = json!([{
        "name": "a.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": { "url": "https://example.com/hook" },
    }]);
    let reference = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r" });
    match (kind.version.as_ref(), kind.plural.as_ref()) {
        (_, "pods") => json!({ "spec": { "containers": [{ "name": "c", "image": "i" }] } }),
        (_, "podtemplates") => json!({ "template": template("Always") }),
        (_, "replicationcontrollers") => {
            json!({ "spec": { "selector": { "a": "b" }, "template": template("Always") } })
        }
        (_, "deployments" | "replicasets" | "daemonsets") => {
            json!({ "spec": { "selector": selector, "template": template("Always") } })
        }
        (_, "statefulsets") => {
            json!({ "spec": { "selector": selector, "serviceName": "s", "template": template("Always") } })
        }
        (_, "controllerrevisions") => json!({ "revision": 1, "data": { "a": 1 } }),
        (_, "jobs") => json!({ "spec": { "template": template("Never") } }),
        (_, "cronjobs") => {
            json!({ "spec": { "schedule": "* * * * *", "jobTemplate": { "spec": { "template": template("Never") } } } })
        }
        (_, "services") => json!({ "spec": { "ports": [{ "port": 80 }] } }),
        ("v1", "events") if kind.group.is_empty() => {
            json!({ "involvedObject": { "kind": "Pod", "name": "p", "namespace": "default" }, "reason": "r", "message": "m" })
        }
        (_, "events") => json!({
            "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "a/b", "reportingInstance": "i",
            "action": "Act", "reason": "r", "type": "Normal",
            "regarding": { "kind": "Pod", "name": "p", "namespace": "default" },
        }),
        (_, "persistentvolumes") => json!({ "spec": {
            "capacity": { "storage": "1Gi" }, "accessModes": ["ReadWriteOnce"], "hostPath": { "path": "/x" },
        } }),
        (_, "persistentvolumeclaims") => json!({ "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } },
        } }),
        ("v1", "horizontalpodautoscalers") => json!({ "spec": {
            "maxReplicas": 3, "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "d" },
        } }),
        (_, "horizontalpodautoscalers") => json!({ "spec": {
            "maxReplicas": 3, "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "d" },
            "metrics": [{ "type": "Resource", "resource": {
                "name": "cpu", "target": { "type": "Utilization", "averageUtilization": 50 } } }],
        } }),
        (_, "poddisruptionbudgets") => json!({ "spec": { "selector": selector, "minAvailable": 1 } }),
        (_, "ingresses") => {
            json!({ "spec": { "defaultBackend": { "service": { "name": "s", "port": { "number": 80 } } } } })
        }
        (_, "ingressclasses") => json!({ "spec": { "controller": "example.com/c" } }),
        (_, "networkpolicies") => json!({ "spec": { "podSelector": {} } }),
        (_, "ipaddresses") => {
            json!({ "spec": { "parentRef": { "resource": "services", "namespace": "default", "name": "s" } } })
        }
        (_, "servicecidrs") => json!({ "spec": { "cidrs": ["10.5.0.0/16"] } }),
        (_, "runtimeclasses") => json!({ "handler": "h" }),
        (_, "priorityclasses") => json!({ "value": 5 }),
        (_, "storageclasses") => json!({ "provisioner": "example.com/p" }),
        (_, "volumeattributesclasses") => json!({ "driverName": "example.com", "parameters": { "a": "b" } }),
        (_, "volumeattachments") => json!({ "spec": {
            "attacher": "example.com", "nodeName": "n", "source": { "persistentVolumeName": "v" },
        } }),
        (_, "csinodes") => json!({ "spec": { "drivers": [] } }),
        (_, "csidrivers") => json!({ "spec": {} }),
        (_, "csistoragecapacities") => json!({ "storageClassName": "s" }),
        (_, "rolebindings" | "clusterrolebindings") => json!({ "roleRef": reference }),
        (_, "roles" | "clusterroles") => json!({ "rules": [] }),
        (_, "endpointslices") => json!({ "addressType": "IPv4", "endpoints": [] }),
        (_, "certificatesigningrequests") => json!({ "spec": {
            "request": CSR, "signerName": "example.com/s", "usages": ["digital signature"],
        } }),
        (_, "clustertrustbundles") => json!({ "spec": { "trustBundle": "" } }),
        (_, "mutatingwebhookconfigurations" | "validatingwebhookconfigurations") => json!({ "webhooks": webhook }),
        (_, "validatingadmissionpolicies") => json!({ "spec": { "matchConstraints": { "resourceRules": [{
            "apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"],
        }] }, "validations": [{ "expression": "true" }] } }),
        (_, "mutatingadmissionpolicies") => json!({ "spec": {
            "reinvocationPolicy": "Never",
            "matchConstraints": { "resourceRules": [{
                "apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"],
            }] },
            "mutations": [{ "patchType": "JSONPatch", "jsonPatch": { "expression": "[]" } }],
        } }),
        (_, "validatingadmissionpolicybindings") => {
            json!({ "spec": { "policyName": "p", "validationActions": ["Deny"] } })
        }
        (_, "mutatingadmissionpolicybindings") => json!({ "spec": { "policyName": "p" } }),
        (_, "customresourcedefinitions") => json!({ "spec": {
            "group": "example.com", "scope": "Namespaced", "names": { "plural": "widgets", "kind": "Widget" },
            "versions": [{ "name": "v1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": { "type": "object" } } }],
        } }),
        (_, "apiservices") => {
            json!({ "spec": { "group": "example.com", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 10 } })
        }
        (_, "flowschemas") => json!({ "spec": { "priorityLevelConfiguration": { "name": "p" } } }),
        (_, "prioritylevelconfigurations") => json!({ "spec": { "type": "Exempt" } }),
        (_, "resourceclaimtemplates") => json!({ "spec": { "spec": {} } }),
        (_, "resourceclaims" | "deviceclasses" | "devicetaintrules") => json!({ "spec": {} }),
        (_, "resourceslices") => json!({ "spec": {
            "driver": "example.com", "nodeName": "n",
            "pool": { "name": "p", "generation": 1, "resourceSliceCount": 1 },
        } }),
        (_, "storageversionmigrations") => {
            json!({ "spec": { "resource": { "group": "apps", "resource": "deployments" } } })
        }
        _ => json!({}),
    }
}

/// Any request that base64 decodes to; its content is the signer's matter.
const CSR: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KLS0tLS1FTkQgQ0VSVElGSUNBVEUgUkVRVUVTVC0tLS0tCg==";
