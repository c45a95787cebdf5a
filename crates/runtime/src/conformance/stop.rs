//! Stop asks, waits for the grace period, then kills; whoever asks twice gets the same answer.

use std::time::{Duration, Instant};

use super::{Harness, Program, eventually};
use crate::ContainerState;

async fn ends_when_asked(h: &Harness, program: Program) {
    let Some(mut container) = h.start(program).await else { return };
    let grace = Duration::from_secs(30);
    let start = Instant::now();
    eventually("the stop", h.runtime.stop_container(&container.id, grace)).await.expect("stopped");
    assert!(start.elapsed() < grace, "it does not wait for the grace period");
    assert_eq!(container.status().await.state, ContainerState::Exited, "stop returns after the exit");
    let exit = container.exit().await;
    assert_eq!((exit.code, exit.reason), (143, "Error"), "128 + SIGTERM: {exit:?}");
}

pub async fn a_sleeper_ends_within_its_grace(h: &Harness) {
    ends_when_asked(h, Program::Sleeps).await;
}

pub async fn a_loop_ends_within_its_grace(h: &Harness) {
    ends_when_asked(h, Program::LoopsForever).await;
}

pub async fn without_grace_it_is_killed(h: &Harness) {
    let Some(mut container) = h.start(Program::Sleeps).await else { return };
    h.runtime.stop_container(&container.id, Duration::ZERO).await.expect("stopped");
    let exit = container.exit().await;
    assert_eq!((exit.code, exit.reason), (137, "Error"), "128 + SIGKILL: {exit:?}");
}

pub async fn who_ignores_the_request_is_killed_after_the_grace(h: &Harness) {
    let Some(mut container) = h.start(Program::IgnoresTerm).await else { return };
    let grace = Duration::from_millis(200);
    let start = Instant::now();
    eventually("the kill", h.runtime.stop_container(&container.id, grace)).await.expect("stopped");
    assert!(start.elapsed() >= grace, "it gets its grace period");
    assert_eq!(container.exit().await.code, 137);
}

pub async fn stopping_twice_or_what_never_started_is_fine(h: &Harness) {
    let Some(mut container) = h.start(Program::Sleeps).await else { return };
    let grace = Duration::from_secs(30);
    let (first, second) =
        futures::join!(h.runtime.stop_container(&container.id, grace), h.runtime.stop_container(&container.id, grace));
    first.and(second).expect("both are fine");
    let exit = container.exit().await;
    h.runtime.stop_container(&container.id, grace).await.expect("stopped");
    assert_eq!(container.status().await.exit, Some(exit), "the first exit stays");
    let Some(container) = h.create(Program::Sleeps).await else { return };
    eventually("the stop", h.runtime.stop_container(&container.id, grace)).await.expect("stopped");
    assert_eq!(container.status().await.state, ContainerState::Exited);
    assert_eq!(container.status().await.started, None);
}
