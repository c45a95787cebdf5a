//! Objects to the API: server-side apply with the field manager `skiff`, and the API resource of an object.

use std::collections::HashMap;

use anyhow::{Context, Result};
use kube::{
    Api, Client,
    api::{ApiResource, Patch, PatchParams},
    core::{DynamicObject, GroupVersionKind},
    discovery::{self, ApiCapabilities, Scope},
};

use crate::manifest::Manifest;

/// The field manager of every write of the command line.
pub const FIELD_MANAGER: &str = "skiff";

/// Finds the resource of a kind by discovery, once per kind.
pub struct Resources {
    client: Client,
    known: HashMap<GroupVersionKind, (ApiResource, ApiCapabilities)>,
}

impl Resources {
    pub fn new(client: Client) -> Self {
        Self { client, known: HashMap::new() }
    }

    /// # Errors
    /// When the cluster does not serve the kind; the message names it.
    pub async fn of(&mut self, api_version: &str, kind: &str) -> Result<(ApiResource, ApiCapabilities)> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let gvk = GroupVersionKind::gvk(group, version, kind);
        if let Some(found) = self.known.get(&gvk) {
            return Ok(found.clone());
        }
        let found = discovery::pinned_kind(&self.client, &gvk)
            .await
            .with_context(|| format!("the cluster has no kind {kind} in {api_version}"))?;
        self.known.insert(gvk, found.clone());
        Ok(found)
    }

    /// The API of an object: in its namespace, or in `namespace` when it names none.
    pub async fn api(&mut self, object: &DynamicObject, namespace: &str) -> Result<(Api<DynamicObject>, ApiResource)> {
        let types = object.types.clone().unwrap_or_default();
        let (resource, capabilities) = self.of(&types.api_version, &types.kind).await?;
        let api = match capabilities.scope {
            Scope::Cluster => Api::all_with(self.client.clone(), &resource),
            Scope::Namespaced => {
                let namespace = object.metadata.namespace.as_deref().unwrap_or(namespace);
                Api::namespaced_with(self.client.clone(), namespace, &resource)
            }
        };
        Ok((api, resource))
    }
}

/// Applies one object and gives what the cluster made of it. An object with `generateName` is created.
///
/// # Errors
/// What the API answered, with the object and where it was read.
pub async fn apply(resources: &mut Resources, manifest: &Manifest, namespace: &str) -> Result<DynamicObject> {
    let object = &manifest.object;
    let (api, resource) = resources.api(object, namespace).await.with_context(|| manifest.source.clone())?;
    let shown = |name: &str| format!("{}: failed to apply {} {name:?}", manifest.source, resource.kind);
    let Some(name) = object.metadata.name.as_deref() else {
        let name = object.metadata.generate_name.clone().unwrap_or_default();
        return api.create(&Default::default(), object).await.with_context(|| shown(&name));
    };
    let params = PatchParams::apply(FIELD_MANAGER).force();
    api.patch(name, &params, &Patch::Apply(object)).await.with_context(|| shown(name))
}
