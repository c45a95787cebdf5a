//! The cluster under measurement: one that a kubeconfig names, or a `skiff up` of our own as a process of its own.

use std::{
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use kube::Client;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use super::report::Report;
use crate::global::client_from;

/// A start that takes longer has failed.
const START_MAX: Duration = Duration::from_secs(60);
/// How long nothing happens before the memory of an idle cluster is read.
const IDLE: Duration = Duration::from_secs(2);
const STOP_MAX: Duration = Duration::from_secs(10);

pub struct Cluster {
    kubeconfig: PathBuf,
    context: Option<String>,
    own: Option<Own>,
}

struct Own {
    child: Child,
    /// Removed at the end.
    _directory: TempDir,
}

impl Cluster {
    pub fn named(kubeconfig: PathBuf, context: Option<String>) -> Self {
        Self { kubeconfig, context, own: None }
    }

    /// Measures the time to the ready line, and the memory when idle.
    pub async fn start(durable: bool, report: &mut Report) -> Result<Self> {
        let directory = tempfile::tempdir().context("failed to make a directory")?;
        let kubeconfig = directory.path().join("kubeconfig");
        let program = std::env::current_exe().context("failed to find this program")?;
        let mut command = Command::new(program);
        command.arg("up").args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(directory.path().join("data"));
        command.arg("--kubeconfig").arg(&kubeconfig);
        if !durable {
            command.arg("--ephemeral");
        }
        // Not the one that the user's other commands talk to.
        command.env("XDG_STATE_HOME", directory.path()).env_remove("KUBECONFIG");
        let begun = Instant::now();
        let mut child = command.stdout(Stdio::piped()).stdin(Stdio::null()).kill_on_drop(true).spawn()?;
        let stdout = child.stdout.take().context("the cluster has no stdout")?;
        let mut lines = BufReader::new(stdout).lines();
        let ready = tokio::time::timeout(START_MAX, lines.next_line()).await;
        let took = begun.elapsed();
        match ready {
            Ok(Ok(Some(line))) if line.starts_with("ready: ") => {}
            Ok(Ok(Some(line))) => bail!("the cluster said {line:?} instead of being ready"),
            Ok(Ok(None)) => bail!("the cluster ended before it was ready: {}", child.wait().await?),
            Ok(Err(error)) => return Err(error).context("failed to read from the cluster"),
            Err(_) => bail!("the cluster was not ready after {START_MAX:?}"),
        }
        report.one("start to the ready line", took.as_secs_f64() * 1000.0, "ms");
        let cluster = Self { kubeconfig, context: None, own: Some(Own { child, _directory: directory }) };
        tokio::time::sleep(IDLE).await;
        if let Some(mib) = cluster.memory("VmRSS:") {
            report.one("memory of the process when idle", mib, "MiB");
        }
        Ok(cluster)
    }

    pub fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// A client with connections of its own.
    pub async fn client(&self) -> Result<Client> {
        client_from(&self.kubeconfig, self.context.clone()).await
    }

    /// `VmRSS:` now, `VmHWM:` at most, in MiB; only of a cluster of our own, only on Linux.
    pub fn memory(&self, field: &str) -> Option<f64> {
        let pid = self.own.as_ref()?.child.id()?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|l| l.strip_prefix(field))?;
        let kib: f64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
        Some(kib / 1024.0)
    }

    pub async fn stop(self) {
        let Some(mut own) = self.own else { return };
        if let Some(pid) = own.child.id() {
            // Asked first, so that it can end cleanly.
            let _ = Command::new("kill").args(["-TERM", &pid.to_string()]).status().await;
            if tokio::time::timeout(STOP_MAX, own.child.wait()).await.is_err() {
                let _ = own.child.kill().await;
            }
        }
    }
}
