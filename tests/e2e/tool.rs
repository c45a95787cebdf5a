//! The stock kubectl, and the repository's files.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use skiff_testing::Cluster;
use tokio::{io::AsyncWriteExt, process::Command};

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

pub fn wat(name: &str) -> PathBuf {
    root().join("wasm-examples/wat").join(name)
}

pub fn wasm(name: &str) -> PathBuf {
    root().join("wasm-examples/rust").join(name)
}

pub struct Done {
    pub ok: bool,
    pub stdout: String,
    pub stderr: String,
}

/// kubectl with the kubeconfig of a cluster and a cache of its own.
pub struct Kubectl {
    kubeconfig: PathBuf,
    cache: PathBuf,
}

impl Kubectl {
    /// `None`, after saying so, where there is no kubectl on PATH.
    pub fn of(cluster: &Cluster) -> Option<Self> {
        let found = std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join("kubectl").is_file()));
        if !found {
            eprintln!("skipped: no kubectl on PATH");
            return None;
        }
        Some(Self { kubeconfig: cluster.kubeconfig(), cache: cluster.dir().join("kubectl-cache") })
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(&self.kubeconfig).arg("--cache-dir").arg(&self.cache).args(args);
        command.env_remove("KUBECONFIG").env("KUBE_EDITOR", "false");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    pub async fn run(&self, args: &[&str], stdin: &str) -> Done {
        finish(self.command(args), stdin).await
    }

    /// The output of a command that must succeed.
    pub async fn ok(&self, args: &[&str]) -> String {
        self.ok_with(args, "").await
    }

    pub async fn ok_with(&self, args: &[&str], stdin: &str) -> String {
        let done = self.run(args, stdin).await;
        assert!(done.ok, "kubectl {args:?} failed:\n{}{}", done.stdout, done.stderr);
        done.stdout
    }

    /// The error output of a command that must fail.
    pub async fn fails(&self, args: &[&str], stdin: &str) -> String {
        let done = self.run(args, stdin).await;
        assert!(!done.ok, "kubectl {args:?} did not fail:\n{}{}", done.stdout, done.stderr);
        done.stderr
    }
}

pub async fn finish(mut command: Command, stdin: &str) -> Done {
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let feeding = async {
        // A command that does not read its input has closed it.
        let _ = input.write_all(stdin.as_bytes()).await;
        drop(input);
    };
    // Both at once: a command may not read more before its output is read.
    let running = async { tokio::join!(child.wait_with_output(), feeding).0 };
    let output = tokio::time::timeout(skiff_testing::patience() * 2, running).await;
    let output = output.expect("the command did not end").unwrap();
    Done {
        ok: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
