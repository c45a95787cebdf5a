//! How a container ended is told as Kubernetes tells it.

use super::{Harness, Program};
use crate::MESSAGE_BYTES_MAX;

pub async fn exit_codes_are_the_programs_own(h: &Harness) {
    for code in [0, 1, 3, 42, 125] {
        let Some(mut container) = h.start(Program::ExitsWith(code)).await else { return };
        let exit = container.exit().await;
        let reason = if code == 0 { "Completed" } else { "Error" };
        assert_eq!((exit.code, exit.reason), (i32::from(code), reason), "{exit:?}");
    }
}

pub async fn a_trap_is_an_error_with_a_message(h: &Harness) {
    let Some(mut container) = h.start(Program::Traps).await else { return };
    let exit = container.exit().await;
    assert!(exit.code > 128 && exit.reason == "Error", "a fault is 128 + signal: {exit:?}");
    assert!(!exit.message.is_empty() && exit.message.len() <= MESSAGE_BYTES_MAX, "{exit:?}");
}

pub async fn running_out_of_memory_is_told(h: &Harness) {
    let Some(mut config) = h.config(Program::GrowsMemory).await else { return };
    config.resources.memory_bytes_max = Some(8 << 20);
    let mut container = h.start_with(config).await;
    let exit = container.exit().await;
    assert_eq!((exit.code, exit.reason), (137, "OOMKilled"), "{exit:?}");
}
