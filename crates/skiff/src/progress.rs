//! Progress of long work on stderr, when it is a terminal; nothing otherwise.

use std::{io::IsTerminal, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A spinner with a message. Cloning shares it.
#[derive(Clone)]
pub struct Progress(ProgressBar);

impl Progress {
    pub fn start(message: impl Into<String>) -> Self {
        let bar = ProgressBar::new_spinner();
        if std::io::stderr().is_terminal() {
            bar.enable_steady_tick(Duration::from_millis(100));
        } else {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        let style = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.set_message(message.into());
        Self(bar)
    }

    pub fn say(&self, message: impl Into<String>) {
        self.0.set_message(message.into());
    }

    /// Prints to stdout without tearing the spinner.
    pub fn print(&self, line: &str) {
        use std::io::Write;
        self.0.suspend(|| {
            // A reader that went away (`| head`) is no error of ours.
            let _ = writeln!(std::io::stdout(), "{line}");
        });
    }

    /// Prints to stderr without tearing the spinner.
    pub fn warn(&self, line: &str) {
        self.0.suspend(|| eprintln!("{line}"));
    }

    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}
