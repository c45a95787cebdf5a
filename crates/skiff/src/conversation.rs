//! This process's stdin, stdout, stderr and terminal, joined to those of a process in a container.

use std::process::ExitCode;

use anyhow::{Result, anyhow};
use futures::SinkExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{AttachParams, AttachedProcess, TerminalSize};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    signal::unix::{SignalKind, signal},
};

use crate::{session::Namespace, terminal};

/// What `exec` and `attach` are told alike.
#[derive(clap::Args)]
pub struct TalkOptions {
    /// A pod, or what pods belong to, as in `deploy/web`
    #[arg(value_name = "POD|TYPE/NAME")]
    pub target: String,

    #[command(flatten)]
    pub namespace: Namespace,

    /// The container; default: the annotated one, or the first
    #[arg(short, long, value_name = "NAME")]
    pub container: Option<String>,

    /// Pass stdin on
    #[arg(short = 'i', long)]
    pub stdin: bool,

    /// With a terminal
    #[arg(short = 't', long)]
    pub tty: bool,

    /// Print only what the process prints
    #[arg(short, long)]
    pub quiet: bool,
}

/// Of each stream, between the connection and the terminal.
const BUFFER_BYTES: usize = 64 << 10;

/// What `-i` and `-t` ask for. A terminal where there is none is said to be missing, as kubectl does.
pub fn wanted(container: &str, stdin: bool, tty: bool) -> AttachParams {
    use std::io::IsTerminal;
    let terminal = std::io::stdin().is_terminal();
    if tty && stdin && !terminal {
        eprintln!("Unable to use a TTY - input is not a terminal or the right kind of file");
    }
    let tty = tty && (!stdin || terminal);
    AttachParams::default()
        .container(container)
        .stdin(stdin)
        .stdout(true)
        .stderr(!tty)
        .tty(tty)
        .max_stdin_buf_size(BUFFER_BYTES)
        .max_stdout_buf_size(BUFFER_BYTES)
        .max_stderr_buf_size(BUFFER_BYTES)
}

/// Until the process has ended; its exit code is ours.
///
/// # Errors
/// When the connection is lost or the process could not be started.
pub async fn hold(mut process: AttachedProcess, tty: bool) -> Result<ExitCode> {
    let raw = if tty { terminal::Raw::enter() } else { None };
    let status = process.take_status();
    let (stdin, stdout, stderr) = (process.stdin(), process.stdout(), process.stderr());
    let sizes = process.terminal_size();
    let typing = async {
        if let Some(mut to) = stdin {
            let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut to).await;
            let _ = to.shutdown().await;
        }
        std::future::pending::<()>().await;
    };
    let sizing = async {
        if let Some(sizes) = sizes {
            tell_sizes(sizes).await;
        }
        std::future::pending::<()>().await;
    };
    let ended = async {
        tokio::join!(print(stdout, tokio::io::stdout()), print(stderr, tokio::io::stderr()));
        match status {
            Some(status) => status.await,
            None => None,
        }
    };
    let status = tokio::select! {
        status = ended => status,
        () = typing => None,
        () = sizing => None,
    };
    drop(raw);
    match status {
        Some(status) => code_of(&status),
        None => match process.join().await {
            Ok(()) => Err(anyhow!("the connection was closed before the process had ended")),
            Err(error) => Err(anyhow!(error).context("the connection was lost")),
        },
    }
}

/// As often as it changes.
async fn tell_sizes(mut to: futures::channel::mpsc::Sender<TerminalSize>) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
    loop {
        let Some((width, height)) = terminal::size() else { return };
        if to.send(TerminalSize { width, height }).await.is_err() || changes.recv().await.is_none() {
            return;
        }
    }
}

/// A reader of ours that went away (`| head`) is no error.
async fn print(from: Option<impl AsyncRead + Unpin>, mut to: impl AsyncWrite + Unpin) {
    let Some(mut from) = from else { return };
    let mut chunk = vec![0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut chunk).await {
        if to.write_all(&chunk[..count]).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
}

/// # Errors
/// When the process did not run to its own end.
pub fn code_of(status: &Status) -> Result<ExitCode> {
    if status.status.as_deref() == Some("Success") {
        return Ok(ExitCode::SUCCESS);
    }
    let causes = status.details.as_ref().and_then(|d| d.causes.as_ref()).into_iter().flatten();
    let code = causes.filter(|c| c.reason.as_deref() == Some("ExitCode")).find_map(|c| c.message.as_deref());
    match code.and_then(|code| code.parse::<i32>().ok()) {
        Some(code) => {
            eprintln!("command terminated with exit code {code}");
            Ok(u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from))
        }
        None => Err(anyhow!(status.message.clone().unwrap_or_else(|| "the process failed".to_owned()))),
    }
}
