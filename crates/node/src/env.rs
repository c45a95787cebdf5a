//! A container's environment: pure. What it refers to was fetched before, into `Sources`.
//!
//! Later names win: services, then envFrom in its order, then env in its order. A value may refer to what comes before
//! it by `$(NAME)`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVar, EnvVarSource, Pod, Service};

use crate::{
    expand::expand,
    fields::{self, NodeFacts},
    sources::Sources,
};

/// A container that cannot be made as its configuration stands: `CreateContainerConfigError` with this message.
pub type ConfigError = String;

#[derive(Debug)]
pub struct EnvInput<'a> {
    pub pod: &'a Pod,
    pub container: &'a Container,
    pub sources: &'a Sources,
    pub facts: &'a NodeFacts,
    /// From [`services`].
    pub services: &'a BTreeMap<String, String>,
}

/// The variables in the order in which they were first set.
///
/// # Errors
/// A message that names the ConfigMap, Secret, key or field that is missing.
pub fn build(input: &EnvInput<'_>) -> Result<Vec<(String, String)>, ConfigError> {
    let mut env = Vars::default();
    for from in input.container.env_from.iter().flatten() {
        add_all(input, from, &mut env)?;
    }
    for var in input.container.env.iter().flatten() {
        if let Some(value) = value(input, var, &env)? {
            env.set(&var.name, value);
        }
    }
    for (name, value) in input.services {
        if !env.by_name.contains_key(name) {
            env.set(name, value.clone());
        }
    }
    Ok(env.in_order())
}

#[derive(Default)]
struct Vars {
    by_name: BTreeMap<String, String>,
    order: Vec<String>,
}

impl Vars {
    fn set(&mut self, name: &str, value: String) {
        if self.by_name.insert(name.to_owned(), value).is_none() {
            self.order.push(name.to_owned());
        }
    }
    fn in_order(mut self) -> Vec<(String, String)> {
        self.order.into_iter().filter_map(|name| self.by_name.remove_entry(&name)).collect()
    }
}

fn add_all(input: &EnvInput<'_>, from: &EnvFromSource, env: &mut Vars) -> Result<(), ConfigError> {
    let prefix = from.prefix.as_deref().unwrap_or_default();
    let data = if let Some(reference) = &from.config_map_ref {
        input.sources.config_map_text(&reference.name, reference.optional == Some(true))?
    } else if let Some(reference) = &from.secret_ref {
        input.sources.secret_text(&reference.name, reference.optional == Some(true))?
    } else {
        None
    };
    for (key, value) in data.into_iter().flatten() {
        if !key.is_empty() && !key.contains('=') {
            env.set(&format!("{prefix}{key}"), value);
        }
    }
    Ok(())
}

/// `None` for an optional reference to something that is not there.
fn value(input: &EnvInput<'_>, var: &EnvVar, env: &Vars) -> Result<Option<String>, ConfigError> {
    if let Some(text) = var.value.as_ref().filter(|v| !v.is_empty()) {
        let known = |name: &str| env.by_name.get(name).or_else(|| input.services.get(name)).map(String::as_str);
        return Ok(Some(expand(text, known)));
    }
    match &var.value_from {
        None => Ok(Some(String::new())),
        Some(from) => referenced(input, from),
    }
}

fn referenced(input: &EnvInput<'_>, from: &EnvVarSource) -> Result<Option<String>, ConfigError> {
    let namespace = input.pod.metadata.namespace.as_deref().unwrap_or_default();
    if let Some(field) = &from.field_ref {
        return fields::field(input.pod, input.facts, field).map(Some);
    }
    if let Some(resource) = &from.resource_field_ref {
        return fields::resource(input.pod, input.container, input.facts, resource).map(Some);
    }
    let (kind, name, key, optional, data) = if let Some(r) = &from.config_map_key_ref {
        let optional = r.optional == Some(true);
        ("ConfigMap", &r.name, &r.key, optional, input.sources.config_map_text(&r.name, optional)?)
    } else if let Some(r) = &from.secret_key_ref {
        let optional = r.optional == Some(true);
        ("Secret", &r.name, &r.key, optional, input.sources.secret_text(&r.name, optional)?)
    } else if from.file_key_ref.is_some() {
        return Err("env valueFrom.fileKeyRef is not supported yet".to_owned());
    } else {
        return Ok(None);
    };
    match data.and_then(|mut d| d.remove(key)) {
        Some(value) => Ok(Some(value)),
        None if optional => Ok(None),
        None => Err(format!("couldn't find key {key} in {kind} {namespace}/{name}")),
    }
}

/// Names of ConfigMaps and Secrets that the environment refers to.
pub fn references(container: &Container) -> (Vec<String>, Vec<String>) {
    let (mut maps, mut secrets) = (vec![], vec![]);
    for from in container.env_from.iter().flatten() {
        maps.extend(from.config_map_ref.iter().map(|r| r.name.clone()));
        secrets.extend(from.secret_ref.iter().map(|r| r.name.clone()));
    }
    for from in container.env.iter().flatten().filter_map(|e| e.value_from.as_ref()) {
        maps.extend(from.config_map_key_ref.iter().map(|r| r.name.clone()));
        secrets.extend(from.secret_key_ref.iter().map(|r| r.name.clone()));
    }
    (maps, secrets)
}

/// The variables that tell a container of the services of its namespace; that of the API server is always told.
pub fn services<'a>(
    services: impl Iterator<Item = &'a Service>,
    namespace: &str,
    links: bool,
) -> BTreeMap<String, String> {
    let mut vars = BTreeMap::new();
    for service in services {
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let of = service.metadata.namespace.as_deref().unwrap_or_default();
        let api = name == "kubernetes" && of == "default";
        if api || (links && of == namespace) {
            add_service(name, service, &mut vars);
        }
    }
    vars
}

fn add_service(name: &str, service: &Service, vars: &mut BTreeMap<String, String>) {
    let Some(spec) = &service.spec else { return };
    let Some(ip) = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None") else { return };
    let name = name.to_uppercase().replace('-', "_");
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    vars.insert(format!("{name}_SERVICE_HOST"), ip.to_owned());
    for (at, port) in spec.ports.iter().flatten().enumerate() {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let (upper, lower, number) = (protocol.to_uppercase(), protocol.to_lowercase(), port.port);
        let url = format!("{lower}://{host}:{number}");
        if at == 0 {
            vars.insert(format!("{name}_SERVICE_PORT"), number.to_string());
            vars.insert(format!("{name}_PORT"), url.clone());
        }
        if let Some(port_name) = port.name.as_deref().filter(|n| !n.is_empty()) {
            let port_name = port_name.to_uppercase().replace('-', "_");
            vars.insert(format!("{name}_SERVICE_PORT_{port_name}"), number.to_string());
        }
        let prefix = format!("{name}_PORT_{number}_{upper}");
        vars.insert(prefix.clone(), url);
        vars.insert(format!("{prefix}_PROTO"), lower);
        vars.insert(format!("{prefix}_PORT"), number.to_string());
        vars.insert(format!("{prefix}_ADDR"), ip.to_owned());
    }
}

#[cfg(test)]
#[path = "env_tests.rs"]
mod tests;
