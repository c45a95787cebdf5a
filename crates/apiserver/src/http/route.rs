//! What a request asks for, read from its method and path alone (upstream calls it the request info).

use std::sync::Arc;

use http::Method;
use percent_encoding::percent_decode_str;
use skiff_api::{Status, kinds::Subresource};

use crate::registry::{Registry, Resource};

#[derive(Debug, Clone)]
pub(crate) enum Route {
    /// `/healthz`, `/livez`, `/readyz` and one check of them.
    Health {
        endpoint: &'static str,
        check: Option<String>,
    },
    Version,
    Metrics,
    OpenApiV2,
    /// `/openapi/v3` or a document below it.
    OpenApiV3 {
        document: Option<String>,
    },
    /// `/`: the list of paths.
    Paths,
    /// `/api` and `/apis`, plain or aggregated.
    Roots {
        core: bool,
    },
    /// `/apis/GROUP`.
    Group {
        group: String,
    },
    /// `/api/v1`, `/apis/GROUP/VERSION`.
    Resources {
        group: String,
        version: String,
    },
    Resource(Target),
    /// Nothing is served at this path.
    Unknown,
}

/// A path to a resource: `…/namespaces/NS/PLURAL/NAME/SUB/REST`.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub resource: Arc<Resource>,
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub subresource: Option<Subresource>,
    /// What follows the subresource (`proxy/…`), with its leading slash.
    pub rest: String,
    /// The deprecated `/watch/` paths.
    pub watch: bool,
}

impl Target {
    pub(crate) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or("")
    }
}

/// The verbs of the API, for authorization, metrics and spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }

    pub(crate) fn of(method: &Method, target: &Target, watch: bool) -> Option<Self> {
        let named = target.name.is_some();
        match *method {
            Method::GET | Method::HEAD if !named && (watch || target.watch) => Some(Self::Watch),
            Method::GET | Method::HEAD if named && target.subresource.is_none() && (watch || target.watch) => {
                Some(Self::Watch)
            }
            Method::GET | Method::HEAD if named => Some(Self::Get),
            Method::GET | Method::HEAD => Some(Self::List),
            Method::POST => Some(Self::Create),
            Method::PUT if named => Some(Self::Update),
            Method::PATCH if named => Some(Self::Patch),
            Method::DELETE if named => Some(Self::Delete),
            Method::DELETE => Some(Self::DeleteCollection),
            _ => None,
        }
    }
}

const HEALTH: [&str; 3] = ["healthz", "livez", "readyz"];

/// # Errors
/// 400 when the path is not valid percent-encoded UTF-8.
pub(crate) fn route(registry: &Registry, path: &str) -> Result<Route, Status> {
    let mut parts = Vec::with_capacity(8);
    for part in path.split('/').filter(|p| !p.is_empty()) {
        let text = percent_decode_str(part).decode_utf8();
        parts.push(text.map_err(|_| Status::bad_request("the path is not valid UTF-8"))?.into_owned());
    }
    let words: Vec<&str> = parts.iter().map(String::as_str).collect();
    Ok(match words.as_slice() {
        [] => Route::Paths,
        ["version"] => Route::Version,
        ["metrics"] => Route::Metrics,
        ["openapi", "v2"] => Route::OpenApiV2,
        ["openapi", "v3"] => Route::OpenApiV3 { document: None },
        ["openapi", "v3", document @ ..] => Route::OpenApiV3 { document: Some(document.join("/")) },
        ["api"] => Route::Roots { core: true },
        ["apis"] => Route::Roots { core: false },
        ["apis", group] => Route::Group { group: (*group).to_owned() },
        ["api", version, rest @ ..] => api(registry, "", version, rest, path),
        ["apis", group, version, rest @ ..] => api(registry, group, version, rest, path),
        [endpoint, check @ ..] => match HEALTH.iter().find(|h| *h == endpoint) {
            Some(endpoint) => Route::Health { endpoint, check: (!check.is_empty()).then(|| check.join("/")) },
            None => Route::Unknown,
        },
    })
}

fn api(registry: &Registry, group: &str, version: &str, rest: &[&str], path: &str) -> Route {
    if rest.is_empty() {
        return Route::Resources { group: group.to_owned(), version: version.to_owned() };
    }
    let (rest, watch) = match rest {
        ["watch", rest @ ..] if !rest.is_empty() => (rest, true),
        rest => (rest, false),
    };
    // `namespaces/NS/PLURAL…` unless the third word is a subresource of the namespace itself.
    let (namespace, words) = match rest {
        ["namespaces", namespace, plural, more @ ..]
            if !(group.is_empty() && more.is_empty() && ["status", "finalize"].contains(plural)) =>
        {
            (Some((*namespace).to_owned()), [&[*plural], more].concat())
        }
        rest => (None, rest.to_vec()),
    };
    let Some(resource) = registry.find(group, version, words[0]) else { return Route::Unknown };
    if namespace.is_some() && !resource.kind.namespaced {
        return Route::Unknown;
    }
    let name = words.get(1).map(|n| (*n).to_owned());
    if resource.kind.namespaced && namespace.is_none() && name.is_some() {
        return Route::Unknown;
    }
    let subresource = match words.get(2) {
        None => None,
        Some(sub) => match resource.kind.subresource(sub) {
            Some(sub) => Some(sub),
            None => return Route::Unknown,
        },
    };
    if words.len() > 3 && subresource != Some(Subresource::Proxy) {
        return Route::Unknown;
    }
    // An encoded slash would be a way into another key.
    let odd = |part: &Option<String>| part.as_ref().is_some_and(|p| p.contains('/') || p == "." || p == "..");
    if odd(&namespace) || odd(&name) {
        return Route::Unknown;
    }
    let rest = if subresource == Some(Subresource::Proxy) { rest_of(path, words.len() - 3) } else { String::new() };
    Route::Resource(Target { rest, resource, namespace, name, subresource, watch })
}

/// The last `parts` of the path as the client wrote them, still encoded, with the slash before and after them.
fn rest_of(path: &str, parts: usize) -> String {
    let trailing = if path.ends_with('/') { "/" } else { "" };
    let all: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    let last = &all[all.len().saturating_sub(parts)..];
    if last.is_empty() { trailing.to_owned() } else { format!("/{}{trailing}", last.join("/")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `PLURAL.GROUP NAMESPACE NAME SUBRESOURCE REST`, `-` for what is not there.
    fn show(path: &str) -> String {
        let registry = Registry::new(skiff_api::kinds::builtin());
        match route(&registry, path) {
            Ok(Route::Resource(t)) => format!(
                "{} {} {} {} {}",
                t.resource.qualified(),
                t.namespace.as_deref().unwrap_or("-"),
                t.name.as_deref().unwrap_or("-"),
                t.subresource.map_or("-", |s| s.name()),
                if t.rest.is_empty() { "-" } else { &t.rest },
            ),
            Ok(Route::Unknown) => "unknown".to_owned(),
            Ok(other) => format!("{other:?}"),
            Err(status) => status.message,
        }
    }

    #[test]
    fn paths_say_what_they_are_about() {
        for (path, expected) in [
            ("/api/v1/pods", "pods - - - -"),
            ("/api/v1/namespaces/a/pods", "pods a - - -"),
            ("/api/v1/namespaces/a/pods/p", "pods a p - -"),
            ("/api/v1/namespaces/a/pods/p/log", "pods a p log -"),
            ("/api/v1/namespaces/a", "namespaces - a - -"),
            ("/api/v1/namespaces/a/status", "namespaces - a status -"),
            ("/api/v1/namespaces/a/finalize", "namespaces - a finalize -"),
            ("/api/v1/watch/namespaces/a/pods", "pods a - - -"),
            ("/apis/apps/v1/namespaces/a/deployments/d/scale", "deployments.apps a d scale -"),
            ("/api/v1/nodes/n/proxy/stats/summary", "nodes - n proxy /stats/summary"),
            (
                "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
                "clusterroles.rbac.authorization.k8s.io - system:node - -",
            ),
            ("/api/v1/nodes/proxy/proxy/a%2Fb/", "nodes - proxy proxy /a%2Fb/"),
            ("/api/v1/nodes/n/proxy", "nodes - n proxy -"),
            ("/api/v1/namespaces/a%2Fpods/pods/p", "unknown"),
            ("/api/v1/nodes/..", "unknown"),
            ("/api/v1/pods/p", "unknown"),
            ("/api/v1/namespaces/a/nodes", "unknown"),
            ("/api/v1/namespaces/a/pods/p/nothing", "unknown"),
            ("/api/v1/namespaces/a/pods/p/log/more", "unknown"),
            ("/api/v2/pods", "unknown"),
            ("/favicon.ico", "unknown"),
            ("/api/v1/namespaces/%ff/pods", "the path is not valid UTF-8"),
            ("/healthz/ping", "Health { endpoint: \"healthz\", check: Some(\"ping\") }"),
        ] {
            assert_eq!(show(path), expected, "{path}");
        }
    }
}
