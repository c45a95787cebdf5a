//! Sandboxes and containers come, go through their states in one direction, and go.

use std::time::Duration;

use super::{Harness, Program, eventually};
use crate::{ContainerState, Error};

pub async fn a_container_goes_from_created_through_running_to_exited(h: &Harness) {
    let Some(mut container) = h.create(Program::ExitsWith(0)).await else { return };
    let status = container.status().await;
    assert_eq!(status.state, ContainerState::Created);
    assert_eq!((status.started, status.finished, status.exit), (None, None, None));
    container.start().await;
    container.exit().await;
    let status = container.status().await;
    let (started, finished) = (status.started.expect("it started"), status.finished.expect("it finished"));
    assert!(status.created <= started && started <= finished, "times in order: {status:?}");
    assert_eq!(&*status.sandbox, &*h.sandbox);
}

pub async fn a_sandbox_is_keyed_by_uid_and_attempt(h: &Harness) {
    let first = h.runtime.run_sandbox(h.sandbox_config("uid-a")).await.expect("made");
    let again = h.runtime.run_sandbox(h.sandbox_config("uid-a")).await.expect("made");
    assert_eq!(first.id, again.id, "idempotent");
    let mut config = h.sandbox_config("uid-a");
    config.attempt = 1;
    let attempt = h.runtime.run_sandbox(config).await.expect("made");
    let same_name = h.runtime.run_sandbox(h.sandbox_config("uid-b")).await.expect("made");
    assert!(first.id != attempt.id && first.id != same_name.id && attempt.id != same_name.id);
    let listed = h.runtime.list_sandboxes().await.expect("listed");
    assert_eq!(listed.len(), 4, "with the harness's own: {listed:?}");
    assert!(listed.iter().all(|sandbox| sandbox.ready));
}

pub async fn a_container_needs_a_ready_sandbox(h: &Harness) {
    let Some(config) = h.config(Program::Sleeps).await else { return };
    let unknown = h.runtime.create_container("no-such", config.clone()).await;
    assert!(matches!(unknown, Err(Error::NotFound { .. })), "{unknown:?}");
    let before = h.create_with(config.clone()).await;
    h.runtime.stop_sandbox(&h.sandbox).await.expect("stopped");
    let mut late = config;
    late.attempt = 1;
    let stopped = h.runtime.create_container(&h.sandbox, late).await;
    assert!(matches!(stopped, Err(Error::InvalidState(_))), "{stopped:?}");
    let start = h.runtime.start_container(&before.id).await;
    assert!(matches!(start, Err(Error::InvalidState(_))), "{start:?}");
}

pub async fn a_container_starts_once(h: &Harness) {
    let Some(container) = h.start(Program::Sleeps).await else { return };
    let again = h.runtime.start_container(&container.id).await;
    assert!(matches!(again, Err(Error::InvalidState(_))), "{again:?}");
    h.runtime.stop_container(&container.id, Duration::from_secs(10)).await.expect("stopped");
    let exited = h.runtime.start_container(&container.id).await;
    assert!(matches!(exited, Err(Error::InvalidState(_))), "{exited:?}");
}

pub async fn a_restart_is_a_new_container(h: &Harness) {
    let Some(config) = h.config(Program::ExitsWith(1)).await else { return };
    let mut first = h.start_with(config.clone()).await;
    assert_eq!(first.exit().await.code, 1);
    let mut config = config;
    config.attempt = 1;
    let mut second = h.start_with(config).await;
    assert_eq!(second.exit().await.code, 1);
    assert_ne!(first.id, second.id);
    let listed = h.runtime.list_containers(Some(&h.sandbox)).await.expect("listed");
    let mut attempts: Vec<_> = listed.iter().map(|status| status.attempt).collect();
    attempts.sort_unstable();
    assert_eq!(attempts, [0, 1], "the earlier attempt stays until it is removed");
}

pub async fn names_are_unique_within_a_sandbox_only(h: &Harness) {
    let Some(config) = h.config(Program::Sleeps).await else { return };
    let first = h.create_with(config.clone()).await;
    let twice = h.runtime.create_container(&h.sandbox, config.clone()).await;
    assert!(matches!(twice, Err(Error::InvalidState(_))), "{twice:?}");
    let other = h.runtime.run_sandbox(h.sandbox_config("uid-other")).await.expect("made");
    h.runtime.create_container(&other.id, config.clone()).await.expect("another pod may use the name");
    h.runtime.remove_container(&first.id).await.expect("removed");
    h.runtime.create_container(&h.sandbox, config).await.expect("the name is free again");
}

pub async fn removing_a_container_kills_it(h: &Harness) {
    let Some(mut container) = h.start(Program::Sleeps).await else { return };
    h.runtime.remove_container(&container.id).await.expect("removed");
    let status = h.runtime.container_status(&container.id).await;
    assert!(matches!(status, Err(Error::NotFound { .. })), "{status:?}");
    h.runtime.remove_container(&container.id).await.expect("idempotent");
    container.saw_exit().await;
}

pub async fn removing_a_sandbox_kills_and_forgets(h: &Harness) {
    let Some(mut container) = h.start(Program::Sleeps).await else { return };
    let other = h.runtime.run_sandbox(h.sandbox_config("uid-other")).await.expect("made");
    h.runtime.remove_sandbox(&h.sandbox).await.expect("removed");
    container.saw_exit().await;
    h.runtime.remove_sandbox(&h.sandbox).await.expect("idempotent");
    let sandboxes = h.runtime.list_sandboxes().await.expect("listed");
    assert_eq!(sandboxes.iter().map(|sandbox| &sandbox.id).collect::<Vec<_>>(), [&other.id]);
    assert!(h.runtime.list_containers(None).await.expect("listed").is_empty());
    let again = h.runtime.run_sandbox(h.sandbox_config("uid-0")).await.expect("made");
    assert_ne!(again.id, h.sandbox, "ids are never used twice");
}

pub async fn stopping_a_sandbox_kills_what_runs_in_it(h: &Harness) {
    let Some(mut container) = h.start(Program::Sleeps).await else { return };
    h.runtime.stop_sandbox(&h.sandbox).await.expect("stopped");
    let exit = container.exit().await;
    assert!(matches!(exit.code, 137 | 143), "{exit:?}");
    h.runtime.stop_sandbox(&h.sandbox).await.expect("idempotent");
    let sandboxes = h.runtime.list_sandboxes().await.expect("listed");
    assert!(sandboxes.iter().all(|sandbox| !sandbox.ready), "{sandboxes:?}");
    assert_eq!(h.runtime.list_containers(None).await.expect("listed").len(), 1, "it stays until removed");
}

pub async fn unknown_ids(h: &Harness) {
    let start = h.runtime.start_container("no-such").await;
    assert!(matches!(start, Err(Error::NotFound { .. })), "{start:?}");
    let status = h.runtime.container_status("no-such").await;
    assert!(matches!(status, Err(Error::NotFound { .. })), "{status:?}");
    h.runtime.stop_container("no-such", Duration::ZERO).await.expect("what is not there is stopped");
    h.runtime.remove_container("no-such").await.expect("what is not there is removed");
    h.runtime.stop_sandbox("no-such").await.expect("what is not there is stopped");
    h.runtime.remove_sandbox("no-such").await.expect("what is not there is removed");
    assert!(h.runtime.list_containers(Some("no-such")).await.expect("listed").is_empty());
}

pub async fn shutdown_ends_everything(h: &Harness) {
    let Some(sleeper) = h.start(Program::Sleeps).await else { return };
    let Some(looper) = h.start(Program::LoopsForever).await else { return };
    eventually("the shutdown", h.runtime.shutdown(Duration::from_secs(5))).await;
    for container in [sleeper, looper] {
        assert_eq!(container.status().await.state, ContainerState::Exited);
    }
}
