//! THE table: one entry per built-in resource kind. Routes, discovery, OpenAPI, `kubectl get` tables and the free
//! per-kind tests all fan out from it.

use std::borrow::Cow;

use crate::Hooks;

/// A resource kind, built in (from the table) or, later, from a CustomResourceDefinition: hence the `Cow`s.
#[derive(Clone)]
pub struct Kind {
    /// Empty for the core group.
    pub group: Cow<'static, str>,
    pub version: Cow<'static, str>,
    pub kind: Cow<'static, str>,
    pub plural: Cow<'static, str>,
    pub singular: Cow<'static, str>,
    pub namespaced: bool,
    pub short_names: Cow<'static, [&'static str]>,
    pub categories: Cow<'static, [&'static str]>,
    pub verbs: Verbs,
    pub subresources: Cow<'static, [Subresource]>,
    /// The name of its schema: `io.k8s.api.core.v1.Pod`.
    pub schema_name: Cow<'static, str>,
    /// Group and plural under which objects are stored; differs from the kind's own where two groups share one
    /// resource (`events`).
    pub storage: (Cow<'static, str>, Cow<'static, str>),
    /// The version in which objects are stored; [`Hooks::convert`] goes between it and the others.
    pub storage_version: (Cow<'static, str>, Cow<'static, str>),
    pub hooks: &'static Hooks,
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.api_version(), self.kind)
    }
}

impl Kind {
    /// `v1`, `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_string() } else { format!("{}/{}", self.group, self.version) }
    }
    /// `PodList`.
    pub fn list_kind(&self) -> String {
        format!("{}List", self.kind)
    }
    pub fn subresource(&self, name: &str) -> Option<Subresource> {
        self.subresources.iter().copied().find(|s| s.name() == name)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbs {
    /// create, delete, deletecollection, get, list, patch, update, watch.
    All,
    /// The reviews and requests that are answered and never stored.
    CreateOnly,
    /// `componentstatuses`.
    ReadOnly,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subresource {
    Status,
    Scale,
    Binding,
    Eviction,
    EphemeralContainers,
    Resize,
    Log,
    Exec,
    Attach,
    PortForward,
    Proxy,
    Token,
    Finalize,
    Approval,
}

impl Subresource {
    pub fn name(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Scale => "scale",
            Self::Binding => "binding",
            Self::Eviction => "eviction",
            Self::EphemeralContainers => "ephemeralcontainers",
            Self::Resize => "resize",
            Self::Log => "log",
            Self::Exec => "exec",
            Self::Attach => "attach",
            Self::PortForward => "portforward",
            Self::Proxy => "proxy",
            Self::Token => "token",
            Self::Finalize => "finalize",
            Self::Approval => "approval",
        }
    }
}

/// Every built-in kind, in discovery order.
pub fn builtin() -> &'static [Kind] {
    &[]
}

pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    builtin().iter().find(|k| k.plural == plural && k.group == group && k.version == version)
}

pub fn find_kind(group: &str, version: &str, kind: &str) -> Option<&'static Kind> {
    builtin().iter().find(|k| k.kind == kind && k.group == group && k.version == version)
}
