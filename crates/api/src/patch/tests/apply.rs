//! Server-side apply and the tracking of other writes, as stories: who wrote what, and who owns what then.

use serde_json::{Value, json};

use super::{schema_of, yaml};
use crate::{
    Status, kinds,
    patch::{apply, fields, managed_fields, managed_fields::Writer},
    schema::Schema,
};

/// An object and a clock that ticks with every write.
struct Story {
    kind: (&'static str, &'static str, &'static str),
    object: Option<Value>,
    clock: u32,
}

impl Story {
    fn of(group: &'static str, version: &'static str, kind: &'static str) -> Self {
        Self { kind: (group, version, kind), object: None, clock: 0 }
    }

    fn deployment() -> Self {
        Self::of("apps", "v1", "Deployment")
    }

    fn schema(&self) -> &'static Schema {
        schema_of(self.kind.0, self.kind.1, self.kind.2)
    }

    fn whole(&self, text: &str) -> Value {
        let mut object = yaml(text);
        let (group, version, kind) = self.kind;
        object["apiVersion"] = if group.is_empty() { version.into() } else { format!("{group}/{version}").into() };
        object["kind"] = kind.into();
        object["metadata"]["name"] = "x".into();
        object
    }

    fn tick(&mut self) -> String {
        self.clock += 1;
        format!("2026-01-01T00:00:{:02}Z", self.clock)
    }

    /// A create or an update by this manager (`NAME` or `NAME/SUBRESOURCE`).
    fn write(&mut self, by: &str, text: &str) -> &mut Self {
        let mut new = self.whole(text);
        if let Some(old) = &self.object
            && new["metadata"].get("managedFields").is_none()
        {
            new["metadata"]["managedFields"] = old["metadata"]["managedFields"].clone();
        }
        let (now, version) = (self.tick(), new["apiVersion"].as_str().unwrap_or_default().to_owned());
        let (manager, subresource) = by.split_once('/').unwrap_or((by, ""));
        let writer = Writer { manager, api_version: &version, subresource, now: &now };
        managed_fields::update(self.schema(), self.object.as_ref(), &mut new, &writer);
        self.object = Some(new);
        self
    }

    fn try_apply(&mut self, by: &str, text: &str, force: bool) -> Result<&mut Self, Status> {
        let (group, version, kind) = self.kind;
        let kind = kinds::find_kind(group, version, kind).expect("built in");
        let (now, applied) = (self.tick(), self.whole(text));
        let (manager, subresource) = by.split_once('/').unwrap_or((by, ""));
        let writer = Writer { manager, api_version: &kind.api_version(), subresource, now: &now };
        self.object = Some(apply::apply(kind, self.schema(), self.object.as_ref(), applied, &writer, force)?);
        Ok(self)
    }

    fn apply(&mut self, by: &str, text: &str) -> &mut Self {
        self.try_apply(by, text, false).unwrap_or_else(|status| panic!("{status}"))
    }

    fn conflict(&mut self, by: &str, text: &str) -> Status {
        let status = self.try_apply(by, text, false).err().expect("a conflict");
        assert_eq!((status.code, status.reason), (409, "Conflict"));
        status
    }

    fn at(&self, pointer: &str) -> Value {
        self.object.as_ref().and_then(|o| o.pointer(pointer)).cloned().unwrap_or_default()
    }

    fn entry(&self, by: &str) -> Option<Value> {
        let (manager, subresource) = by.split_once('/').unwrap_or((by, ""));
        self.at("/metadata/managedFields")
            .as_array()?
            .iter()
            .find(|e| {
                e["manager"] == manager && e.get("subresource").and_then(Value::as_str).unwrap_or("") == subresource
            })
            .cloned()
    }

    fn owns(&self, by: &str) -> String {
        let entry = self.entry(by).unwrap_or_default();
        entry["fieldsV1"].as_object().map(fields::paths).unwrap_or_default().join(" ")
    }

    #[track_caller]
    fn check(&self, pointer: &str, expected: &str) -> &Self {
        assert_eq!(self.at(pointer), yaml(expected), "{pointer} of {}", self.object.as_ref().unwrap());
        self
    }

    #[track_caller]
    fn check_owns(&self, by: &str, expected: &str) -> &Self {
        assert_eq!(self.owns(by), expected, "{by}");
        self
    }
}

const DEPLOYMENT: &str = "
metadata: {labels: {app: x}}
spec:
  replicas: 3
  selector: {matchLabels: {app: x}}
  template:
    metadata: {labels: {app: x}}
    spec: {containers: [{name: c, image: a, ports: [{containerPort: 80}]}]}
";

/// As `kubectl create` leaves it, entry by entry.
#[test]
fn a_create_owns_what_it_sets() {
    let mut story = Story::deployment();
    story.write("kubectl-create", DEPLOYMENT);
    assert_eq!(
        story.entry("kubectl-create").expect("tracked"),
        json!({
            "manager": "kubectl-create", "operation": "Update", "apiVersion": "apps/v1", "time": "2026-01-01T00:00:01Z",
            "fieldsType": "FieldsV1", "fieldsV1": {
                "f:metadata": { "f:labels": { ".": {}, "f:app": {} } },
                "f:spec": {
                    "f:replicas": {}, "f:selector": {},
                    "f:template": {
                        "f:metadata": { "f:labels": { ".": {}, "f:app": {} } },
                        "f:spec": { "f:containers": { "k:{\"name\":\"c\"}": {
                            ".": {}, "f:name": {}, "f:image": {},
                            "f:ports": { ".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": { ".": {}, "f:containerPort": {} } },
                        } } },
                    },
                },
            },
        })
    );
}

#[test]
fn an_update_takes_what_it_changes() {
    let mut story = Story::of("", "v1", "ConfigMap");
    story.write("a", "data: {x: '1', y: '1', z: '1'}").write("b", "data: {x: '1', y: '2'}");
    story.check_owns("a", ".data .data.x").check_owns("b", ".data.y");
    assert_eq!(story.entry("b").expect("tracked")["time"], "2026-01-01T00:00:02Z");
    // What changes nothing, owns nothing and leaves the time.
    story.write("c", "data: {x: '1', y: '2'}");
    assert_eq!(story.entry("c"), None);
    story.write("b", "data: {x: '1', y: '3'}").check_owns("b", ".data.y");
    assert_eq!(story.entry("b").expect("tracked")["time"], "2026-01-01T00:00:04Z");
    // Who has nothing left has no entry.
    story.write("a", "data: {x: '1'}");
    assert_eq!(story.entry("b"), None);
    story.write("d", "immutable: true").check_owns("d", ".immutable");
    assert_eq!(story.entry("a"), None);
}

#[test]
fn subresources_have_entries_of_their_own() {
    let mut story = Story::of("", "v1", "Pod");
    story.write("m", "spec: {containers: [{name: c}]}");
    let status =
        "{spec: {containers: [{name: c}]}, status: {phase: Running, conditions: [{type: Ready, status: 'True'}]}}";
    story.write("m/status", status);
    story.check_owns("m", r#".spec.containers[name="c"] .spec.containers[name="c"].name"#);
    let ready = r#".status.conditions[type="Ready"]"#;
    story.check_owns("m/status", &format!(".status.conditions {ready} {ready}.status {ready}.type .status.phase"));
    // Through a subresource nobody writes the entries themselves.
    let entries = story.at("/metadata/managedFields");
    let mut cleared = yaml(status);
    cleared["metadata"]["managedFields"] = json!([{}]);
    story.write("m/status", &cleared.to_string());
    assert_eq!(story.at("/metadata/managedFields"), entries);
}

#[test]
fn entries_can_be_cleared() {
    let mut story = Story::of("", "v1", "ConfigMap");
    story.write("a", "data: {x: '1'}").write("a", "{metadata: {managedFields: [{}]}, data: {x: '1'}}");
    story.check("/metadata/managedFields", "null");
    // An object that is not tracked is not tracked until somebody applies.
    story.write("b", "data: {x: '2'}").check("/metadata/managedFields", "null");
    story.apply("c", "data: {y: '1'}");
    story.check_owns("before-first-apply", ".data .data.x").check_owns("c", ".data.y");
    // Nonsense is ignored.
    story.write("b", "{metadata: {managedFields: [{operation: Guess}]}, data: {x: '2', y: '1'}}");
    story.check_owns("before-first-apply", ".data .data.x").check_owns("c", ".data.y");
}

#[test]
fn the_oldest_updaters_are_merged() {
    let mut story = Story::of("", "v1", "ConfigMap");
    let mut data = json!({});
    for n in 0..13 {
        data["data"][format!("k{n:02}")] = "1".into();
        story.write(&format!("m{n:02}"), &data.to_string());
    }
    let entries = story.at("/metadata/managedFields");
    assert_eq!(entries.as_array().map(Vec::len), Some(managed_fields::UPDATE_MANAGERS_MAX));
    story.check_owns("ancient-changes", ".data .data.k00 .data.k01 .data.k02 .data.k03");
    assert_eq!(story.entry("ancient-changes").expect("merged")["time"], "2026-01-01T00:00:04Z");
    story.check_owns("m12", ".data.k12");
}

#[test]
fn an_applier_owns_what_it_names() {
    let mut story = Story::deployment();
    story.apply("a", DEPLOYMENT);
    let container = r#".spec.template.spec.containers[name="c"]"#;
    let port = format!(r#"{container}.ports[containerPort=80,protocol="TCP"]"#);
    story.check_owns(
        "a",
        &format!(
            ".metadata.labels.app .spec.replicas .spec.selector .spec.template.metadata.labels.app {container} \
             {container}.image {container}.name {port} {port}.containerPort"
        ),
    );
    let before = story.object.clone();
    story.apply("a", DEPLOYMENT);
    assert_eq!(story.object, before, "the same again changes nothing, not even the time");
}

#[test]
fn what_is_no_longer_applied_goes() {
    let mut story = Story::deployment();
    let containers = |list: &str| format!("{{spec: {{template: {{spec: {{containers: [{list}]}}}}}}}}");
    story.apply(
        "a",
        &containers("{name: c, image: i, env: [{name: K, value: v}, {name: L, value: w}]}, {name: d, image: i}"),
    );
    // The server adds a default to both.
    let mut defaulted = story.object.clone().unwrap();
    for n in [0, 1] {
        defaulted["spec"]["template"]["spec"]["containers"][n]["imagePullPolicy"] = "Always".into();
    }
    story.object = Some(defaulted);
    story.apply("a", &containers("{name: c, env: [{name: L, value: w}]}"));
    story.check("/spec/template/spec/containers", "[{name: c, imagePullPolicy: Always, env: [{name: L, value: w}]}]");
    // Parts that only the applier wanted go with everything in them.
    let mut story = Story::deployment();
    story
        .apply("a", "{metadata: {annotations: {k: v}}, spec: {replicas: 1, strategy: {rollingUpdate: {maxSurge: 1}}}}");
    let mut defaulted = story.object.clone().unwrap();
    defaulted["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] = 1.into();
    story.object = Some(defaulted);
    story.apply("a", "spec: {replicas: 1}");
    story.check("/spec", "{replicas: 1}").check("/metadata/annotations", "null");
    story.apply("a", "{}").check("/metadata/name", "x").check("/metadata/managedFields", "null");
}

#[test]
fn what_others_own_stays() {
    let mut story = Story::of("", "v1", "ConfigMap");
    story.apply("a", "{data: {x: '1', y: '1'}, metadata: {finalizers: [f/a, f/b]}}");
    story.apply("b", "{data: {y: '1', z: '1'}, metadata: {finalizers: [f/b]}}");
    story.check_owns("a", r#".data.x .data.y .metadata.finalizers[="f/a"] .metadata.finalizers[="f/b"]"#);
    story.apply("a", "data: {x: '1'}");
    story.check("/data", "{x: '1', y: '1', z: '1'}").check("/metadata/finalizers", "[f/b]");
    story.check_owns("b", r#".data.y .data.z .metadata.finalizers[="f/b"]"#);
    story.write("c", "{data: {x: '2', y: '1', z: '1'}, metadata: {finalizers: [f/b]}}");
    assert_eq!(story.entry("a"), None, "the update took the only field");
    story.apply("a", "{}").check("/data/x", "'2'");
}

#[test]
fn conflicts_name_manager_and_field() {
    let mut story = Story::deployment();
    story.write("kubectl-client-side-apply", DEPLOYMENT);
    let status = story.conflict("a", "spec: {replicas: 5}");
    assert_eq!(
        status.message,
        r#"Apply failed with 1 conflict: conflict with "kubectl-client-side-apply" using apps/v1: .spec.replicas"#
    );
    assert_eq!(
        status.details["causes"],
        json!([{
            "reason": "FieldManagerConflict", "field": ".spec.replicas",
            "message": "conflict with \"kubectl-client-side-apply\" using apps/v1",
        }])
    );
    story
        .write("scaler/scale", &DEPLOYMENT.replace("replicas: 3", "replicas: 4"))
        .apply("b", "metadata: {labels: {b: b}}");
    let image =
        "{spec: {replicas: 5, template: {spec: {containers: [{name: c, image: b}]}}}, metadata: {labels: {b: c}}}";
    let status = story.conflict("a", image);
    assert_eq!(
        status.message,
        "Apply failed with 3 conflicts: conflicts with \"b\":\n- .metadata.labels.b\n\
         conflicts with \"kubectl-client-side-apply\" using apps/v1:\n\
         - .spec.template.spec.containers[name=\"c\"].image\n\
         conflicts with \"scaler\" with subresource \"scale\" using apps/v1:\n- .spec.replicas"
    );
    story.check("/spec/replicas", "4");
    // Force takes the fields and deletes nothing of others.
    story.try_apply("a", image, true).expect("forced");
    story.check("/spec/replicas", "5").check("/metadata/labels", "{app: x, b: c}");
    story.check_owns("scaler/scale", "").check_owns("b", "");
    assert!(story.owns("kubectl-client-side-apply").contains(r#".containers[name="c"].ports"#));
    assert!(!story.owns("kubectl-client-side-apply").contains(".image"));
    // The same value is no conflict: it is owned twice.
    story.apply("d", "spec: {replicas: 5}").check_owns("d", ".spec.replicas");
    assert!(story.owns("a").contains(".spec.replicas"));
}

#[test]
fn lists_merge_by_their_schema() {
    let table = [
        // Theirs, ours, the result.
        ("[{name: a}, {name: b}]", "[{name: c}]", "[{name: a}, {name: b}, {name: c}]"),
        ("[{name: a}, {name: b}]", "[{name: b, image: i}, {name: a}]", "[{name: b, image: i}, {name: a}]"),
        ("[{name: a}, {name: b}, {name: c}]", "[{name: c}, {name: b}]", "[{name: a}, {name: c}, {name: b}]"),
        ("[{name: a}, {name: b}]", "[{name: n1}, {name: b}]", "[{name: a}, {name: n1}, {name: b}]"),
        ("[]", "[{name: b}, {name: a}]", "[{name: b}, {name: a}]"),
    ];
    for (theirs, ours, expected) in table {
        let mut story = Story::of("", "v1", "Pod");
        story.apply("them", &format!("spec: {{containers: {theirs}}}"));
        story.apply("us", &format!("spec: {{containers: {ours}}}"));
        story.check("/spec/containers", expected);
    }
    let mut story = Story::of("", "v1", "Pod");
    story.apply("a", "spec: {nodeSelector: {x: y}, containers: [{name: c, args: [a, b]}]}");
    let status = story.conflict("b", "spec: {nodeSelector: {z: z}}");
    assert!(status.message.ends_with(": .spec.nodeSelector"), "atomic maps are owned whole: {status}");
    let status = story.conflict("b", "spec: {containers: [{name: c, args: [b]}]}");
    assert!(status.message.ends_with(r#": .spec.containers[name="c"].args"#), "and atomic lists: {status}");
}

#[test]
fn what_is_malformed_is_refused() {
    let table = [
        ("{spec: {containers: [{name: c}, {name: c}]}}", r#".spec.containers: duplicate entries for key [name="c"]"#),
        ("{spec: {containers: [{image: i}]}}", r#"has an element that omits key field "name""#),
        ("{metadata: {finalizers: [a, a]}}", r#".metadata.finalizers: duplicate entries for key [="a"]"#),
        ("{metadata: {managedFields: []}}", "metadata.managedFields must be nil"),
    ];
    for (applied, expected) in table {
        let status = Story::of("", "v1", "Pod").try_apply("a", applied, false).err().expect(applied);
        assert_eq!(status.code, 400);
        assert!(status.message.contains(expected), "{status}");
    }
    let kind = kinds::find_kind("", "v1", "Pod").expect("built in");
    let writer = Writer { manager: "a", api_version: "v1", subresource: "", now: "" };
    let other = json!({ "apiVersion": "apps/v1", "kind": "Pod" });
    let status = apply::apply(kind, schema_of("", "v1", "Pod"), None, other, &writer, false).expect_err("refused");
    assert_eq!((status.code, status.message.as_str()), (400, "invalid object type: apps/v1, Kind=Pod"));
}

#[test]
fn the_status_is_applied_through_its_subresource() {
    let mut story = Story::of("", "v1", "Pod");
    story.apply("a", "{spec: {hostname: h}, status: {phase: Failed}}");
    story.check("/status", "null").check_owns("a", ".spec.hostname");
    story.apply("a/status", "{spec: {hostname: i}, status: {phase: Running}}");
    story.check("/spec/hostname", "h").check("/status/phase", "Running");
    story.check_owns("a", ".spec.hostname").check_owns("a/status", ".status.phase");
}

#[test]
fn kubectl_takes_over_from_client_side_apply() {
    const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
    let client_side = |replicas: u32| {
        let mut last = Story::deployment().whole(DEPLOYMENT);
        let mut object = last.clone();
        object["spec"]["replicas"] = replicas.into();
        last["spec"]["replicas"] = 3.into();
        object["metadata"]["annotations"][ANNOTATION] = last.to_string().into();
        object.to_string()
    };
    let five = DEPLOYMENT.replace("replicas: 3", "replicas: 5");
    let mut story = Story::deployment();
    story.write("kubectl-client-side-apply", &client_side(3));
    story.conflict("other", &five);
    story.apply("kubectl", &five).check("/spec/replicas", "5");
    let last = story.at("/metadata/annotations")[ANNOTATION].as_str().expect("kept").to_owned();
    assert_eq!(yaml(&last)["spec"]["replicas"], 5, "the annotation follows");
    // What is no longer as it was applied is somebody else's.
    let mut story = Story::deployment();
    story.write("kubectl-client-side-apply", &client_side(3)).write("scaler", &client_side(4));
    let status = story.conflict("kubectl", &five);
    assert!(status.message.contains("conflict with \"scaler\""), "{status}");
}

#[test]
fn custom_resources_apply_by_their_schema() {
    let raw = yaml(
        "{type: object, properties: {spec: {type: object, properties: {
            rules: {type: array, x-kubernetes-list-type: map, x-kubernetes-list-map-keys: [host],
                    items: {type: object, properties: {host: {type: string}, port: {type: integer}}}},
            names: {type: array, items: {type: string}},
            free: {type: object, x-kubernetes-preserve-unknown-fields: true}}}}}",
    );
    let schema = Schema::from_crd(&raw).expect("structural");
    let kind = kinds::find_kind("", "v1", "Pod").expect("any kind will do");
    let on = |live: Option<&Value>, manager: &str, spec: &str| {
        let writer = Writer { manager, api_version: "v1", subresource: "", now: "2026-01-01T00:00:00Z" };
        let applied = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "x" }, "spec": yaml(spec) });
        apply::apply(kind, &schema, live, applied, &writer, false)
    };
    let one = on(None, "a", "{rules: [{host: h, port: 1}], names: [n1, n2], free: {p: {q: 1}}}").expect("created");
    let two = on(Some(&one), "b", "{rules: [{host: i}], free: {p: {r: 2}}}").expect("no conflict");
    assert_eq!(two["spec"], yaml("{rules: [{host: h, port: 1}, {host: i}], names: [n1, n2], free: {p: {q: 1, r: 2}}}"));
    let status = on(Some(&two), "b", "{names: [n2]}").expect_err("a list without a type is atomic");
    assert!(status.message.ends_with(".spec.names"), "{status}");
}

#[test]
fn managers_are_named_by_parameter_or_agent() {
    let long = "x".repeat(200);
    let table = [
        ("given", "kubectl/v1", "given"),
        ("", "kubectl/v1.37.0 (linux/amd64)", "kubectl"),
        ("", "curl", "curl"),
        ("", "a\u{7}b/1", "ab"),
        ("", &long, &long[..managed_fields::MANAGER_LENGTH_MAX]),
        ("", "", ""),
    ];
    for (parameter, agent, expected) in table {
        assert_eq!(managed_fields::manager_name(parameter, agent), expected);
    }
}
