//! One request's guest: polled by its connection while it is short, by a lane of its own when it is not.
//!
//! What must stay true: whoever takes the guest out of [`State`] ends it or hands it on; a guest that ended by a fault or a
//! time-out has `outcome` set before its streams close, so that nobody takes its response for complete.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    task::{Context, Poll},
    time::Instant,
};

use http::{Method, Uri};
use parking_lot::Mutex;
use skiff_runtime::Exit;
use tokio::sync::oneshot;

use super::{connection::Connection, server::Server};
use crate::lanes::{Metered, PROMPT_SLICES_MAX};

/// How a request's guest ended before it was done.
#[derive(Clone, Default)]
pub struct Outcome(Arc<AtomicU8>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    /// It trapped, or ended otherwise before it had answered.
    Failed = 1,
    /// There was no instance or no memory to begin with.
    NoRoom = 2,
    TimedOut = 3,
    /// The server was killed.
    Closed = 4,
}

impl Outcome {
    pub fn get(&self) -> Option<Fault> {
        match self.0.load(Ordering::SeqCst) {
            0 => None,
            2 => Some(Fault::NoRoom),
            3 => Some(Fault::TimedOut),
            4 => Some(Fault::Closed),
            _ => Some(Fault::Failed),
        }
    }

    /// The first fault is the one that counts.
    pub fn set(&self, fault: Fault) {
        let _ = self.0.compare_exchange(0, fault as u8, Ordering::SeqCst, Ordering::SeqCst);
    }
}

pub struct Call {
    id: u64,
    server: Arc<Server>,
    connection: Arc<Connection>,
    pub outcome: Outcome,
    pub deadline: Instant,
    /// For messages.
    method: Method,
    uri: Uri,
    answered: AtomicBool,
    /// It is on its server's list: it has waited for something.
    listed: AtomicBool,
    ended: AtomicBool,
    state: Mutex<State>,
}

enum State {
    /// Its connection polls it.
    Inline(Box<Metered>),
    /// A lane runs it.
    Moved(oneshot::Sender<Exit>),
    Ended,
}

impl Call {
    pub fn new(
        server: &Arc<Server>,
        connection: &Arc<Connection>,
        method: Method,
        uri: Uri,
        outcome: Outcome,
        guest: Metered,
    ) -> Arc<Self> {
        Arc::new(Self {
            id: server.next_id(),
            server: server.clone(),
            connection: connection.clone(),
            outcome,
            deadline: Instant::now() + server.setting.timeout,
            method,
            uri,
            answered: AtomicBool::new(false),
            listed: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            state: Mutex::new(State::Inline(Box::new(guest))),
        })
    }

    fn poll(self: &Arc<Self>, context: &mut Context<'_>) {
        if self.ended.load(Ordering::Acquire) {
            return;
        }
        let mut state = self.state.lock();
        let State::Inline(guest) = &mut *state else { return };
        let exit = match guest.poll(context) {
            Poll::Ready(exit) => exit,
            // Its time ended, or its server, while it was polled.
            Poll::Pending if self.outcome.get().is_some() => self.late(),
            Poll::Pending => {
                self.list();
                if guest.slices > PROMPT_SLICES_MAX {
                    self.move_on(&mut state);
                }
                return;
            }
        };
        *state = State::Ended;
        drop(state);
        self.finish(&exit);
    }

    /// From here on a lane runs it, which is fair to others however long it computes.
    fn move_on(self: &Arc<Self>, state: &mut State) {
        let (kill, killed) = oneshot::channel();
        let State::Inline(mut guest) = std::mem::replace(state, State::Moved(kill)) else { return };
        guest.kill = Some(killed);
        self.list();
        let call = self.clone();
        self.server.lanes.spawn(*guest, move |exit| {
            *call.state.lock() = State::Ended;
            call.finish(&exit);
        });
    }

    /// Nobody waits for it any more: it may come to its end, in its time.
    fn abandon(self: &Arc<Self>) {
        if self.ended.load(Ordering::Acquire) {
            return;
        }
        let mut state = self.state.lock();
        if !matches!(*state, State::Inline(_)) {
            return;
        }
        if self.server.closed.is_cancelled() || self.outcome.get().is_some() {
            *state = State::Ended;
            drop(state);
            self.finish(&self.late());
        } else {
            self.move_on(&mut state);
        }
    }

    /// Ends it wherever it is.
    pub fn end(&self, fault: Fault) {
        self.outcome.set(fault);
        // One that is being polled sees the outcome when its slice is over.
        let Some(mut state) = self.state.try_lock() else { return };
        match std::mem::replace(&mut *state, State::Ended) {
            State::Inline(guest) => {
                drop(guest);
                drop(state);
                self.finish(&self.late());
            }
            State::Moved(kill) => {
                let _ = kill.send(self.late());
            }
            State::Ended => {}
        }
        if fault == Fault::TimedOut && self.answered.load(Ordering::SeqCst) && self.connection.is_alone() {
            // The client does not read: nothing but this can free the connection.
            self.connection.kill();
        }
    }

    fn late(&self) -> Exit {
        let message = format!("the limit of {:?} is over", self.server.setting.timeout);
        Exit { code: 137, reason: "DeadlineExceeded", message }
    }

    /// On its server's list, so that its time is watched and its server's end is its end.
    fn list(self: &Arc<Self>) {
        if !self.listed.swap(true, Ordering::SeqCst) {
            self.server.calls.lock().insert(self.id, self.clone());
        }
    }

    fn finish(&self, exit: &Exit) {
        self.ended.store(true, Ordering::Release);
        if self.listed.load(Ordering::SeqCst) {
            self.server.calls.lock().remove(&self.id);
        }
        let Some(fault) = self.outcome.get().filter(|fault| *fault != Fault::Closed) else { return };
        self.server.faults.tell(&self.server.log, Instant::now(), || {
            let what = match fault {
                Fault::TimedOut => "timed out",
                Fault::NoRoom => "was refused",
                _ => "failed",
            };
            let path: String = self.uri.path().chars().take(200).collect();
            format!("request {} {path} {what}: {}", self.method, exit.message)
        });
    }
}

/// A call that somebody waits for.
pub struct Held(Arc<Call>);

impl Held {
    pub fn new(call: Arc<Call>) -> Self {
        Self(call)
    }

    pub fn poll(&self, context: &mut Context<'_>) {
        self.0.poll(context);
    }

    pub fn ended(&self) -> bool {
        self.0.ended.load(Ordering::Acquire)
    }

    pub fn failed(&self) -> bool {
        self.fault().is_some()
    }

    pub fn fault(&self) -> Option<Fault> {
        self.0.outcome.get()
    }

    pub fn answered(&self) {
        self.0.answered.store(true, Ordering::SeqCst);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.abandon();
    }
}
