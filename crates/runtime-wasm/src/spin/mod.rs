//! Spin applications: one image with several components behind one HTTP server, as SpinKube runs them.
//!
//! A component has its own module, environment, read-only files (in place of the container's private `/`), configuration
//! (`fermyon:spin/variables`, `wasi:config`), key-value stores (those of the namespace, see [`crate::stores`]) and list of
//! hosts that it may call. Memory, processor time, network policy and log are those of their container together.
//!
//! What must stay true: no component sees another's files or configuration, and none reaches a host that its manifest does
//! not name.

pub mod app;
mod assets;
mod hosts;
pub mod routes;
mod variables;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use http::{HeaderName, HeaderValue, Request};
use skiff_runtime::LiveSource;

pub use app::App;
pub use assets::{Content, manifest, read};
pub use hosts::Hosts;

use crate::program::Program;

const RETAIN: &str = "SPIN_COMPONENTS_TO_RETAIN";
/// What the host tells a component of its request; a client's own headers of that kind are taken away.
const HEADER_PREFIX: &str = "spin-";

/// A component as a container serves it.
pub struct Part {
    pub program: Arc<Program>,
    pub env: Vec<(String, String)>,
    /// Its root directory on the host.
    pub files: Option<PathBuf>,
    /// Its variables; a component reads them by key.
    pub config: Arc<[Arc<LiveSource>]>,
    pub stores: Vec<String>,
    pub hosts: Arc<Hosts>,
}

/// An application as a container serves it.
pub struct Served {
    pub parts: Vec<Arc<Part>>,
    routes: Vec<(String, usize)>,
}

/// What a container makes of an application before its programs are there.
pub struct Plan {
    pub app: App,
    values: BTreeMap<String, String>,
}

impl Plan {
    /// With what the container's variables say.
    ///
    /// # Errors
    /// What is missing or does not fit.
    pub fn of(app: &App, env: &[(String, String)]) -> Result<Self, String> {
        let mut app = app.clone();
        let retain = env.iter().rev().find(|(name, _)| name == RETAIN).map(|(_, value)| value.as_str());
        let names: Vec<_> = retain.unwrap_or_default().split(',').map(str::trim).filter(|n| !n.is_empty()).collect();
        if !names.is_empty() {
            app.retain(&names)?;
        }
        let values = variables::values(&app, env)?;
        Ok(Self { app, values })
    }

    /// The application with its programs, in the order of its components. `env` is the container's, `files` where its
    /// components' directories are.
    ///
    /// # Errors
    /// What of a component does not fit.
    pub fn serve(
        self,
        programs: Vec<Arc<Program>>,
        env: &[(String, String)],
        files: &std::path::Path,
    ) -> Result<Served, String> {
        let passed = env.iter().filter(|(name, _)| !for_host(name));
        let passed: Vec<_> = passed.cloned().collect();
        let parts = self.app.components.iter().zip(programs).map(|(component, program)| {
            let expand = |entry: &String| variables::expand(entry, &self.values);
            let entries = component.hosts.iter().map(expand).collect::<Result<Vec<_>, _>>();
            let wrong = |error: String| format!("Spin component {:?}: {error}", component.id);
            let hosts = entries.and_then(|entries| Hosts::parse(&entries)).map_err(wrong)?;
            let own = component.env.iter().filter(|(name, _)| !passed.iter().any(|(other, _)| other == *name));
            let own = own.map(|(name, value)| (name.clone(), value.clone()));
            let config = variables::config(component, &self.values)?;
            Ok(Arc::new(Part {
                program,
                env: own.chain(passed.iter().cloned()).collect(),
                files: component.files.then(|| files.join(&component.id)),
                config: [LiveSource::new(config.into_iter().map(|(name, value)| (name, value.into_bytes())).collect())]
                    .into(),
                stores: component.stores.clone(),
                hosts: Arc::new(hosts),
            }))
        });
        Ok(Served { parts: parts.collect::<Result<_, String>>()?, routes: self.app.routes })
    }
}

/// Whether a variable of a container with an application is for the host alone.
fn for_host(name: &str) -> bool {
    name == RETAIN || name.starts_with("SPIN_HTTP_") || name.starts_with("SPIN_MAX_") || variables::for_host(name)
}

impl Served {
    /// The component that a request is for; its headers say what it matched.
    pub fn route<B>(&self, request: &mut Request<B>) -> Option<usize> {
        let path = request.uri().path().to_owned();
        let found = routes::find(&self.routes, &path)?;
        let host = request.headers().get(http::header::HOST).and_then(|host| host.to_str().ok());
        let host = request.uri().authority().map(|authority| authority.as_str()).or(host).unwrap_or("localhost");
        let query = request.uri().path_and_query().map_or(path.as_str(), |both| both.as_str());
        let full = format!("http://{host}{query}");
        let headers = request.headers_mut();
        let sent: Vec<_> = headers.keys().filter(|name| name.as_str().starts_with(HEADER_PREFIX)).cloned().collect();
        for name in sent {
            headers.remove(name);
        }
        let component_route = found.route.strip_suffix("/...").unwrap_or(found.route);
        let mut tell = |name: &str, value: &str| {
            let name = HeaderName::try_from(format!("{HEADER_PREFIX}{name}"));
            if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(value)) {
                headers.insert(name, value);
            }
        };
        tell("path-info", &found.rest);
        tell("full-url", &full);
        tell("base-path", "/");
        tell("matched-route", found.route);
        tell("raw-component-route", found.route);
        tell("component-route", component_route);
        for (name, value) in &found.parameters {
            tell(&format!("path-match-{name}"), value);
        }
        Some(found.component)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_is_told_what_its_request_matched() {
        let served = Served { parts: Vec::new(), routes: vec![("/users/:id/...".to_owned(), 3)] };
        let mut request = Request::get("/users/7/a/b?c=d").header("host", "shop.test").header("spin-path-info", "lie");
        request = request.header("spin-client-addr", "lie");
        let mut request = request.body(()).expect("is correct");
        assert_eq!(served.route(&mut request), Some(3));
        let header = |name: &str| request.headers().get(name).map_or("", |value| value.to_str().expect("is text"));
        assert_eq!((header("spin-path-info"), header("spin-path-match-id")), ("/a/b", "7"));
        assert_eq!(header("spin-full-url"), "http://shop.test/users/7/a/b?c=d");
        assert_eq!((header("spin-component-route"), header("spin-client-addr")), ("/users/:id", ""));
        let mut other = Request::get("/elsewhere").body(()).expect("is correct");
        assert_eq!(served.route(&mut other), None);
    }
}
