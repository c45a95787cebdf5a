//! THE table: one entry per built-in resource kind. Routes, discovery, OpenAPI, `kubectl get` tables and the free
//! per-kind tests all fan out from it.
//!
//! Served is what a default kube-apiserver of this version serves: every stable version, no alpha and no beta.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use k8s_openapi::Resource as _;
use k8s_openapi::api::{
    admissionregistration, apps, authentication, authorization, autoscaling, batch, certificates, coordination, core,
    discovery, events, flowcontrol, networking, node, policy, rbac, resource, scheduling, storage, storagemigration,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration;

use crate::Hooks;
use crate::schema::{Lazy, Schema};

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
    pub short_names: Vec<Cow<'static, str>>,
    pub categories: Vec<Cow<'static, str>>,
    pub verbs: Verbs,
    pub subresources: Cow<'static, [Subresource]>,
    /// The name of its schema: `io.k8s.api.core.v1.Pod`.
    pub schema_name: Cow<'static, str>,
    pub schema: SchemaSource,
    /// Group and plural under which objects are stored; differs from the kind's own where two groups share one
    /// resource (`events`).
    pub storage: (Cow<'static, str>, Cow<'static, str>),
    /// The version in which objects are stored; [`Hooks::convert`] goes between it and the others.
    pub storage_version: (Cow<'static, str>, Cow<'static, str>),
    pub hooks: &'static Hooks,
}

/// Where a kind's schema comes from.
#[derive(Clone)]
pub enum SchemaSource {
    /// Built when it is first asked for, then kept for the life of the process.
    BuiltIn(&'static Lazy),
    /// The schema of a CustomResourceDefinition's version: as a model ([`Schema::from_crd`]), and as it was written,
    /// with descriptions and constraints.
    Custom { schema: Arc<Schema>, raw: Arc<serde_json::Value> },
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
    pub fn schema(&self) -> &Schema {
        match &self.schema {
            SchemaSource::BuiltIn(lazy) => lazy.get(),
            SchemaSource::Custom { schema, .. } => schema,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbs {
    /// create, delete, deletecollection, get, list, patch, update, watch.
    All,
    /// `namespaces`: all of them but deletecollection.
    NoDeleteCollection,
    /// The reviews and requests that are answered and never stored.
    CreateOnly,
    /// `componentstatuses`.
    ReadOnly,
}

impl Verbs {
    /// As discovery lists them.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Self::All => &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
            Self::NoDeleteCollection => &["create", "delete", "get", "list", "patch", "update", "watch"],
            Self::CreateOnly => &["create"],
            Self::ReadOnly => &["get", "list"],
        }
    }
    pub fn allows(self, verb: &str) -> bool {
        self.names().contains(&verb)
    }
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
    /// As discovery lists them.
    pub fn verbs(self) -> &'static [&'static str] {
        match self {
            Self::Status | Self::Scale | Self::EphemeralContainers | Self::Resize | Self::Approval => {
                &["get", "patch", "update"]
            }
            Self::Binding | Self::Eviction | Self::Token => &["create"],
            Self::Log => &["get"],
            Self::Exec | Self::Attach | Self::PortForward => &["create", "get"],
            Self::Proxy => &["create", "delete", "get", "patch", "update"],
            Self::Finalize => &["update"],
        }
    }
    /// Group, version and kind of what is sent and answered; `None`: the kind that it belongs to.
    pub fn body(self, of: &Kind) -> Option<(&'static str, &'static str, Cow<'static, str>)> {
        Some(match self {
            Self::Scale => ("autoscaling", "v1", "Scale".into()),
            Self::Eviction => ("policy", "v1", "Eviction".into()),
            Self::Token => ("authentication.k8s.io", "v1", "TokenRequest".into()),
            Self::Binding => ("", "v1", "Binding".into()),
            Self::Exec => ("", "v1", "PodExecOptions".into()),
            Self::Attach => ("", "v1", "PodAttachOptions".into()),
            Self::PortForward => ("", "v1", "PodPortForwardOptions".into()),
            Self::Proxy => ("", "v1", format!("{}ProxyOptions", of.kind).into()),
            Self::Status | Self::EphemeralContainers | Self::Resize | Self::Log | Self::Finalize | Self::Approval => {
                return None;
            }
        })
    }
}

use Subresource::*;
use Verbs::{All, CreateOnly, NoDeleteCollection, ReadOnly};

const GENERIC: &Hooks = &Hooks::GENERIC;
const NAMESPACED: bool = true;
const CLUSTER: bool = false;

/// Group, version, kind, plural and schema come from the Rust type; the rest is the row.
macro_rules! table {
    ($($ty:path, $scope:expr, $short:expr, $categories:expr, $verbs:expr, $subresources:expr, $hooks:expr;)*) => {
        vec![$({
            static SCHEMA: Lazy = Lazy::new(|generator| generator.subschema_for::<$ty>());
            row(
                (<$ty>::GROUP, <$ty>::VERSION, <$ty>::KIND, <$ty>::URL_PATH_SEGMENT, $scope),
                (<$ty as schemars::JsonSchema>::schema_name(), &SCHEMA),
                (&$short, &$categories, $verbs, &$subresources),
                $hooks,
            )
        }),*]
    };
}

type Identity = (&'static str, &'static str, &'static str, &'static str, bool);
type Offer = (&'static [&'static str], &'static [&'static str], Verbs, &'static [Subresource]);

fn row(
    (group, version, kind, plural, namespaced): Identity,
    (schema_name, lazy): (Cow<'static, str>, &'static Lazy),
    (short_names, categories, verbs, subresources): Offer,
    hooks: &'static Hooks,
) -> Kind {
    // Two pairs of resources share their objects, as upstream's etcd keys do.
    let (stored_group, stored_version) = match (group, plural) {
        ("events.k8s.io", "events") => ("", "v1"),
        ("autoscaling", "horizontalpodautoscalers") => ("autoscaling", "v2"),
        _ => (group, version),
    };
    Kind {
        group: group.into(),
        version: version.into(),
        kind: kind.into(),
        plural: plural.into(),
        singular: kind.to_ascii_lowercase().into(),
        namespaced,
        short_names: short_names.iter().map(|s| Cow::Borrowed(*s)).collect(),
        categories: categories.iter().map(|s| Cow::Borrowed(*s)).collect(),
        verbs,
        subresources: subresources.into(),
        schema_name,
        schema: SchemaSource::BuiltIn(lazy),
        storage: (stored_group.into(), plural.into()),
        storage_version: (stored_group.into(), stored_version.into()),
        hooks,
    }
}

#[rustfmt::skip]
static TABLE: LazyLock<Vec<Kind>> = LazyLock::new(|| table! {
    core::v1::Binding, NAMESPACED, [], [], CreateOnly, [], GENERIC;
    core::v1::ComponentStatus, CLUSTER, ["cs"], [], ReadOnly, [], &crate::core::v1::component_status::HOOKS;
    core::v1::ConfigMap, NAMESPACED, ["cm"], [], All, [], &crate::core::v1::config_map::HOOKS;
    core::v1::Endpoints, NAMESPACED, ["ep"], [], All, [], &crate::core::v1::endpoints::HOOKS;
    core::v1::Event, NAMESPACED, ["ev"], [], All, [], &crate::core::v1::event::HOOKS;
    core::v1::LimitRange, NAMESPACED, ["limits"], [], All, [], &crate::core::v1::limit_range::HOOKS;
    core::v1::Namespace, CLUSTER, ["ns"], [], NoDeleteCollection, [Finalize, Status], &crate::core::v1::namespace::HOOKS;
    core::v1::Node, CLUSTER, ["no"], [], All, [Proxy, Status], &crate::core::v1::node::HOOKS;
    core::v1::PersistentVolumeClaim, NAMESPACED, ["pvc"], [], All, [Status], &crate::core::v1::persistent_volume_claim::HOOKS;
    core::v1::PersistentVolume, CLUSTER, ["pv"], [], All, [Status], &crate::core::v1::persistent_volume::HOOKS;
    core::v1::Pod, NAMESPACED, ["po"], ["all"], All, [Attach, Binding, EphemeralContainers, Eviction, Exec, Log, PortForward, Proxy, Resize, Status], &crate::core::v1::pod::HOOKS;
    core::v1::PodTemplate, NAMESPACED, [], [], All, [], &crate::core::v1::pod_template::HOOKS;
    core::v1::ReplicationController, NAMESPACED, ["rc"], ["all"], All, [Scale, Status], &crate::core::v1::replication_controller::HOOKS;
    core::v1::ResourceQuota, NAMESPACED, ["quota"], [], All, [Status], &crate::core::v1::resource_quota::HOOKS;
    core::v1::Secret, NAMESPACED, [], [], All, [], &crate::core::v1::secret::HOOKS;
    core::v1::ServiceAccount, NAMESPACED, ["sa"], [], All, [Token], &crate::core::v1::service_account::HOOKS;
    core::v1::Service, NAMESPACED, ["svc"], ["all"], All, [Proxy, Status], &crate::core::v1::service::HOOKS;
    apiregistration::v1::APIService, CLUSTER, [], ["api-extensions"], All, [Status], &crate::apiregistration::v1::api_service::HOOKS;
    apps::v1::ControllerRevision, NAMESPACED, [], [], All, [], &crate::apps::v1::controller_revision::HOOKS;
    apps::v1::DaemonSet, NAMESPACED, ["ds"], ["all"], All, [Status], &crate::apps::v1::daemon_set::HOOKS;
    apps::v1::Deployment, NAMESPACED, ["deploy"], ["all"], All, [Scale, Status], &crate::apps::v1::deployment::HOOKS;
    apps::v1::ReplicaSet, NAMESPACED, ["rs"], ["all"], All, [Scale, Status], &crate::apps::v1::replica_set::HOOKS;
    apps::v1::StatefulSet, NAMESPACED, ["sts"], ["all"], All, [Scale, Status], &crate::apps::v1::stateful_set::HOOKS;
    events::v1::Event, NAMESPACED, ["ev"], [], All, [], &crate::events::v1::event::HOOKS;
    authentication::v1::SelfSubjectReview, CLUSTER, [], [], CreateOnly, [], GENERIC;
    authentication::v1::TokenReview, CLUSTER, [], [], CreateOnly, [], GENERIC;
    authorization::v1::LocalSubjectAccessReview, NAMESPACED, [], [], CreateOnly, [], GENERIC;
    authorization::v1::SelfSubjectAccessReview, CLUSTER, [], [], CreateOnly, [], GENERIC;
    authorization::v1::SelfSubjectRulesReview, CLUSTER, [], [], CreateOnly, [], GENERIC;
    authorization::v1::SubjectAccessReview, CLUSTER, [], [], CreateOnly, [], GENERIC;
    autoscaling::v2::HorizontalPodAutoscaler, NAMESPACED, ["hpa"], ["all"], All, [Status], &crate::autoscaling::v2::horizontal_pod_autoscaler::HOOKS;
    autoscaling::v1::HorizontalPodAutoscaler, NAMESPACED, ["hpa"], ["all"], All, [Status], &crate::autoscaling::v1::horizontal_pod_autoscaler::HOOKS;
    batch::v1::CronJob, NAMESPACED, ["cj"], ["all"], All, [Status], &crate::batch::v1::cron_job::HOOKS;
    batch::v1::Job, NAMESPACED, [], ["all"], All, [Status], &crate::batch::v1::job::HOOKS;
    certificates::v1::CertificateSigningRequest, CLUSTER, ["csr"], [], All, [Approval, Status], &crate::certificates::v1::certificate_signing_request::HOOKS;
    certificates::v1::ClusterTrustBundle, CLUSTER, [], [], All, [], &crate::certificates::v1::cluster_trust_bundle::HOOKS;
    certificates::v1::PodCertificateRequest, NAMESPACED, [], [], All, [Status], &crate::certificates::v1::pod_certificate_request::HOOKS;
    networking::v1::IngressClass, CLUSTER, [], [], All, [], &crate::networking::v1::ingress_class::HOOKS;
    networking::v1::Ingress, NAMESPACED, ["ing"], [], All, [Status], &crate::networking::v1::ingress::HOOKS;
    networking::v1::IPAddress, CLUSTER, ["ip"], [], All, [], &crate::networking::v1::ip_address::HOOKS;
    networking::v1::NetworkPolicy, NAMESPACED, ["netpol"], [], All, [], &crate::networking::v1::network_policy::HOOKS;
    networking::v1::ServiceCIDR, CLUSTER, [], [], All, [Status], &crate::networking::v1::service_cidr::HOOKS;
    policy::v1::PodDisruptionBudget, NAMESPACED, ["pdb"], [], All, [Status], &crate::policy::v1::pod_disruption_budget::HOOKS;
    rbac::v1::ClusterRoleBinding, CLUSTER, [], [], All, [], &crate::rbac::v1::cluster_role_binding::HOOKS;
    rbac::v1::ClusterRole, CLUSTER, [], [], All, [], &crate::rbac::v1::cluster_role::HOOKS;
    rbac::v1::RoleBinding, NAMESPACED, [], [], All, [], &crate::rbac::v1::role_binding::HOOKS;
    rbac::v1::Role, NAMESPACED, [], [], All, [], &crate::rbac::v1::role::HOOKS;
    storage::v1::CSIDriver, CLUSTER, [], [], All, [], &crate::storage::v1::csi_driver::HOOKS;
    storage::v1::CSINode, CLUSTER, [], [], All, [Status], &crate::storage::v1::csi_node::HOOKS;
    storage::v1::CSIStorageCapacity, NAMESPACED, [], [], All, [], &crate::storage::v1::csi_storage_capacity::HOOKS;
    storage::v1::StorageClass, CLUSTER, ["sc"], [], All, [], &crate::storage::v1::storage_class::HOOKS;
    storage::v1::VolumeAttachment, CLUSTER, [], [], All, [Status], &crate::storage::v1::volume_attachment::HOOKS;
    storage::v1::VolumeAttributesClass, CLUSTER, ["vac"], [], All, [], &crate::storage::v1::volume_attributes_class::HOOKS;
    admissionregistration::v1::MutatingAdmissionPolicy, CLUSTER, [], ["api-extensions"], All, [], &crate::admissionregistration::v1::mutating_admission_policy::HOOKS;
    admissionregistration::v1::MutatingAdmissionPolicyBinding, CLUSTER, [], ["api-extensions"], All, [], &crate::admissionregistration::v1::mutating_admission_policy_binding::HOOKS;
    admissionregistration::v1::MutatingWebhookConfiguration, CLUSTER, [], ["api-extensions"], All, [], &crate::admissionregistration::v1::mutating_webhook_configuration::HOOKS;
    admissionregistration::v1::ValidatingAdmissionPolicy, CLUSTER, [], ["api-extensions"], All, [Status], &crate::admissionregistration::v1::validating_admission_policy::HOOKS;
    admissionregistration::v1::ValidatingAdmissionPolicyBinding, CLUSTER, [], ["api-extensions"], All, [], &crate::admissionregistration::v1::validating_admission_policy_binding::HOOKS;
    admissionregistration::v1::ValidatingWebhookConfiguration, CLUSTER, [], ["api-extensions"], All, [], &crate::admissionregistration::v1::validating_webhook_configuration::HOOKS;
    apiextensions::v1::CustomResourceDefinition, CLUSTER, ["crd", "crds"], ["api-extensions"], All, [Status], &crate::apiextensions::v1::custom_resource_definition::HOOKS;
    scheduling::v1::PriorityClass, CLUSTER, ["pc"], [], All, [], &crate::scheduling::v1::priority_class::HOOKS;
    coordination::v1::Lease, NAMESPACED, [], [], All, [], &crate::coordination::v1::lease::HOOKS;
    node::v1::RuntimeClass, CLUSTER, [], [], All, [], &crate::node::v1::runtime_class::HOOKS;
    discovery::v1::EndpointSlice, NAMESPACED, [], [], All, [], &crate::discovery_k8s::v1::endpoint_slice::HOOKS;
    resource::v1::DeviceClass, CLUSTER, [], [], All, [], GENERIC;
    resource::v1::DeviceTaintRule, CLUSTER, [], [], All, [Status], &crate::resource::v1::device_taint_rule::HOOKS;
    resource::v1::ResourceClaim, NAMESPACED, [], [], All, [Status], &crate::resource::v1::resource_claim::HOOKS;
    resource::v1::ResourceClaimTemplate, NAMESPACED, [], [], All, [], GENERIC;
    resource::v1::ResourceSlice, CLUSTER, [], [], All, [], &crate::resource::v1::resource_slice::HOOKS;
    flowcontrol::v1::FlowSchema, CLUSTER, [], [], All, [Status], &crate::flowcontrol::v1::flow_schema::HOOKS;
    flowcontrol::v1::PriorityLevelConfiguration, CLUSTER, [], [], All, [Status], &crate::flowcontrol::v1::priority_level_configuration::HOOKS;
    storagemigration::v1::StorageVersionMigration, CLUSTER, [], [], All, [Status], &crate::storagemigration::v1::storage_version_migration::HOOKS;
});

/// Every built-in kind, in discovery order: groups by priority, the preferred version of a group first.
pub fn builtin() -> &'static [Kind] {
    &TABLE
}

pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    builtin().iter().find(|k| k.plural == plural && k.group == group && k.version == version)
}

pub fn find_kind(group: &str, version: &str, kind: &str) -> Option<&'static Kind> {
    builtin().iter().find(|k| k.kind == kind && k.group == group && k.version == version)
}

/// The kind in which the objects of `kind` are stored: itself, or the one that it shares them with.
pub fn stored_as(kind: &Kind) -> &Kind {
    let (group, version) = &kind.storage_version;
    if *group == kind.group && *version == kind.version {
        return kind;
    }
    find(group, version, &kind.storage.1).unwrap_or(kind)
}

#[cfg(test)]
mod tests;
