//! Who listens to a container's main process: what it prints goes to its log, and from the moment of attaching on to
//! everybody attached. Nobody attached holds the guest back: one who reads too slowly loses output, and is told so.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use parking_lot::Mutex;
use skiff_runtime::{Attached, Error, Exit, Result, StreamsWanted, streams::Writer};
use tokio::sync::SetOnce;

use super::{
    pipe::{Pipe, PipeReader, PipeWriter},
    resize::{self, Size},
    terminal::Terminal,
};
use crate::{charge::Account, log::Stream};

/// What an attached client may be behind.
const BEHIND_BYTES_MAX: usize = 256 << 10;
/// Clients attached to one container at once.
const ATTACHED_MAX: usize = 32;

/// The streams of a main process, beside its log.
pub struct Hub {
    /// Its stdin, if it has one.
    pub stdin: Option<Pipe>,
    pub size: Arc<Size>,
    stdin_once: bool,
    tty: bool,
    /// Counts what waits for clients.
    account: Account,
    count: AtomicUsize,
    listeners: Mutex<Vec<Listener>>,
    exit: SetOnce<Exit>,
}

struct Listener {
    stdout: Option<Pipe>,
    stderr: Option<Pipe>,
}

impl Hub {
    pub fn new(stdin: bool, stdin_once: bool, tty: bool, account: Account) -> Arc<Self> {
        Arc::new(Self {
            stdin: stdin.then(|| Pipe::new(&account)),
            account,
            size: Arc::default(),
            stdin_once,
            tty,
            count: AtomicUsize::new(0),
            listeners: Mutex::default(),
            exit: SetOnce::new(),
        })
    }

    pub fn tty(&self) -> bool {
        self.tty
    }

    /// The main process has ended, and its log is complete.
    pub fn ended(&self, exit: &Exit) {
        if let Some(stdin) = &self.stdin {
            stdin.break_off();
        }
        let listeners = std::mem::take(&mut *self.listeners.lock());
        // Set under no lock, but after the listeners are taken: who attaches later sees it.
        let _ = self.exit.set(exit.clone());
        listeners.iter().chain(self.listeners.lock().iter()).flat_map(Listener::pipes).for_each(Pipe::end);
    }

    /// On a terminal `interrupt` is called for ctrl-c.
    pub fn attach(
        self: &Arc<Self>,
        wanted: StreamsWanted,
        interrupt: impl Fn() + Send + Sync + 'static,
    ) -> Result<Attached> {
        let pipe = |wanted: bool| {
            let pipe = wanted.then(|| Pipe::with_capacity(BEHIND_BYTES_MAX, &self.account));
            if self.tty { pipe.map(Pipe::terminal) } else { pipe }
        };
        let listener = Listener { stdout: pipe(wanted.stdout), stderr: pipe(wanted.stderr && !self.tty) };
        let reader = |pipe: &Option<Pipe>| pipe.clone().map(|pipe| Box::pin(PipeReader(pipe)) as _);
        let (stdout, stderr) = (reader(&listener.stdout), reader(&listener.stderr));
        let echo = listener.stdout.clone().unwrap_or_else(|| Pipe::sink(&self.account));
        self.listen(listener)?;
        let stdin = self.stdin.clone().filter(|_| wanted.stdin).map(|pipe| -> Writer {
            let stdin = PipeWriter { pipe, keep: !self.stdin_once };
            if self.tty { Box::pin(Terminal::new(stdin, echo, interrupt)) } else { Box::pin(stdin) }
        });
        let hub = self.clone();
        let exit = async move { Ok(hub.exit.wait().await.clone()) };
        let (resize, exit) = resize::channel(self.tty.then(|| self.size.clone()), exit);
        Ok(Attached { stdin, stdout, stderr, resize, exit })
    }

    fn listen(&self, listener: Listener) -> Result<()> {
        let mut listeners = self.listeners.lock();
        listeners.retain(|other| other.pipes().any(|pipe| !pipe.is_broken()));
        if listeners.len() >= ATTACHED_MAX {
            return Err(Error::Exhausted(format!("{ATTACHED_MAX} clients are attached already, as many as may be")));
        }
        if self.exit.get().is_some() {
            listener.pipes().for_each(Pipe::end);
        } else {
            listeners.push(listener);
        }
        self.count.store(listeners.len(), Ordering::Release);
        Ok(())
    }
}

impl Listener {
    fn pipes(&self) -> impl Iterator<Item = &Pipe> {
        self.stdout.iter().chain(&self.stderr)
    }
}

impl Hub {
    /// The main process printed something.
    pub fn printed(&self, stream: Stream, bytes: &[u8]) {
        // Nobody is, usually.
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut listeners = self.listeners.lock();
        for listener in listeners.iter() {
            let pipe = match stream {
                Stream::Stderr if !self.tty => &listener.stderr,
                _ => &listener.stdout,
            };
            if let Some(pipe) = pipe {
                pipe.offer(bytes);
            }
        }
        listeners.retain(|listener| listener.pipes().any(|pipe| !pipe.is_broken()));
        self.count.store(listeners.len(), Ordering::Release);
    }
}
