//! Other processes in a running container, and clients of its main one.
//!
//! An exec'd process is another instance of the container's module: same files, environment and network, its own
//! arguments and streams. It shares the container's limits of memory and processor, holds a slot of the node's instances,
//! and ends with the container, or when whoever started it goes away. Some commands are built in ([`tools`]).

mod attach;
mod pipe;
mod resize;
mod stdio;
mod table;
mod terminal;
mod tools;

use std::sync::Arc;

use skiff_runtime::{
    Attached, ContainerState, Error, ExecRequest, Exit, Result, StreamsWanted, ledger::Container, streams::Writer,
};
use tokio::sync::oneshot;

pub use attach::Hub;
pub use stdio::{Output, Stdio};
pub use table::Processes;

use crate::{
    charge::Account,
    process::{self, Process, Run},
    runtime::Shared,
};
use pipe::{Pipe, PipeReader, PipeWriter};
use table::Entry;
use terminal::Terminal;
use tools::Tool;

/// Ended by ctrl-c: 128 + SIGINT.
fn interrupt() -> Exit {
    Exit { code: 130, reason: "Error", message: String::new() }
}

/// Ends the process when it is dropped.
struct KillOnDrop(Arc<Entry>);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        self.0.kill(Exit::killed());
    }
}

/// The pipes of one exec'd process; those that nobody wants take whatever comes.
#[derive(Clone)]
struct Pipes {
    stdin: Option<Pipe>,
    stdout: Pipe,
    stderr: Pipe,
}

impl Pipes {
    fn new(wanted: StreamsWanted, account: &Account) -> Self {
        let pipe = |wanted| if wanted { Pipe::new(account) } else { Pipe::sink(account) };
        let stdout = if wanted.tty { pipe(wanted.stdout).terminal() } else { pipe(wanted.stdout) };
        let stderr = if wanted.tty { stdout.clone() } else { pipe(wanted.stderr) };
        Self { stdin: wanted.stdin.then(|| Pipe::new(account)), stdout, stderr }
    }

    /// The process has ended: readers get what is left, then the end.
    fn end(&self) {
        if let Some(stdin) = &self.stdin {
            stdin.break_off();
        }
        self.stdout.end();
        self.stderr.end();
    }

    /// The process is killed: whatever it waits for, it waits no longer.
    fn break_off(&self) {
        if let Some(stdin) = &self.stdin {
            stdin.end();
        }
        self.stdout.break_off();
        self.stderr.break_off();
    }

    /// The client's ends.
    fn attached(&self, wanted: StreamsWanted, entry: &Arc<Entry>, exited: oneshot::Receiver<Exit>) -> Attached {
        let reader = |pipe: &Pipe| Box::pin(PipeReader(pipe.clone())) as _;
        let kill = KillOnDrop(entry.clone());
        let exit = async move {
            let _kill = kill;
            exited.await.map_err(|_| Error::Internal("the end of a process was not told".to_owned()))
        };
        let (resize, exit) = resize::channel(wanted.tty.then(|| entry.size.clone()), exit);
        let stdin = self.stdin.clone().map(|pipe| -> Writer {
            let stdin = PipeWriter { pipe, keep: false };
            if !wanted.tty {
                return Box::pin(stdin);
            }
            let interrupted = entry.clone();
            Box::pin(Terminal::new(stdin, self.stdout.clone(), move || interrupted.kill(interrupt())))
        });
        Attached {
            stdin,
            stdout: wanted.stdout.then(|| reader(&self.stdout)),
            stderr: (wanted.stderr && !wanted.tty).then(|| reader(&self.stderr)),
            resize,
            exit,
        }
    }
}

impl Shared {
    pub(crate) fn attach(&self, id: &str, wanted: StreamsWanted) -> Result<Attached> {
        let container = self.running(id)?;
        let process = container.clone();
        container.extra.hub.attach(wanted, move || {
            if let Some(kill) = process.extra.kill.lock().take() {
                let _ = kill.send(interrupt());
            }
        })
    }

    fn running(&self, id: &str) -> Result<Arc<Container<Process>>> {
        let container = self.ledger.container(id)?;
        match container.state() {
            ContainerState::Running => Ok(container),
            _ => Err(Error::InvalidState(format!("container {:?} is not running", container.config.name))),
        }
    }

    pub(crate) async fn exec(self: &Arc<Self>, id: &str, request: ExecRequest) -> Result<Attached> {
        let container = self.running(id)?;
        let process = &container.extra;
        if let Some(tool) = Tool::named(&request.command)? {
            return tools::exec(container, tool, request.streams).await;
        }
        let args = process::exec_arguments(&process.args, &request.command)?;
        let entry = process::entry(&args);
        let runs = process.program.command().and_then(|_| process.program.check(entry.as_deref()));
        runs.map_err(|reason| {
            let name = &container.config.name;
            Error::Invalid(format!(
                "container {name:?} cannot run {:?}: {reason}; built-in commands are {}",
                request.command,
                tools::NAMES
            ))
        })?;
        let started = self.started().await?;
        self.take_slot()?;
        let entered = process.processes.enter(args.clone(), &process.usage);
        let (entered, killed) = entered.inspect_err(|_| self.give_slot_back())?;
        let pipes = Pipes::new(request.streams, &process.account);
        let stdio = Stdio {
            stdin: pipes.stdin.clone(),
            output: Output::Pipes { stdout: pipes.stdout.clone(), stderr: pipes.stderr.clone() },
            tty: request.streams.tty,
        };
        let run = Run { main: false, entry, args, stdio, usage: entered.usage.clone() };
        let guest = self.metered(&container, &started, run, killed);
        let (tell, exited) = oneshot::channel();
        let attached = pipes.attached(request.streams, &entered, exited);
        let shared = self.clone();
        started.lanes.spawn(guest, move |exit| {
            if !exit.message.is_empty() {
                // As a shell says how its child ended.
                pipes.stderr.offer(format!("{}\n", exit.message).as_bytes());
            }
            pipes.end();
            shared.give_slot_back();
            container.extra.processes.left(entered.pid);
            let _ = tell.send(exit);
        });
        Ok(attached)
    }
}
