//! No container, however hostile, stalls another one or the node.

use std::time::Duration;

use super::{Harness, Program, eventually};
use crate::ContainerState;

const STOP_GRACE: Duration = Duration::from_secs(10);

async fn works_beside(h: &Harness, hostile: Program, count: usize) {
    let mut running = Vec::new();
    for _ in 0..count {
        let Some(container) = h.start(hostile.clone()).await else { return };
        running.push(container);
    }
    for _ in 0..10 {
        let Some(mut neighbour) = h.start(Program::PrintsLines(1)).await else { return };
        assert_eq!(neighbour.exit().await.code, 0);
    }
    for container in running {
        assert_eq!(container.status().await.state, ContainerState::Running, "{hostile:?}");
        eventually("the stop", h.runtime.stop_container(&container.id, STOP_GRACE)).await.expect("stopped");
    }
}

pub async fn loops_do_not_stop_others(h: &Harness) {
    works_beside(h, Program::LoopsForever, 8).await;
}

pub async fn a_flood_does_not_stop_others(h: &Harness) {
    works_beside(h, Program::FloodsLog, 2).await;
}

pub async fn recursion_ends_only_itself(h: &Harness) {
    let Some(neighbour) = h.start(Program::Sleeps).await else { return };
    let Some(mut container) = h.start(Program::Recurses).await else { return };
    let exit = container.exit().await;
    assert!(exit.code > 128 && exit.reason == "Error", "{exit:?}");
    assert_eq!(neighbour.status().await.state, ContainerState::Running);
}

pub async fn many_containers_live_at_once(h: &Harness) {
    let Some(config) = h.config(Program::Sleeps).await else { return };
    let mut alive = Vec::new();
    for attempt in 0..200 {
        alive.push(h.start_with(crate::ContainerConfig { attempt, ..config.clone() }).await);
    }
    for container in &alive {
        assert_eq!(container.status().await.state, ContainerState::Running);
    }
    eventually("the stop of all", h.runtime.stop_sandbox(&h.sandbox)).await.expect("stopped");
    for container in &alive {
        assert_eq!(container.status().await.state, ContainerState::Exited);
    }
}
