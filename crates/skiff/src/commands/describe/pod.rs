//! Pods, and the pod templates of workloads.

use serde_json::Value;
use skiff_api::core::v1::pod_status;

use super::page::{Page, pairs, shown};
use super::{conditions, controller, identity, labels};

pub fn describe(page: &mut Page, pod: &Value) {
    let (spec, status) = (&pod["spec"], &pod["status"]);
    identity(page, pod);
    page.field("Priority", spec["priority"].as_i64().unwrap_or(0).to_string());
    page.field("Service Account", shown(&spec["serviceAccountName"]));
    let node = match status["hostIP"].as_str() {
        Some(ip) => format!("{}/{ip}", shown(&spec["nodeName"])),
        None => shown(&spec["nodeName"]),
    };
    page.field("Node", node);
    if status["startTime"].is_string() {
        page.field("Start Time", shown(&status["startTime"]));
    }
    labels(page, pod);
    let deleted = pod["metadata"]["deletionTimestamp"].is_string();
    page.field("Status", if deleted { pod_status::summary(pod).reason } else { shown(&status["phase"]) });
    for (key, title) in [("reason", "Reason"), ("message", "Message")] {
        if status[key].is_string() {
            page.field(title, shown(&status[key]));
        }
    }
    page.field("IP", status["podIP"].as_str().unwrap_or_default());
    if let Some(owner) = controller(pod) {
        page.field("Controlled By", owner);
    }
    containers(page, spec, status, 0);
    conditions(page, pod, &[("Type", "type"), ("Status", "status"), ("Reason", "reason"), ("Message", "message")]);
    volumes(page, spec, 0);
    page.field("QoS Class", shown(&status["qosClass"]));
    page.field("Node-Selectors", pairs(&spec["nodeSelector"], "="));
    page.field("Tolerations", tolerations(spec));
}

/// Init containers and containers, with their statuses where there are some.
pub fn containers(page: &mut Page, spec: &Value, status: &Value, indent: usize) {
    for (key, statuses, title) in [
        ("initContainers", "initContainerStatuses", "Init Containers"),
        ("containers", "containerStatuses", "Containers"),
    ] {
        let Some(list) = spec[key].as_array().filter(|l| !l.is_empty()) else { continue };
        page.heading(indent, title);
        for container in list {
            page.heading(indent + 2, &shown(&container["name"]));
            let status = status[statuses].as_array().into_iter().flatten().find(|s| s["name"] == container["name"]);
            one(page, container, status, indent + 4);
        }
    }
}

fn one(page: &mut Page, container: &Value, status: Option<&Value>, indent: usize) {
    if let Some(status) = status {
        page.field_at(indent, "Container ID", status["containerID"].as_str().unwrap_or_default());
    }
    page.field_at(indent, "Image", shown(&container["image"]));
    if let Some(status) = status {
        page.field_at(indent, "Image ID", status["imageID"].as_str().unwrap_or_default());
    }
    let ports: Vec<String> = list(&container["ports"])
        .map(|p| format!("{}/{}", p["containerPort"].as_i64().unwrap_or(0), p["protocol"].as_str().unwrap_or("TCP")))
        .collect();
    page.field_at(indent, if ports.len() > 1 { "Ports" } else { "Port" }, or_none(ports.join(", ")));
    for (key, title) in [("command", "Command"), ("args", "Args")] {
        let words: Vec<String> = list(&container[key]).map(shown).collect();
        if !words.is_empty() {
            page.field_at(indent, title, words.join("\n"));
        }
    }
    if let Some(status) = status {
        state(page, "State", &status["state"], indent);
        if status["lastState"].as_object().is_some_and(|s| !s.is_empty()) {
            state(page, "Last State", &status["lastState"], indent);
        }
        page.field_at(indent, "Ready", if status["ready"] == true { "True" } else { "False" });
        page.field_at(indent, "Restart Count", status["restartCount"].as_i64().unwrap_or(0).to_string());
    }
    for (key, title) in [("limits", "Limits"), ("requests", "Requests")] {
        if container["resources"][key].as_object().is_some_and(|m| !m.is_empty()) {
            page.field_at(indent, title, pairs(&container["resources"][key], ": "));
        }
    }
    for (key, title) in [("livenessProbe", "Liveness"), ("readinessProbe", "Readiness"), ("startupProbe", "Startup")] {
        if container[key].is_object() {
            page.field_at(indent, title, probe(&container[key]));
        }
    }
    let env: Vec<String> = list(&container["env"]).map(variable).collect();
    page.field_at(indent, "Environment", or_none(env.join("\n")));
    let mounts: Vec<String> = list(&container["volumeMounts"])
        .map(|m| {
            let mode = if m["readOnly"] == true { "ro" } else { "rw" };
            format!("{} from {} ({mode})", shown(&m["mountPath"]), shown(&m["name"]))
        })
        .collect();
    page.field_at(indent, "Mounts", or_none(mounts.join("\n")));
}

fn state(page: &mut Page, title: &str, state: &Value, indent: usize) {
    let Some((kind, details)) = state.as_object().and_then(|s| s.iter().find(|(_, v)| !v.is_null())) else {
        return page.field_at(indent, title, "Waiting");
    };
    let mut name = kind.clone();
    if let Some(first) = name.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let mut lines = vec![name];
    for (key, label) in [
        ("reason", "Reason"),
        ("message", "Message"),
        ("exitCode", "Exit Code"),
        ("signal", "Signal"),
        ("startedAt", "Started"),
        ("finishedAt", "Finished"),
    ] {
        if !details[key].is_null() {
            lines.push(format!("{label}: {}", shown(&details[key])));
        }
    }
    page.field_at(indent, title, lines.join("\n"));
}

fn probe(probe: &Value) -> String {
    let number = |key: &str| probe[key].as_i64().unwrap_or(0);
    let how = if probe["exec"].is_object() {
        format!("exec {}", probe["exec"]["command"])
    } else if probe["httpGet"].is_object() {
        let http = &probe["httpGet"];
        let scheme = http["scheme"].as_str().unwrap_or("HTTP").to_lowercase();
        format!(
            "http-get {scheme}://{}:{}{}",
            http["host"].as_str().unwrap_or_default(),
            shown(&http["port"]),
            shown(&http["path"])
        )
    } else if probe["tcpSocket"].is_object() {
        format!("tcp-socket :{}", shown(&probe["tcpSocket"]["port"]))
    } else {
        format!("grpc :{}", shown(&probe["grpc"]["port"]))
    };
    format!(
        "{how} delay={}s timeout={}s period={}s #success={} #failure={}",
        number("initialDelaySeconds"),
        number("timeoutSeconds"),
        number("periodSeconds"),
        number("successThreshold"),
        number("failureThreshold")
    )
}

fn variable(variable: &Value) -> String {
    let name = shown(&variable["name"]);
    let from = &variable["valueFrom"];
    let key_of = |reference: &Value, what: &str| {
        format!("<set to the key '{}' in {what} '{}'>", shown(&reference["key"]), shown(&reference["name"]))
    };
    let value = if from["configMapKeyRef"].is_object() {
        key_of(&from["configMapKeyRef"], "config map")
    } else if from["secretKeyRef"].is_object() {
        key_of(&from["secretKeyRef"], "secret")
    } else if from["fieldRef"].is_object() {
        format!("({}:{})", shown(&from["fieldRef"]["apiVersion"]), shown(&from["fieldRef"]["fieldPath"]))
    } else if from["resourceFieldRef"].is_object() {
        format!("({})", shown(&from["resourceFieldRef"]["resource"]))
    } else {
        variable["value"].as_str().unwrap_or_default().to_owned()
    };
    format!("{name}: {value}")
}

pub fn volumes(page: &mut Page, spec: &Value, indent: usize) {
    let Some(volumes) = spec["volumes"].as_array().filter(|v| !v.is_empty()) else { return };
    page.heading(indent, "Volumes");
    for volume in volumes {
        page.heading(indent + 2, &shown(&volume["name"]));
        for (kind, source) in volume.as_object().into_iter().flatten().filter(|(k, _)| *k != "name") {
            page.field_at(indent + 4, "Type", kind.as_str());
            for (key, value) in source.as_object().into_iter().flatten() {
                page.field_at(indent + 4, key, shown(value));
            }
        }
    }
}

fn tolerations(spec: &Value) -> String {
    let lines: Vec<String> = list(&spec["tolerations"])
        .map(|t| {
            let text = |key: &str| t[key].as_str().unwrap_or_default();
            let mut line = text("key").to_owned();
            if !text("value").is_empty() {
                line.push_str(&format!("={}", text("value")));
            }
            if !text("effect").is_empty() {
                line.push_str(&format!(":{}", text("effect")));
            }
            if text("operator") == "Exists" {
                line.push_str(" op=Exists");
            }
            if let Some(seconds) = t["tolerationSeconds"].as_i64() {
                line.push_str(&format!(" for {seconds}s"));
            }
            line.trim_start().to_owned()
        })
        .collect();
    or_none(lines.join("\n"))
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn or_none(text: String) -> String {
    if text.is_empty() { "<none>".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod() {
        let pod = json!({"metadata": {"name": "p", "namespace": "n", "labels": {"a": "b"},
                "ownerReferences": [{"kind": "Job", "name": "j", "controller": true}]},
            "spec": {"nodeName": "node", "containers": [{"name": "c", "image": "i", "args": ["x"],
                "env": [{"name": "A", "value": "1"}, {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}],
                "tolerations": [{"key": "t", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}]},
            "status": {"phase": "Running", "podIP": "127.1.0.2", "qosClass": "BestEffort",
                "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [{"name": "c", "ready": true, "restartCount": 1, "state": {"running": {"startedAt": "t"}},
                    "lastState": {"terminated": {"exitCode": 3, "reason": "Error"}}}]}});
        let mut page = Page::default();
        describe(&mut page, &pod);
        let text = page.render();
        for line in [
            "Controlled By:    Job/j",
            "    Image:          i",
            "    State:          Running",
            "                    Started: t",
            "    Last State:     Terminated",
            "                    Exit Code: 3",
            "    Environment:    A: 1",
            "                    S: <set to the key 'k' in secret 's'>",
            "Tolerations:     t:NoExecute op=Exists for 300s",
        ] {
            assert!(text.lines().any(|l| l == line), "{line:?} is not in:\n{text}");
        }
    }
}
