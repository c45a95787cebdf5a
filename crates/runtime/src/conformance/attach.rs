//! Clients of a container's main process.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    Harness, eventually,
    harness::{Subjected, obeys},
};
use crate::{Attached, ContainerState, Error, StreamsWanted};

const ALL: StreamsWanted = StreamsWanted { stdin: true, stdout: true, stderr: true, tty: false };

impl Subjected<'_> {
    async fn attach(&self) -> Attached {
        self.harness.runtime.attach(&self.id, ALL).await.expect("attached")
    }
}

/// A container that copies its stdin.
async fn copies(h: &Harness, once: bool) -> Option<Subjected<'_>> {
    let mut config = h.config(obeys(&["input"])).await?;
    if !h.runtime.capabilities().attach {
        return None;
    }
    (config.stdin, config.stdin_once) = (true, once);
    Some(h.start_with(config).await)
}

/// Sends a line and waits until it comes back.
async fn echo(attached: &mut Attached, line: &str) {
    attached.stdin.as_mut().expect("there").write_all(line.as_bytes()).await.expect("written");
    let mut back = vec![0; line.len()];
    let stdout = attached.stdout.as_mut().expect("there");
    eventually("the echo", stdout.read_exact(&mut back)).await.expect("read");
    assert_eq!(back, line.as_bytes());
}

pub async fn input_goes_in_and_output_comes_out(h: &Harness) {
    let Some(container) = copies(h, false).await else { return };
    let mut first = container.attach().await;
    echo(&mut first, "one\n").await;
    let mut second = container.attach().await;
    echo(&mut second, "two\n").await;
    let mut seen = [0; 4];
    let stdout = first.stdout.as_mut().expect("there");
    eventually("the other's echo", stdout.read_exact(&mut seen)).await.expect("read");
    assert_eq!(&seen, b"two\n", "everybody sees everything from the moment of attaching");
    assert_eq!(container.stdout(), ["one", "two"], "the log has it too");
}

pub async fn stdin_stays_open_between_clients(h: &Harness) {
    let Some(container) = copies(h, false).await else { return };
    for line in ["one\n", "two\n"] {
        let mut attached = container.attach().await;
        echo(&mut attached, line).await;
        attached.stdin.as_mut().expect("there").shutdown().await.expect("shut down");
    }
    assert_eq!(container.status().await.state, ContainerState::Running);
}

pub async fn stdin_once_ends_with_its_client(h: &Harness) {
    let Some(mut container) = copies(h, true).await else { return };
    let mut attached = container.attach().await;
    echo(&mut attached, "one\n").await;
    drop(attached.stdin.take());
    assert_eq!(container.exit().await.code, 0);
    let exit = eventually("the exit", attached.exit).await.expect("told");
    assert_eq!(exit.code, 0);
}

pub async fn without_stdin_there_is_none(h: &Harness) {
    if !h.runtime.capabilities().attach {
        return;
    }
    let Some(container) = h.start(obeys(&["sleep"])).await else { return };
    assert!(container.attach().await.stdin.is_none());
}

pub async fn a_slow_client_holds_nobody(h: &Harness) {
    if !h.runtime.capabilities().attach {
        return;
    }
    let Some(container) = h.start(obeys(&["flood"])).await else { return };
    let slow = container.attach().await;
    let mut fast = container.attach().await;
    let mut chunk = vec![0; 2 << 20];
    let stdout = fast.stdout.as_mut().expect("there");
    eventually("a lot of output", stdout.read_exact(&mut chunk)).await.expect("read");
    drop(fast);
    eventually("the stop", h.runtime.stop_container(&container.id, Duration::ZERO)).await.expect("stopped");
    let mut left = Vec::new();
    let mut stdout = slow.stdout.expect("there");
    eventually("the end", stdout.read_to_end(&mut left)).await.expect("read");
    let text = String::from_utf8(left).expect("text");
    assert!(text.contains("are lost here"), "the slow one is told: {} bytes", text.len());
}

pub async fn the_end_is_told(h: &Harness) {
    if !h.runtime.capabilities().attach {
        return;
    }
    let Some(container) = h.start(obeys(&["sleep"])).await else { return };
    let attached = container.attach().await;
    drop(container.attach().await);
    assert_eq!(container.status().await.state, ContainerState::Running, "who leaves disturbs nobody");
    h.runtime.stop_container(&container.id, Duration::from_secs(30)).await.expect("stopped");
    let exit = eventually("the exit", attached.exit).await.expect("told");
    assert_eq!(Some(exit), container.status().await.exit);
    let after = h.runtime.attach(&container.id, ALL).await.err();
    assert!(matches!(after, Some(Error::InvalidState(_))), "{after:?}");
}
