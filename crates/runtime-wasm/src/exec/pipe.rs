//! A bounded pipe in memory between a guest and whoever talks to it.
//!
//! What must stay true: it never holds more than twice its capacity; what it holds counts as its container's memory, and
//! where there is none left it holds [`FREE_BYTES`]; a side that waits holds no thread; when one side is gone the other is
//! told. The guest's ends are in [`super::stdio`], the ends of this file are those of the host.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::charge::{Account, Charge};

/// Bytes that a pipe holds before its writer waits.
pub const PIPE_BYTES: usize = 64 << 10;
/// What it holds without being counted: a container that has no memory left can still be talked to, slowly.
pub const FREE_BYTES: usize = 4 << 10;
/// Tasks that may wait for one side. More than one only if a guest polls a stream in several ways at once.
const WAITING_MAX: usize = 8;

/// Both ends; which of them somebody holds is told by closing the other.
#[derive(Clone)]
pub struct Pipe(Arc<Mutex<State>>);

struct State {
    bytes: VecDeque<u8>,
    capacity: usize,
    /// For the most that it may hold, taken when somebody writes, given back when it is empty.
    charge: Charge,
    /// Nothing more will be written.
    ended: bool,
    /// Nothing more will be read.
    broken: bool,
    readers: Vec<Waker>,
    writers: Vec<Waker>,
    /// Bytes that found no room, not told to the reader yet.
    lost: u64,
    /// Nobody wants what is written: it is gone at once.
    sink: bool,
    /// A carriage return goes before each newline.
    terminal: bool,
}

impl State {
    /// What it may hold before writers wait; less where the container has no memory for a whole buffer.
    fn limit(&mut self) -> usize {
        // Two streams may each fill it, and a terminal doubles newlines.
        let most = 2 * self.capacity * if self.terminal { 2 } else { 1 };
        let counted = self.sink || self.charge.at_least(most as u64).is_ok();
        if counted { self.capacity } else { self.capacity.min(FREE_BYTES) }
    }

    /// Room for a writer.
    fn room(&mut self) -> usize {
        self.limit().saturating_sub(self.bytes.len())
    }

    fn emptied(&mut self) {
        // A parked guest keeps no buffer for what was said long ago.
        if self.bytes.capacity() > FREE_BYTES {
            self.bytes = VecDeque::new();
        }
        self.charge.at_most(0);
    }

    fn take(&mut self, into: &mut [u8]) -> usize {
        let count = into.len().min(self.bytes.len());
        let (front, back) = self.bytes.as_slices();
        let first = count.min(front.len());
        into[..first].copy_from_slice(&front[..first]);
        into[first..count].copy_from_slice(&back[..count - first]);
        self.bytes.drain(..count);
        wake(&mut self.writers);
        if self.bytes.is_empty() {
            self.emptied();
        }
        count
    }

    fn put(&mut self, bytes: &[u8]) {
        if self.sink {
            return;
        }
        if self.terminal {
            for byte in bytes {
                match byte {
                    b'\n' => self.bytes.extend(b"\r\n"),
                    byte => self.bytes.push_back(*byte),
                }
            }
        } else {
            self.bytes.extend(bytes);
        }
        wake(&mut self.readers);
    }
}

fn wake(waiting: &mut Vec<Waker>) {
    waiting.drain(..).for_each(Waker::wake);
}

fn wait(waiting: &mut Vec<Waker>, context: &Context<'_>) {
    if waiting.iter().any(|known| known.will_wake(context.waker())) {
        return;
    }
    if waiting.len() >= WAITING_MAX {
        // Woken in vain is harmless; forgotten is not.
        waiting.remove(0).wake();
    }
    waiting.push(context.waker().clone());
}

impl Pipe {
    pub fn new(account: &Account) -> Self {
        Self::with_capacity(PIPE_BYTES, account)
    }

    pub fn with_capacity(capacity: usize, account: &Account) -> Self {
        let state = State {
            bytes: VecDeque::new(),
            capacity,
            charge: account.nothing(),
            ended: false,
            broken: false,
            readers: Vec::new(),
            writers: Vec::new(),
            lost: 0,
            sink: false,
            terminal: false,
        };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Takes whatever is written, for nobody.
    pub fn sink(account: &Account) -> Self {
        let pipe = Self::new(account);
        pipe.0.lock().sink = true;
        pipe
    }

    /// The same pipe for what a terminal shows.
    pub fn terminal(self) -> Self {
        self.0.lock().terminal = true;
        self
    }

    /// No more is written: who reads gets what is there, then the end.
    pub fn end(&self) {
        let mut state = self.0.lock();
        tell_lost(&mut state);
        state.ended = true;
        wake(&mut state.readers);
    }

    /// No more is read: who writes is told so.
    pub fn break_off(&self) {
        let mut state = self.0.lock();
        state.broken = true;
        state.bytes.clear();
        state.emptied();
        wake(&mut state.writers);
    }

    pub fn is_broken(&self) -> bool {
        self.0.lock().broken
    }

    /// Room for a writer now.
    ///
    /// # Errors
    /// `BrokenPipe` when nobody reads any more.
    pub fn room(&self) -> io::Result<usize> {
        let mut state = self.0.lock();
        if state.broken || state.ended { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(state.room()) }
    }

    /// Puts it in if there is twice as much room as a writer is promised: two streams may share the pipe.
    ///
    /// # Errors
    /// `BrokenPipe` when nobody reads any more, `OutOfMemory` when it is more than was promised.
    pub fn put(&self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock();
        if state.broken || state.ended {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if state.bytes.len() + bytes.len() > 2 * state.capacity {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        state.put(bytes);
        Ok(())
    }

    /// Puts in what has room and loses the rest, which the reader is told later. Never waits.
    pub fn offer(&self, bytes: &[u8]) {
        let mut state = self.0.lock();
        if state.broken || state.ended {
            return;
        }
        if state.lost > 0 && state.room() > state.limit() / 2 {
            tell_lost(&mut state);
        }
        if state.lost > 0 || bytes.len() > state.room() {
            state.lost += bytes.len() as u64;
        } else {
            state.put(bytes);
        }
    }

    /// What is there, at most `max` bytes; `None` at the end.
    pub fn get(&self, max: usize) -> Option<Vec<u8>> {
        let mut state = self.0.lock();
        if state.bytes.is_empty() && (state.ended || state.broken) {
            return None;
        }
        let mut taken = vec![0; max.min(state.bytes.len())];
        state.take(&mut taken);
        Some(taken)
    }

    /// Until there is something to read, or the end.
    pub fn poll_readable(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        if !state.bytes.is_empty() || state.ended || state.broken {
            return Poll::Ready(());
        }
        wait(&mut state.readers, context);
        Poll::Pending
    }

    /// Until there is room, or nobody reads.
    pub fn poll_writable(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        if state.room() > 0 || state.ended || state.broken {
            return Poll::Ready(());
        }
        wait(&mut state.writers, context);
        Poll::Pending
    }

    fn poll_get(&self, context: &Context<'_>, into: &mut [u8]) -> Poll<usize> {
        let mut state = self.0.lock();
        if state.bytes.is_empty() && !state.ended && !state.broken {
            wait(&mut state.readers, context);
            return Poll::Pending;
        }
        Poll::Ready(state.take(into))
    }

    pub fn poll_put(&self, context: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.0.lock();
        if state.broken || state.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if state.room() == 0 {
            wait(&mut state.writers, context);
            return Poll::Pending;
        }
        let count = bytes.len().min(state.room());
        state.put(&bytes[..count]);
        Poll::Ready(Ok(count))
    }
}

fn tell_lost(state: &mut State) {
    if state.lost > 0 {
        let note = format!("\n[{} bytes of output were not read in time and are lost here]\n", state.lost);
        state.lost = 0;
        state.put(note.as_bytes());
    }
}

/// The host's reading end: dropped, the pipe is broken.
pub struct PipeReader(pub Pipe);

impl AsyncRead for PipeReader {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let count = std::task::ready!(self.0.poll_get(context, into.initialize_unfilled()));
        into.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl Drop for PipeReader {
    fn drop(&mut self) {
        self.0.break_off();
    }
}

/// The host's writing end: dropped or shut down, the pipe ends, unless it is kept for another writer.
pub struct PipeWriter {
    pub pipe: Pipe,
    pub keep: bool,
}

impl AsyncWrite for PipeWriter {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.pipe.poll_put(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.keep {
            self.pipe.end();
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for PipeWriter {
    fn drop(&mut self) {
        if !self.keep {
            self.pipe.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::limits::{Budget, Usage};

    #[tokio::test]
    async fn a_full_pipe_holds_the_writer_back() {
        let pipe = Pipe::with_capacity(4, &Account::unlimited());
        let (mut reader, mut writer) = (PipeReader(pipe.clone()), PipeWriter { pipe, keep: false });
        let write = tokio::spawn(async move { writer.write_all(b"0123456789").await });
        let mut read = Vec::new();
        reader.read_to_end(&mut read).await.expect("reads");
        write.await.expect("ends").expect("writes");
        assert_eq!(read, b"0123456789");
    }

    #[tokio::test]
    async fn what_waits_counts_as_the_containers_memory() {
        let usage = Arc::new(Usage::default());
        let counted = || usage.memory_bytes.load(Ordering::Relaxed);
        let account = |max| Account::new(max, usage.clone(), Budget::new(Some(u64::MAX)));
        let pipe = Pipe::new(&account(1 << 20));
        assert_eq!(pipe.room().expect("it is open"), PIPE_BYTES);
        pipe.put(&[b'x'; PIPE_BYTES]).expect("there is room");
        assert!(counted() >= PIPE_BYTES as u64, "{} bytes counted", counted());
        assert_eq!(pipe.get(usize::MAX).expect("there").len(), PIPE_BYTES);
        assert_eq!(counted(), 0, "it is empty");
        let slow = Pipe::new(&account(1000));
        assert_eq!(slow.room().expect("it is open"), FREE_BYTES, "it works without memory");
        let (mut reader, mut writer) = (PipeReader(slow.clone()), PipeWriter { pipe: slow, keep: false });
        let write = tokio::spawn(async move { writer.write_all(&[b'x'; 100_000]).await });
        let mut read = Vec::new();
        reader.read_to_end(&mut read).await.expect("reads");
        write.await.expect("ends").expect("writes");
        assert_eq!((read.len(), counted()), (100_000, 0));
        pipe.put(b"gone").expect("there is room");
        drop(PipeReader(pipe));
        assert_eq!(counted(), 0, "nobody reads it");
    }

    #[tokio::test]
    async fn each_side_is_told_that_the_other_is_gone() {
        let pipe = Pipe::with_capacity(4, &Account::unlimited());
        let mut writer = PipeWriter { pipe: pipe.clone(), keep: false };
        drop(PipeReader(pipe.clone()));
        assert_eq!(writer.write(b"x").await.expect_err("broken").kind(), io::ErrorKind::BrokenPipe);
        assert!(pipe.is_broken());
    }

    #[tokio::test]
    async fn a_slow_reader_is_told_what_it_lost() {
        let pipe = Pipe::with_capacity(200, &Account::unlimited());
        pipe.offer(&[b'x'; 200]);
        pipe.offer(b"lost");
        assert_eq!(pipe.get(1000).expect("there").len(), 200);
        pipe.offer(b"new");
        pipe.end();
        let text = String::from_utf8(pipe.get(1000).expect("there")).expect("text");
        assert!(text.contains("[4 bytes of output") && text.ends_with("new"), "{text}");
        assert!(pipe.get(1).is_none());
    }
}
