//! What a terminal's driver does between a client in raw mode and a process that reads lines.
//!
//! There is no terminal device. Typed lines are edited here (backspace, ctrl-u), shown as they are typed, and given to the
//! process when they are complete; ctrl-d on an empty line is the end of its stdin, ctrl-c ends the process with 130
//! (128 + SIGINT). What the process prints gets a carriage return before each newline ([`Pipe::terminal`]).

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::AsyncWrite;

use super::pipe::{Pipe, PipeWriter};

/// As Linux' terminals: what is typed beyond is refused with a bell.
const LINE_BYTES_MAX: usize = 4096;

const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;
const BACKSPACE: u8 = 8;
const CTRL_U: u8 = 21;
const DELETE: u8 = 127;

pub struct Terminal {
    stdin: PipeWriter,
    echo: Pipe,
    interrupt: Box<dyn Fn() + Send + Sync>,
    line: Vec<u8>,
    /// Complete, on its way.
    ready: Vec<u8>,
    /// Ends after what is on its way.
    ending: bool,
}

impl Terminal {
    pub fn new(stdin: PipeWriter, echo: Pipe, interrupt: impl Fn() + Send + Sync + 'static) -> Self {
        let interrupt = Box::new(interrupt);
        Self { stdin, echo, interrupt, line: Vec::new(), ready: Vec::new(), ending: false }
    }

    /// Takes one byte that was typed.
    fn typed(&mut self, byte: u8) {
        match byte {
            CTRL_C => {
                self.echo.offer(b"^C\n");
                (self.interrupt)();
            }
            CTRL_D if self.line.is_empty() => self.ending = true,
            CTRL_D => self.ready.append(&mut self.line),
            b'\r' | b'\n' => {
                self.echo.offer(b"\n");
                self.line.push(b'\n');
                self.ready.append(&mut self.line);
            }
            BACKSPACE | DELETE => self.rub_out(),
            CTRL_U => {
                while !self.line.is_empty() {
                    self.rub_out();
                }
            }
            _ if self.line.len() >= LINE_BYTES_MAX => self.echo.offer(b"\x07"),
            _ => {
                self.line.push(byte);
                match byte {
                    0..32 => self.echo.offer(&[b'^', byte + b'@']),
                    _ => self.echo.offer(&[byte]),
                }
            }
        }
    }

    fn rub_out(&mut self) {
        // A character may have several bytes.
        while let Some(byte) = self.line.pop() {
            if byte & 0xC0 != 0x80 {
                let width = if byte < 32 { 2 } else { 1 };
                self.echo.offer(&b"\x08 \x08".repeat(width));
                return;
            }
        }
    }

    /// Until what is complete has arrived.
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.ready.is_empty() {
            let count = ready!(Pin::new(&mut self.stdin).poll_write(context, &self.ready))?;
            self.ready.drain(..count);
        }
        if self.ending {
            self.stdin.pipe.end();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_ready(context))?;
        let mut taken = 0;
        // One line at a time: the process may be slower than who types.
        while taken < bytes.len() && self.ready.is_empty() && !self.ending {
            self.typed(bytes[taken]);
            taken += 1;
        }
        // What is typed after the end is for nobody.
        let taken = if self.ending { bytes.len() } else { taken };
        match self.poll_ready(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(taken)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_ready(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_ready(context))?;
        Pin::new(&mut self.stdin).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    use tokio::io::AsyncWriteExt as _;

    use super::*;
    use crate::charge::Account;

    /// What the process read, what was shown, and whether it was interrupted.
    async fn typed(keys: &[u8]) -> (Vec<u8>, Vec<u8>, bool) {
        let account = Account::unlimited();
        let (pipe, echo) = (Pipe::new(&account), Pipe::new(&account).terminal());
        let interrupted = Arc::new(AtomicBool::new(false));
        let told = interrupted.clone();
        let stdin = PipeWriter { pipe: pipe.clone(), keep: false };
        let mut terminal = Terminal::new(stdin, echo.clone(), move || told.store(true, Ordering::Relaxed));
        terminal.write_all(keys).await.expect("written");
        let read = pipe.get(1000).unwrap_or_default();
        (read, echo.get(1000).unwrap_or_default(), interrupted.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn lines_are_edited_shown_and_sent_when_complete() {
        type Row<'a> = (&'a [u8], &'a [u8], &'a [u8], bool);
        let rows: &[Row<'_>] = &[
            (b"hi\r", b"hi\n", b"hi\r\n", false),
            (b"hi", b"", b"hi", false),
            (b"ab\x7fc\r", b"ac\n", b"ab\x08 \x08c\r\n", false),
            ("\u{e9}\u{7f}x\r".as_bytes(), b"x\n", "\u{e9}\x08 \x08x\r\n".as_bytes(), false),
            (b"no\x15yes\r", b"yes\n", b"no\x08 \x08\x08 \x08yes\r\n", false),
            (b"a\rb\r\x04c", b"a\nb\n", b"a\r\nb\r\n", false),
            (b"x\x03", b"", b"x^C\r\n", true),
        ];
        for (keys, read, shown, interrupted) in rows {
            let found = typed(keys).await;
            assert_eq!(found, (read.to_vec(), shown.to_vec(), *interrupted), "{:?}", String::from_utf8_lossy(keys));
        }
    }
}
