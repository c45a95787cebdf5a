//! A Spin application as `spin registry push` packs it: the locked manifest, its components' modules, and their files as
//! layers of their own, as one archive, or in the manifest itself.
//!
//! What must stay true: what this node does not do for an application is refused by name, never left out silently.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{hosts::Hosts, routes};

pub const MANIFEST_TYPE: &str = "application/vnd.fermyon.spin.application.v1+config";
/// The newest version of the manifest that is understood.
const VERSION_MAX: u64 = 1;
/// Components of one application.
const COMPONENTS_MAX: usize = 64;

/// What is kept of an application beside its image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct App {
    pub components: Vec<Component>,
    /// Each with the index of its component.
    pub routes: Vec<(String, usize)>,
    /// Every variable, with its default if it has one.
    pub variables: BTreeMap<String, Option<String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    pub id: String,
    /// The digest of its module's bytes.
    pub module: String,
    pub env: BTreeMap<String, String>,
    /// What it reads by name, with the application's variables in `{{ }}`.
    pub config: BTreeMap<String, String>,
    pub hosts: Vec<String>,
    pub stores: Vec<String>,
    /// Whether it has files, which are its read-only root directory.
    pub files: bool,
}

#[derive(Deserialize)]
struct Locked {
    spin_lock_version: u64,
    #[serde(default)]
    must_understand: Vec<String>,
    #[serde(default)]
    host_requirements: BTreeMap<String, Value>,
    #[serde(default)]
    metadata: BTreeMap<String, Value>,
    #[serde(default)]
    variables: BTreeMap<String, Variable>,
    triggers: Vec<Trigger>,
    components: Vec<LockedComponent>,
}

#[derive(Deserialize)]
struct Variable {
    default: Option<String>,
}

#[derive(Deserialize)]
struct Trigger {
    trigger_type: String,
    trigger_config: Value,
}

#[derive(Deserialize)]
pub struct LockedComponent {
    pub id: String,
    #[serde(default)]
    metadata: BTreeMap<String, Value>,
    pub source: ContentRef,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    pub files: Vec<File>,
    #[serde(default)]
    config: BTreeMap<String, String>,
    #[serde(default)]
    dependencies: BTreeMap<String, Value>,
    #[serde(default)]
    host_requirements: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
pub struct File {
    #[serde(flatten)]
    pub content: ContentRef,
    pub path: String,
}

/// Where content is: in the manifest itself (base64), or in the layer (or the archive's file) of that digest.
#[derive(Deserialize)]
pub struct ContentRef {
    pub inline: Option<String>,
    pub digest: Option<String>,
}

/// The application, and its components as the manifest has them. Modules' digests are filled in by who fetches them.
///
/// # Errors
/// What cannot be read, or is not done here.
pub fn parse(bytes: &[u8]) -> Result<(App, Vec<LockedComponent>), String> {
    let locked: Locked =
        serde_json::from_slice(bytes).map_err(|error| format!("its Spin manifest cannot be read: {error}"))?;
    if locked.spin_lock_version > VERSION_MAX {
        let version = locked.spin_lock_version;
        return Err(format!("its Spin manifest has version {version}; this node reads up to {VERSION_MAX}"));
    }
    understood(&locked)?;
    if locked.components.len() > COMPONENTS_MAX {
        return Err(format!("it has {} components; the limit is {COMPONENTS_MAX}", locked.components.len()));
    }
    let mut app = App::default();
    for component in &locked.components {
        app.components.push(convert(component)?);
    }
    let base = base(&locked.metadata);
    for trigger in &locked.triggers {
        app.routes.extend(route(trigger, &app.components, &base)?);
    }
    if app.routes.is_empty() {
        return Err("it has no HTTP trigger with a route: there is nothing to serve".to_owned());
    }
    app.variables = locked.variables.into_iter().map(|(name, variable)| (name, variable.default)).collect();
    Ok((app, locked.components))
}

/// Refuses what the manifest says a host must do and this one does not.
fn understood(locked: &Locked) -> Result<(), String> {
    let known = ["host_requirements", "component_host_requirements"];
    if let Some(other) = locked.must_understand.iter().find(|word| !known.contains(&word.as_str())) {
        return Err(format!("its Spin manifest wants {other:?} understood, which this node does not"));
    }
    let of_components = locked.components.iter().flat_map(|component| &component.host_requirements);
    let needs = locked.host_requirements.iter().chain(of_components).filter(|(_, need)| *need != "optional");
    let needs: Vec<_> = needs.map(|(name, _)| name.as_str()).collect();
    if needs.is_empty() {
        return Ok(());
    }
    Err(format!("the Spin application needs {}, which this node does not have", needs.join(", ")))
}

fn convert(component: &LockedComponent) -> Result<Component, String> {
    let id = component.id.clone();
    if id.is_empty() || !id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
        return Err(format!("the Spin component name {id:?} is not of letters, digits, \"-\" and \"_\""));
    }
    if !component.dependencies.is_empty() {
        let names: Vec<_> = component.dependencies.keys().map(String::as_str).collect();
        return Err(format!(
            "Spin component {id:?} has dependencies that are not composed into it ({}): push it without --compose=false",
            names.join(", ")
        ));
    }
    let list = |name: &str| -> Vec<String> {
        let words = component.metadata.get(name).and_then(Value::as_array).into_iter().flatten();
        words.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut hosts = list("allowed_outbound_hosts");
    // As applications of before Spin 2 have it: hosts without a scheme.
    hosts.extend(list("allowed_http_hosts").into_iter().flat_map(|host| Hosts::of_http(&host)));
    for file in &component.files {
        check_path(&file.path).map_err(|reason| format!("Spin component {id:?}: its file {:?} {reason}", file.path))?;
    }
    Ok(Component {
        id,
        module: String::new(),
        env: component.env.clone(),
        config: component.config.clone(),
        hosts,
        stores: list("key_value_stores"),
        files: !component.files.is_empty(),
    })
}

/// Files stay in their component's directory.
pub fn check_path(path: &str) -> Result<(), &'static str> {
    let plain = |part: std::path::Component<'_>| {
        matches!(part, std::path::Component::Normal(_) | std::path::Component::RootDir | std::path::Component::CurDir)
    };
    let path = Path::new(path);
    if path.file_name().is_none() || !path.components().all(plain) || path.to_string_lossy().contains('\0') {
        return Err("is not a path within the component");
    }
    Ok(())
}

fn base(metadata: &BTreeMap<String, Value>) -> String {
    let triggers = metadata.get("triggers").and_then(|triggers| triggers.get("http"));
    let trigger = triggers.or_else(|| metadata.get("trigger"));
    let base = trigger.and_then(|trigger| trigger.get("base")).and_then(Value::as_str).unwrap_or("/");
    base.trim_end_matches('/').to_owned()
}

/// None for a component that only others may call.
fn route(trigger: &Trigger, components: &[Component], base: &str) -> Result<Option<(String, usize)>, String> {
    if trigger.trigger_type != "http" {
        return Err(format!(
            "it has a trigger of type {:?}; this node serves those of type \"http\"",
            trigger.trigger_type
        ));
    }
    let config = &trigger.trigger_config;
    let id = config.get("component").and_then(Value::as_str).unwrap_or_default();
    let Some(index) = components.iter().position(|component| component.id == id) else {
        return Err(format!("an HTTP trigger names the component {id:?}, which the manifest lacks"));
    };
    let executor = config.get("executor").and_then(|executor| executor.get("type")).and_then(Value::as_str);
    if executor == Some("wagi") {
        return Err(format!(
            "Spin component {id:?} has the executor \"wagi\"; this node serves components of wasi:http"
        ));
    }
    let Some(path) = config.get("route").and_then(Value::as_str) else { return Ok(None) };
    let pattern = format!("{base}{path}");
    routes::check(&pattern).map_err(|reason| format!("the route {pattern:?} of Spin component {id:?} {reason}"))?;
    Ok(Some((pattern, index)))
}

impl App {
    /// With those components only, and what leads to them.
    ///
    /// # Errors
    /// Which is not there, with those that are.
    pub fn retain(&mut self, names: &[&str]) -> Result<(), String> {
        for name in names {
            if !self.components.iter().any(|component| component.id == *name) {
                let all: Vec<_> = self.components.iter().map(|component| component.id.as_str()).collect();
                return Err(format!("the Spin application has no component {name:?}; it has {}", all.join(", ")));
            }
        }
        let kept: Vec<_> = self.components.iter().map(|c| names.contains(&c.id.as_str())).collect();
        let place: Vec<_> =
            kept.iter().scan(0, |next, kept| Some(std::mem::replace(next, *next + usize::from(*kept)))).collect();
        self.routes.retain(|(_, index)| kept[*index]);
        self.routes.iter_mut().for_each(|(_, index)| *index = place[*index]);
        let mut keep = kept.iter();
        self.components.retain(|_| keep.next() == Some(&true));
        if self.routes.is_empty() {
            return Err(format!("no HTTP route leads to {}: there is nothing to serve", names.join(", ")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn locked() -> Value {
        json!({
            "spin_lock_version": 1,
            "metadata": { "name": "shop", "triggers": { "http": { "base": "/shop/" } } },
            "variables": { "token": {}, "greeting": { "default": "hello" } },
            "triggers": [
                { "id": "a", "trigger_type": "http", "trigger_config": { "component": "site", "route": "/..." } },
                { "id": "b", "trigger_type": "http", "trigger_config": { "component": "api", "route": "/api/:id" } },
                { "id": "c", "trigger_type": "http", "trigger_config": { "component": "inner", "route": { "private": true } } },
            ],
            "components": [
                { "id": "site", "source": { "content_type": "application/wasm", "digest": "sha256:1" },
                  "files": [{ "inline": "aGk=", "path": "static/hi.txt" }] },
                { "id": "inner", "source": { "content_type": "application/wasm", "digest": "sha256:2" } },
                { "id": "api", "source": { "content_type": "application/wasm", "digest": "sha256:3" },
                  "env": { "A": "b" }, "config": { "auth": "{{ token }}" },
                  "metadata": { "allowed_outbound_hosts": ["https://a.test"], "key_value_stores": ["default"] } },
            ],
        })
    }

    #[test]
    fn a_manifest_is_read_and_what_is_not_done_is_refused_by_name() {
        let (mut app, components) = parse(locked().to_string().as_bytes()).expect("is correct");
        assert_eq!(app.routes, [("/shop/...".to_owned(), 0), ("/shop/api/:id".to_owned(), 2)]);
        assert_eq!((app.components[2].hosts[0].as_str(), app.components[0].files), ("https://a.test", true));
        assert_eq!((components.len(), app.variables["greeting"].as_deref()), (3, Some("hello")));
        app.retain(&["api"]).expect("it is there");
        assert_eq!((app.routes, app.components.len()), (vec![("/shop/api/:id".to_owned(), 0)], 1));

        type Change = fn(&mut Value);
        let rows: [(Change, &str); 8] = [
            (|m| m["spin_lock_version"] = json!(2), "version 2"),
            (|m| m["must_understand"] = json!(["moods"]), "\"moods\""),
            (|m| m["host_requirements"] = json!({ "local_service_chaining": "required" }), "local_service_chaining"),
            (|m| m["triggers"][0]["trigger_type"] = json!("redis"), "type \"redis\""),
            (|m| m["triggers"][0]["trigger_config"]["executor"] = json!({ "type": "wagi" }), "wagi"),
            (|m| m["triggers"][0]["trigger_config"]["component"] = json!("x"), "\"x\", which the manifest lacks"),
            (|m| m["components"][0]["files"][0]["path"] = json!("../x"), "\"../x\""),
            (|m| m["components"][0]["dependencies"] = json!({ "a:b/c": {} }), "a:b/c"),
        ];
        for (change, expected) in rows {
            let mut manifest = locked();
            change(&mut manifest);
            let error = parse(manifest.to_string().as_bytes()).err().expect("is not served");
            assert!(error.contains(expected), "{expected} in {error}");
        }
    }

    #[test]
    fn components_that_are_not_there_cannot_be_retained() {
        let (app, _) = parse(locked().to_string().as_bytes()).expect("is correct");
        for (name, expected) in [("none", "it has site, inner, api"), ("inner", "no HTTP route leads to inner")] {
            let error = app.clone().retain(&[name]).expect_err("is refused");
            assert!(error.contains(expected), "{error}");
        }
    }
}
