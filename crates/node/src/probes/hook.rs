//! httpGet of a lifecycle hook: it succeeds when the server answers, whatever it answers.

use k8s_openapi::api::core::v1::{Container, HTTPGetAction};

use super::{check, http};
use crate::{execute::PodContext, hooks::FOR_EVER};

pub async fn hook(ctx: &PodContext, container: &Container, id: &str, get: &HTTPGetAction) -> Result<(), String> {
    let ip = ctx.sandbox_ip(ctx.runtime_of(id));
    let target = check::target(ctx, container, id, ip, get.host.as_deref(), &get.port)?;
    // Whoever runs the hook gives it its time.
    http::ask(target, get, "kube-lifecycle/1.37", FOR_EVER).await.map(drop)
}
