//! Other processes in a running container.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    Harness, Program, eventually,
    harness::{Subjected, obeys},
};
use crate::{Attached, Error, ExecOutput, ExecRequest, Result, StreamsWanted};

const LIMIT: Duration = Duration::from_secs(60);
const ALL: StreamsWanted = StreamsWanted { stdin: true, stdout: true, stderr: true, tty: false };

impl Subjected<'_> {
    async fn exec(&self, words: &[&str]) -> Result<Attached> {
        let command = self.harness.command(words);
        self.harness.runtime.exec(&self.id, ExecRequest { command, streams: ALL }).await
    }

    async fn output(&self, words: &[&str]) -> Result<ExecOutput> {
        let command = self.harness.command(words);
        self.harness.runtime.exec_sync(&self.id, &command, LIMIT).await
    }
}

/// A container to exec into, if the runtime can.
async fn sleeper(h: &Harness) -> Option<Subjected<'_>> {
    if !h.runtime.capabilities().exec {
        return None;
    }
    h.start(obeys(&["sleep"])).await
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

pub async fn arguments_and_streams_are_its_own(h: &Harness) {
    let Some(container) = sleeper(h).await else { return };
    let output = container.output(&["args", "--flag", "", "two words"]).await.expect("runs");
    assert_eq!((output.code, text(&output.stdout)), (0, "--flag\n\ntwo words\n"));
    let output = container.output(&["both"]).await.expect("runs");
    assert_eq!((text(&output.stdout), text(&output.stderr)), ("out\n", "err\n"));
    assert!(container.log_lines().is_empty(), "the container's log is that of its main process");
}

pub async fn exit_codes_are_told(h: &Harness) {
    let Some(container) = sleeper(h).await else { return };
    for code in [0, 1, 3, 125] {
        let output = container.output(&["quit", &code.to_string()]).await.expect("runs");
        assert_eq!(output.code, code);
    }
    let output = container.output(&["trap"]).await.expect("runs");
    assert!(output.code > 128 && !output.stderr.is_empty(), "{output:?}");
}

pub async fn stdin_arrives_and_ends(h: &Harness) {
    let Some(container) = sleeper(h).await else { return };
    let Attached { stdin, stdout, exit, .. } = container.exec(&["input"]).await.expect("runs");
    // More than any buffer on the way holds.
    let sent: Vec<u8> = (0..1_000_000_u32).map(|n| b'a' + (n % 26) as u8).collect();
    let mut stdin = stdin.expect("it was asked for");
    let write = async {
        stdin.write_all(&sent).await.expect("written");
        stdin.shutdown().await.expect("ended");
    };
    let read = async {
        let mut all = Vec::new();
        stdout.expect("it was asked for").read_to_end(&mut all).await.expect("read");
        all
    };
    let ((), echoed, exit) = eventually("the echo", async { tokio::join!(write, read, exit) }).await;
    assert!(echoed == sent, "{} bytes came back of {}", echoed.len(), sent.len());
    assert_eq!(exit.expect("told").code, 0);
    let output = container.output(&["input"]).await.expect("runs");
    assert_eq!((output.code, output.stdout.len()), (0, 0), "without stdin it is at its end");
}

pub async fn files_and_variables_are_the_containers(h: &Harness) {
    let Some(mut config) = h.config(obeys(&["sleep"])).await else { return };
    if !h.runtime.capabilities().exec {
        return;
    }
    config.mounts = vec![h.mount("/data", false, "old", "kept"), h.mount("/fixed", true, "old", "kept")];
    config.env = vec![("COLOUR".to_owned(), "blue".to_owned())];
    let container = h.start_with(config).await;
    assert_eq!(text(&container.output(&["read", "/data/old"]).await.expect("runs").stdout), "kept");
    assert_eq!(container.output(&["write", "/data/new", "told"]).await.expect("runs").code, 0);
    assert_eq!(text(&container.output(&["read", "/data/new"]).await.expect("runs").stdout), "told");
    assert_eq!(container.output(&["write", "/fixed/new", "x"]).await.expect("runs").code, 1, "it is read-only");
    assert_eq!(container.output(&["write", "/private", "mine"]).await.expect("runs").code, 0);
    assert_eq!(text(&container.output(&["read", "/private"]).await.expect("runs").stdout), "mine");
    let output = container.output(&["variables"]).await.expect("runs");
    assert!(text(&output.stdout).lines().any(|line| line == "COLOUR=blue"), "{output:?}");
}

pub async fn who_is_not_read_waits(h: &Harness) {
    let Some(container) = sleeper(h).await else { return };
    let Attached { stdout, mut exit, .. } = container.exec(&["flood"]).await.expect("runs");
    let mut stdout = stdout.expect("it was asked for");
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut exit).await.is_err(), "it waits");
    let mut chunk = vec![0; 1 << 20];
    eventually("what it had to say", stdout.read_exact(&mut chunk)).await.expect("read");
    drop(stdout);
    drop(exit);
    assert_eq!(container.output(&["quit", "0"]).await.expect("runs").code, 0, "others still run");
}

pub async fn stdin_that_never_ends_is_held_back(h: &Harness) {
    let Some(container) = sleeper(h).await else { return };
    let Attached { stdin, exit, .. } = container.exec(&["sleep"]).await.expect("runs");
    let mut stdin = stdin.expect("it was asked for");
    let endless = async {
        let mut sent = 0_u64;
        while let Ok(count) = stdin.write(&[0; 4096]).await {
            sent += count as u64;
        }
        sent
    };
    tokio::pin!(endless);
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut endless).await.is_err(), "nobody reads it");
    h.runtime.stop_container(&container.id, LIMIT).await.expect("stopped");
    let sent = eventually("the end of the writing", endless).await;
    assert!(sent < 16 << 20, "{sent} bytes were kept for a process that does not read");
    assert_eq!(eventually("its end", exit).await.expect("told").code, 137);
}

pub async fn what_is_dropped_is_killed(h: &Harness) {
    if !h.runtime.capabilities().stats {
        return;
    }
    let Some(container) = sleeper(h).await else { return };
    let attached = container.exec(&["loop"]).await.expect("runs");
    let cpu = async || h.runtime.container_stats(&container.id).await.expect("known").cpu_nanos_total;
    let before = cpu().await;
    eventually("its computing", async {
        while cpu().await < before + 20_000_000 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    drop(attached);
    eventually("the end of its computing", async {
        let mut last = cpu().await;
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let now = cpu().await;
            if now == last {
                return;
            }
            last = now;
        }
    })
    .await;
}

pub async fn it_ends_with_its_container(h: &Harness) {
    let Some(container) = sleeper(h).await else { return };
    let first = container.exec(&["sleep"]).await.expect("runs");
    let second = container.exec(&["loop"]).await.expect("runs");
    eventually("the stop", h.runtime.stop_container(&container.id, LIMIT)).await.expect("stopped");
    for attached in [first, second] {
        let exit = eventually("its end", attached.exit).await.expect("told");
        assert_eq!(exit.code, 137, "{exit:?}");
    }
    let after = container.exec(&["quit", "0"]).await;
    assert!(matches!(after, Err(Error::InvalidState(_))), "{:?}", after.err());
}

pub async fn it_needs_a_running_container(h: &Harness) {
    if !h.runtime.capabilities().exec {
        return;
    }
    let Some(mut container) = h.create(obeys(&["quit", "0"])).await else { return };
    let created = container.exec(&["quit", "0"]).await.err();
    assert!(matches!(created, Some(Error::InvalidState(_))), "{created:?}");
    container.start().await;
    container.exit().await;
    let exited = container.exec(&["quit", "0"]).await.err();
    assert!(matches!(exited, Some(Error::InvalidState(_))), "{exited:?}");
    let unknown = h.runtime.exec_sync("none", &["x".to_owned()], LIMIT).await.err();
    assert!(matches!(unknown, Some(Error::NotFound { .. })), "{unknown:?}");
    let Some(running) = h.start(Program::Sleeps).await else { return };
    let empty = h.runtime.exec_sync(&running.id, &[], LIMIT).await.err();
    assert!(matches!(empty, Some(Error::Invalid(_))), "{empty:?}");
}

pub async fn a_time_out_kills(h: &Harness) {
    let Some(container) = sleeper(h).await else { return };
    for word in ["sleep", "loop", "flood"] {
        let command = h.command(&[word]);
        let result = h.runtime.exec_sync(&container.id, &command, Duration::from_millis(100)).await;
        let error = result.expect_err("it never ends by itself").to_string();
        assert!(error.contains("timed out after"), "{error}");
    }
}

pub async fn memory_is_shared_and_the_main_process_survives(h: &Harness) {
    let Some(mut config) = h.config(obeys(&["sleep"])).await else { return };
    if !h.runtime.capabilities().exec {
        return;
    }
    config.resources.memory_bytes_max = Some(8 << 20);
    let container = h.start_with(config).await;
    let output = container.output(&["grow"]).await.expect("runs");
    assert_eq!(output.code, 137, "{output:?}");
    assert_eq!(container.status().await.state, crate::ContainerState::Running);
    assert_eq!(container.output(&["quit", "4"]).await.expect("its memory is free again").code, 4);
}

pub async fn processes_are_bounded(h: &Harness) {
    let Some(container) = sleeper(h).await else { return };
    let mut running = Vec::new();
    let refused = loop {
        match container.exec(&["sleep"]).await {
            Ok(attached) => running.push(attached),
            Err(error) => break error,
        }
        assert!(running.len() < 5000, "there is no limit");
    };
    assert!(matches!(refused, Error::Exhausted(_)), "{refused}");
    running.clear();
    eventually("room for another", async {
        while container.exec(&["quit", "0"]).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}
