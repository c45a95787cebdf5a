//! The user's terminal, handed over to a process: keys go through as they are, and its size is told.

use std::io::{IsTerminal, stdin, stdout};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// Raw until it is dropped.
pub struct Raw(Termios);

impl Raw {
    /// `None` where stdin is no terminal.
    pub fn enter() -> Option<Self> {
        let before = stdin().is_terminal().then(|| tcgetattr(stdin()).ok()).flatten()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // There is nobody to tell, and nothing else to try.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.0);
    }
}

/// Columns and rows.
pub fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(stdout()).or_else(|_| tcgetwinsize(stdin())).ok()?;
    Some((size.ws_col, size.ws_row))
}
