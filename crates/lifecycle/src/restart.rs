//! Whether a container that ended is started again: container rules, container policy, pod policy, in that order.

use k8s_openapi::api::core::v1::{Container, PodSpec};

/// A native sidecar: an init container with restartPolicy Always.
pub fn is_sidecar(init: &Container) -> bool {
    init.restart_policy.as_deref() == Some("Always")
}

/// The policy that counts for a container; the API's default is Always.
pub fn policy<'a>(container: &'a Container, spec: &'a PodSpec) -> &'a str {
    container.restart_policy.as_deref().or(spec.restart_policy.as_deref()).unwrap_or("Always")
}

/// Whether `container` should run again after ending with `code`. An init container that succeeded never does,
/// unless it is a sidecar.
pub fn should_restart(container: &Container, spec: &PodSpec, code: i32, init: bool) -> bool {
    if init && !is_sidecar(container) && code == 0 {
        return false;
    }
    if matches_rule(container, code) {
        return true;
    }
    match policy(container, spec) {
        "Never" => false,
        "OnFailure" => code != 0,
        // For an init container, Always means until it succeeds.
        _ => true,
    }
}

fn matches_rule(container: &Container, code: i32) -> bool {
    let rules = container.restart_policy_rules.iter().flatten();
    rules.filter(|r| r.action == "Restart").filter_map(|r| r.exit_codes.as_ref()).any(|on| {
        let listed = on.values.iter().flatten().any(|v| *v == code);
        match on.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        }
    })
}
