//! The events that follow from how a pod's status changed, in the kubelet's words.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};
use skiff_reconcile::EventType;

/// `(container, type, reason, message)`
pub type Said = (String, EventType, &'static str, String);

/// What there is to say about the way from `before` to `after`: a container began to wait for its back-off.
pub fn of_change(pod: &Pod, before: &PodStatus, after: &PodStatus) -> Vec<Said> {
    let all = |s: &PodStatus| -> Vec<ContainerStatus> {
        s.init_container_statuses.iter().flatten().chain(s.container_statuses.iter().flatten()).cloned().collect()
    };
    let old = all(before);
    let mut said = vec![];
    for status in all(after) {
        let was = old.iter().find(|s| s.name == status.name);
        if let Some((reason, message)) = waiting(&status)
            && was.and_then(waiting) != Some((reason, message))
        {
            back_off(pod, &status, reason, &mut said);
        }
    }
    said
}

fn back_off(pod: &Pod, status: &ContainerStatus, reason: &str, said: &mut Vec<Said>) {
    let name = &status.name;
    match reason {
        "CrashLoopBackOff" => {
            let message =
                format!("Back-off restarting failed container {name} in pod {}", skiff_lifecycle::pod_name(pod));
            said.push((name.clone(), EventType::Warning, "BackOff", message));
        }
        "ImagePullBackOff" => {
            let message = format!("Back-off pulling image \"{}\"", status.image);
            said.push((name.clone(), EventType::Normal, "BackOff", message));
            said.push((name.clone(), EventType::Warning, "Failed", "Error: ImagePullBackOff".to_owned()));
        }
        _ => {}
    }
}

fn waiting(status: &ContainerStatus) -> Option<(&str, &str)> {
    let waiting = status.state.as_ref()?.waiting.as_ref()?;
    Some((waiting.reason.as_deref()?, waiting.message.as_deref().unwrap_or_default()))
}
