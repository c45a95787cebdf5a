//! What a container is made of: the pod's words with everything that they name filled in.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Service};
use skiff_api::quantity::Quantity;
use skiff_reconcile::ViewExt;
use skiff_runtime::{ContainerConfig, Resources, Sandbox, annotations::declared_environment_only};

use super::PodContext;
use crate::{
    env::{self, EnvInput},
    expand::expand,
    fields::NodeFacts,
    images::Found,
    sources::Sources,
    volumes,
};

impl PodContext {
    pub(super) async fn container_config(
        &self,
        pod: &Arc<Pod>,
        spec: &Container,
        attempt: u32,
        found: &Found,
        sandbox: &Sandbox,
    ) -> Result<ContainerConfig, String> {
        let pod_spec = pod.spec.as_ref().ok_or("the pod has no spec")?;
        let namespace = self.handle.key.namespace.as_str();
        let (mut maps, mut secrets) = env::references(spec);
        let (more_maps, more_secrets) = volumes::named(pod);
        maps.extend(more_maps.iter().cloned());
        secrets.extend(more_secrets.iter().cloned());
        let sources = Sources::fetch(&self.agent.rest, namespace, maps, secrets).await;
        let facts = NodeFacts {
            host_ips: vec![self.agent.config.host_ip.clone()],
            pod_ips: self.pod_ips(pod_spec, sandbox),
            allocatable: self.agent.capacity.clone(),
        };
        let links = pod_spec.enable_service_links != Some(false);
        let services = self.agent.shared.list::<Service>(if links { None } else { Some("default") });
        let services = if declared_environment_only(pod.metadata.annotations.as_ref()) {
            BTreeMap::new()
        } else {
            env::services(services.iter().map(AsRef::as_ref), namespace, links)
        };
        let input = EnvInput { pod, container: spec, sources: &sources, facts: &facts, services: &services };
        let env = env::build(&input)?;
        let known: HashMap<&str, &str> = env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let expanded = |list: &Option<Vec<String>>| -> Vec<String> {
            list.iter().flatten().map(|text| expand(text, |name| known.get(name).copied())).collect()
        };
        let by_name = volumes::share(&self.agent, &self.handle, sources.by_name(&more_maps, &more_secrets)?);
        let mounts = volumes::mounts(&self.agent.dirs, &self.handle.uid, pod_spec, spec, &known)?;
        let tcp = |p: &&k8s_openapi::api::core::v1::ContainerPort| p.protocol.as_deref().is_none_or(|p| p == "TCP");
        let ports = spec.ports.iter().flatten().filter(tcp).filter_map(|p| u16::try_from(p.container_port).ok());
        Ok(ContainerConfig {
            name: spec.name.clone(),
            attempt,
            image: spec.image.clone().unwrap_or_default(),
            image_id: found.image.id.clone(),
            command: expanded(&spec.command),
            args: expanded(&spec.args),
            working_dir: spec.working_dir.clone().filter(|d| !d.is_empty()),
            ports: ports.collect(),
            mounts,
            resources: resources(spec),
            stdin: spec.stdin == Some(true),
            stdin_once: spec.stdin_once == Some(true),
            tty: spec.tty == Some(true),
            labels: self.labels(spec),
            annotations: pod.metadata.annotations.clone().unwrap_or_default(),
            sources: by_name,
            log_path: self.log_path(&spec.name, attempt),
            termination_message_path: Some(
                spec.termination_message_path.clone().unwrap_or_else(|| "/dev/termination-log".to_owned()),
            ),
            log_bytes_max: None,
            log_files_max: None,
            env,
        })
    }

    fn pod_ips(&self, spec: &PodSpec, sandbox: &Sandbox) -> Vec<String> {
        if spec.host_network == Some(true) {
            return vec![self.agent.config.host_ip.clone()];
        }
        sandbox.ips.iter().map(ToString::to_string).collect()
    }

    fn labels(&self, spec: &Container) -> BTreeMap<String, String> {
        let key = &self.handle.key;
        [
            ("io.kubernetes.container.name", spec.name.clone()),
            ("io.kubernetes.pod.name", key.name.clone()),
            ("io.kubernetes.pod.namespace", key.namespace.clone()),
            ("io.kubernetes.pod.uid", self.handle.uid.to_string()),
        ]
        .map(|(k, v)| (k.to_owned(), v))
        .into()
    }
}

pub(super) fn resources(spec: &Container) -> Resources {
    let set = spec.resources.as_ref();
    let limit = |name: &str| set.and_then(|r| r.limits.as_ref()).and_then(|m| m.get(name)).and_then(parsed);
    let request = |name: &str| set.and_then(|r| r.requests.as_ref()).and_then(|m| m.get(name)).and_then(parsed);
    let bytes = |q: Quantity| u64::try_from(q.value()).ok();
    let millis = |q: Quantity| u64::try_from(q.milli_value()).ok();
    Resources {
        memory_bytes_max: limit("memory").and_then(bytes),
        cpu_millis_max: limit("cpu").and_then(millis),
        cpu_millis_request: request("cpu").and_then(millis),
        ephemeral_bytes_max: limit("ephemeral-storage").and_then(bytes),
    }
}

fn parsed(quantity: &k8s_openapi::apimachinery::pkg::api::resource::Quantity) -> Option<Quantity> {
    Quantity::parse(&quantity.0).ok()
}
