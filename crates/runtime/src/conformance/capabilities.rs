//! What is declared absent answers Unsupported, and what is declared present does not.

use std::time::Duration;

use super::{Harness, Program};
use crate::Error;

pub async fn what_is_absent_is_unsupported(h: &Harness) {
    let Some(container) = h.start(Program::Sleeps).await else { return };
    let capabilities = h.runtime.capabilities();
    let stats = h.runtime.container_stats(&container.id).await;
    assert_eq!(!capabilities.stats, matches!(stats, Err(Error::Unsupported(_))), "{stats:?}");
    let command = ["true".to_owned()];
    let exec = h.runtime.exec_sync(&container.id, &command, Duration::from_secs(1)).await;
    assert_eq!(!capabilities.exec, matches!(exec, Err(Error::Unsupported(_))), "{exec:?}");
}

pub async fn the_default_handler_is_answered(h: &Harness) {
    let capabilities = h.runtime.capabilities();
    assert!(capabilities.handlers.iter().any(String::is_empty), "{capabilities:?}");
    assert!(capabilities.wasm || capabilities.linux, "it runs something");
    assert!(capabilities.version.contains("://"), "{capabilities:?}");
}
