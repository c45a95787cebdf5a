//! Who may do what. The rule for now: administrators and the cluster's own components may do everything, everybody
//! may ask for health and version and about themselves, nobody else may do anything.

use http::Method;
use skiff_api::Status;

use crate::{
    authn::{AUTHENTICATED, UserInfo},
    http::route::{Route, Target, Verb},
};

const COMPONENTS: &[&str] =
    &["system:apiserver", "system:kube-controller-manager", "system:kube-scheduler", "system:kube-proxy"];

/// Kinds by which a user asks about itself.
const SELF_REVIEWS: &[(&str, &str)] = &[
    ("authentication.k8s.io", "selfsubjectreviews"),
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
];

/// Whether the user may do everything.
pub(crate) fn is_privileged(user: &UserInfo) -> bool {
    user.is_in("system:masters")
        || user.is_in("system:nodes")
        || COMPONENTS.contains(&user.name.as_str())
        || user.name.starts_with("system:node:")
}

pub(crate) fn authorize(user: &UserInfo, verb: Verb, target: &Target) -> Result<(), Status> {
    let of_self = SELF_REVIEWS.iter().any(|(group, plural)| target.resource.is(group, plural));
    if is_privileged(user) || (of_self && user.is_in(AUTHENTICATED)) {
        return Ok(());
    }
    let kind = &target.resource.kind;
    let what = match target.subresource {
        Some(sub) => format!("{}/{}", kind.plural, sub.name()),
        None => kind.plural.to_string(),
    };
    let scope = match &target.namespace {
        Some(namespace) => format!("in the namespace {namespace:?}"),
        None => "at the cluster scope".to_owned(),
    };
    let why = format!(
        "User {:?} cannot {} resource {what:?} in API group {:?} {scope}",
        user.name,
        verb.as_str(),
        kind.group
    );
    Err(Status::forbidden(kind, target.name(), &why))
}

/// For paths that are not resources.
pub(crate) fn authorize_path(user: &UserInfo, method: &Method, path: &str, route: &Route) -> Result<(), Status> {
    let public = matches!(route, Route::Health { .. } | Route::Version);
    let discovery = matches!(
        route,
        Route::Roots { .. }
            | Route::Group { .. }
            | Route::Resources { .. }
            | Route::OpenApiV2
            | Route::OpenApiV3 { .. }
            | Route::Paths
    );
    if public || is_privileged(user) || (discovery && user.is_in(AUTHENTICATED)) {
        return Ok(());
    }
    let verb = method.as_str().to_ascii_lowercase();
    let message = format!("forbidden: User {:?} cannot {verb} path {path:?}", user.name);
    Err(Status { details: serde_json::json!({}), ..Status::new(403, "Forbidden", message) })
}
