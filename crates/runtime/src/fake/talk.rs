//! Processes to talk to, for tests of the protocols above: what a fake container can run, attach to and be dialled at.
//!
//! | command | does |
//! |---|---|
//! | `cat` | stdin to stdout |
//! | `echo WORDS…`, `err WORDS…` | prints them to stdout, to stderr |
//! | `exit N` | exits with the code |
//! | `flood N` | prints that many bytes |
//! | `sizes N` | prints the next terminal sizes |
//! | `hang` | reads nothing, and never ends by itself |
//!
//! Attaching echoes stdin. Port 7 echoes, and nothing listens on any other.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures::future::BoxFuture;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::mpsc,
    task::AbortHandle,
};

use crate::{Attached, Connection, Error, Exit, Result, StreamsWanted, TerminalSize};

/// In each direction between a process and whoever talks to it.
const PIPE_BYTES: usize = 64 << 10;
/// The port that echoes.
pub const ECHO_PORT: u16 = 7;

/// How many processes and connections there are: none may be left when nobody talks any more.
#[derive(Clone, Debug, Default)]
pub struct Alive(Arc<AtomicUsize>);

impl Alive {
    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    fn one(&self) -> One {
        self.0.fetch_add(1, Ordering::SeqCst);
        One(self.clone())
    }
}

struct One(Alive);

impl Drop for One {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Process {
    stdin: DuplexStream,
    stdout: DuplexStream,
    stderr: DuplexStream,
    sizes: mpsc::Receiver<TerminalSize>,
}

pub(super) fn run(alive: &Alive, command: Vec<String>, wanted: StreamsWanted) -> Result<Attached> {
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    if !matches!(words.first(), Some(&("cat" | "echo" | "err" | "exit" | "flood" | "sizes" | "hang"))) {
        return Err(Error::Invalid(format!("{command:?}: no such command")));
    }
    let (stdin, to_stdin) = tokio::io::duplex(PIPE_BYTES);
    let (stdout, from_stdout) = tokio::io::duplex(PIPE_BYTES);
    let (stderr, from_stderr) = tokio::io::duplex(PIPE_BYTES);
    let (resize, sizes) = mpsc::channel(4);
    let one = alive.one();
    let process = Process { stdin, stdout, stderr, sizes };
    let task = tokio::spawn(async move {
        let _one = one;
        process.run(&command).await
    });
    let kill = Kill(task.abort_handle());
    Ok(Attached {
        stdin: wanted.stdin.then(|| Box::pin(to_stdin) as _),
        stdout: wanted.stdout.then(|| Box::pin(from_stdout) as _),
        stderr: wanted.stderr.then(|| Box::pin(from_stderr) as _),
        resize: wanted.tty.then_some(resize),
        exit: Box::pin(async move {
            let _kill = kill;
            Ok(Exit::from_code(task.await.unwrap_or(137)))
        }),
    })
}

/// Ends the process when nobody waits for it any more.
struct Kill(AbortHandle);

impl Drop for Kill {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Process {
    /// A reader that has gone ends a process as a broken pipe does.
    async fn run(mut self, command: &[String]) -> i32 {
        let argument = command.get(1).and_then(|text| text.parse().ok()).unwrap_or(0);
        let rest = command[1..].join(" ") + "\n";
        let done = match command[0].as_str() {
            "cat" => tokio::io::copy(&mut self.stdin, &mut self.stdout).await.map(|_| 0),
            "echo" => self.stdout.write_all(rest.as_bytes()).await.map(|()| 0),
            "err" => self.stderr.write_all(rest.as_bytes()).await.map(|()| 0),
            "flood" => {
                let mut endless = tokio::io::repeat(b'x').take(argument);
                tokio::io::copy(&mut endless, &mut self.stdout).await.map(|_| 0)
            }
            "sizes" => {
                for _ in 0..argument {
                    let Some(size) = self.sizes.recv().await else { return 1 };
                    let text = format!("{}x{}\n", size.width, size.height);
                    if self.stdout.write_all(text.as_bytes()).await.is_err() {
                        return 141;
                    }
                }
                Ok(0)
            }
            "hang" => std::future::pending().await,
            _ => Ok(i32::try_from(argument).unwrap_or(1)),
        };
        done.unwrap_or(141)
    }
}

/// What a test serves at a port.
pub type Server = dyn Fn(DuplexStream) -> BoxFuture<'static, ()> + Send + Sync;

pub(super) fn served(alive: &Alive, server: &Server) -> Box<dyn Connection> {
    let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
    let (one, serving) = (alive.one(), server(theirs));
    tokio::spawn(async move {
        let _one = one;
        serving.await;
    });
    Box::new(ours)
}

/// A connection to something that sends back what it gets.
pub(super) fn dial(alive: &Alive, port: u16) -> Result<Box<dyn Connection>> {
    if port != ECHO_PORT {
        return Err(Error::Invalid(format!("dial tcp fake:{port}: connection refused")));
    }
    let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
    let one = alive.one();
    tokio::spawn(async move {
        let _one = one;
        let (mut from, mut to) = tokio::io::split(theirs);
        let _ = tokio::io::copy(&mut from, &mut to).await;
        let _ = to.shutdown().await;
    });
    Ok(Box::new(ours))
}
