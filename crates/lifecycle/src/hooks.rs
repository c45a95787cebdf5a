//! postStart and preStop: what a container's hooks ask for, and how they share its grace period.
//!
//! As documented for Kubernetes: a container counts as running only after its postStart, and is killed if that fails; its
//! preStop runs before it is asked to end, within the grace period, of which [`GRACE_S_MIN`] are left to it in any case.

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, LifecycleHandler};

/// A container always has that long to end by itself, even if its preStop used its grace period up.
pub const GRACE_S_MIN: u64 = 2;

#[derive(Clone, Debug, PartialEq)]
pub enum Hook {
    Exec(Vec<String>),
    HttpGet(HTTPGetAction),
    Sleep {
        seconds: u64,
    },
    /// Nothing that can be done: it fails. (tcpSocket is kept in the API and was never supported.)
    Unsupported,
}

pub fn post_start(container: &Container) -> Option<Hook> {
    container.lifecycle.as_ref()?.post_start.as_ref().map(hook)
}

/// A container without any grace is killed without its hook.
pub fn pre_stop(container: &Container, grace_s: u64) -> Option<Hook> {
    let handler = container.lifecycle.as_ref()?.pre_stop.as_ref();
    handler.filter(|_| grace_s > 0).map(hook)
}

/// What is left of the grace period after a preStop that took so long.
pub fn grace_after(grace_s: u64, used_s: u64) -> u64 {
    grace_s.saturating_sub(used_s).max(GRACE_S_MIN)
}

fn hook(handler: &LifecycleHandler) -> Hook {
    match handler {
        LifecycleHandler { exec: Some(exec), .. } => Hook::Exec(exec.command.clone().unwrap_or_default()),
        LifecycleHandler { http_get: Some(get), .. } => Hook::HttpGet(get.clone()),
        LifecycleHandler { sleep: Some(sleep), .. } => {
            Hook::Sleep { seconds: u64::try_from(sleep.seconds).unwrap_or(0) }
        }
        LifecycleHandler { .. } => Hook::Unsupported,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{ExecAction, Lifecycle, SleepAction, TCPSocketAction};

    use super::*;

    fn container(handler: LifecycleHandler) -> Container {
        let lifecycle = Lifecycle { post_start: Some(handler.clone()), pre_stop: Some(handler), stop_signal: None };
        Container { lifecycle: Some(lifecycle), ..Container::default() }
    }

    #[test]
    fn each_handler_is_a_hook() {
        let exec = ExecAction { command: Some(vec!["@cat".to_owned()]) };
        for (handler, expected) in [
            (LifecycleHandler { exec: Some(exec), ..LifecycleHandler::default() }, Hook::Exec(vec!["@cat".to_owned()])),
            (
                LifecycleHandler { sleep: Some(SleepAction { seconds: 3 }), ..LifecycleHandler::default() },
                Hook::Sleep { seconds: 3 },
            ),
            (
                LifecycleHandler { http_get: Some(HTTPGetAction::default()), ..LifecycleHandler::default() },
                Hook::HttpGet(HTTPGetAction::default()),
            ),
            (
                LifecycleHandler { tcp_socket: Some(TCPSocketAction::default()), ..LifecycleHandler::default() },
                Hook::Unsupported,
            ),
        ] {
            let container = container(handler);
            assert_eq!(post_start(&container), Some(expected.clone()));
            assert_eq!(pre_stop(&container, 30), Some(expected));
            assert_eq!(pre_stop(&container, 0), None, "without grace there is no time for it");
        }
        assert_eq!((post_start(&Container::default()), pre_stop(&Container::default(), 30)), (None, None));
    }

    #[test]
    fn a_hook_takes_from_the_grace_period_but_not_all_of_it() {
        for (grace, used, left) in [(30, 0, 30), (30, 10, 20), (30, 29, 2), (30, 30, 2), (1, 0, 2), (5, 100, 2)] {
            assert_eq!(grace_after(grace, used), left, "{used} of {grace}");
        }
    }
}
