//! The pod's status: what the API is told.

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{HostIP, Pod, PodIP, PodSpec, PodStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};

use crate::{
    conditions, containers,
    observed::{PodObserved, SandboxState},
    phase, seconds,
    terminate::{self, Ending},
};

pub(crate) fn of(
    pod: &Pod,
    spec: &PodSpec,
    observed: &PodObserved,
    ending: Option<Ending>,
    now: Timestamp,
) -> PodStatus {
    let last = observed.status.as_deref().or(pod.status.as_ref());
    // What others own (qosClass, nominatedNodeName, resource claims, their conditions) comes from the API's object.
    let mut status = pod.status.clone().unwrap_or_default();
    status.observed_generation = pod.metadata.generation.or(status.observed_generation);
    let start = last.and_then(|s| s.start_time.as_ref()).map_or(now, |t| t.0);
    status.start_time = Some(Time(seconds(start)));
    let ctx = containers::Context { pod, spec, observed, ending, now };
    status.init_container_statuses = ctx.init();
    status.container_statuses = Some(ctx.mains());
    let phase = phase::of(spec, observed, &status, ending.is_some() && !terminate::alive(observed));
    set_phase(pod, observed, ending, phase, &mut status);
    addresses(spec, observed, last, &mut status);
    status.conditions = Some(conditions::of(pod, spec, observed, last, &status, now));
    status
}

/// The phase with its reason and message; a terminal one stays as it is.
fn set_phase(pod: &Pod, observed: &PodObserved, ending: Option<Ending>, phase: &'static str, status: &mut PodStatus) {
    let (told, _) = terminate::last_phase(pod, observed);
    if matches!(told, "Failed" | "Succeeded") {
        if let Some(own) = observed.status.as_deref().filter(|s| s.phase.as_deref() == Some(told)) {
            status.reason.clone_from(&own.reason);
            status.message.clone_from(&own.message);
        }
        status.phase = Some(told.to_owned());
        return;
    }
    let evicted = terminate::eviction(observed).filter(|_| ending == Some(Ending::Evicted));
    let over = ending == Some(Ending::DeadlineExceeded) || evicted.is_some();
    let over = over && !terminate::alive(observed);
    status.phase = Some(if over { "Failed" } else { phase }.to_owned());
    if let Some(message) = evicted.filter(|_| over) {
        status.reason = Some(terminate::EVICTED.to_owned());
        status.message = Some(message.to_owned());
    } else if over {
        status.reason = Some("DeadlineExceeded".to_owned());
        status.message = Some("Pod was active on the node longer than the specified deadline".to_owned());
    } else if pod.status.as_ref().and_then(|s| s.phase.as_deref()) != status.phase.as_deref() {
        status.reason = None;
        status.message = None;
    }
}

fn addresses(spec: &PodSpec, observed: &PodObserved, last: Option<&PodStatus>, status: &mut PodStatus) {
    if !observed.host_ips.is_empty() {
        status.host_ip = observed.host_ips.first().cloned();
        status.host_ips = Some(observed.host_ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect());
    }
    let host_network = spec.host_network == Some(true);
    let ips = match &observed.sandbox {
        _ if host_network => observed.host_ips.clone(),
        SandboxState::Ready { ips, .. } => ips.clone(),
        // A pod that ended keeps the address that it had.
        _ => last.and_then(|s| s.pod_ips.as_ref()).into_iter().flatten().map(|p| p.ip.clone()).collect(),
    };
    status.pod_ip = ips.first().cloned();
    status.pod_ips = (!ips.is_empty()).then(|| ips.into_iter().map(|ip| PodIP { ip }).collect());
}
