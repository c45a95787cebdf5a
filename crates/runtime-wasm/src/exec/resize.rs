//! The size of a terminal, as its client tells it. No interface of WASI gives it to a guest; built-in tools use it.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use futures::future::BoxFuture;
use skiff_runtime::{Exit, Result, TerminalSize};
use tokio::sync::mpsc;

/// Sizes told and not taken in yet: the sender waits beyond.
const SIZES_MAX: usize = 16;

/// The last size told; 0 × 0 before the first.
#[derive(Default)]
pub struct Size(AtomicU32);

impl Size {
    fn set(&self, size: TerminalSize) {
        self.0.store(u32::from(size.width) << 16 | u32::from(size.height), Ordering::Relaxed);
    }

    pub fn get(&self) -> Option<TerminalSize> {
        let both = self.0.load(Ordering::Relaxed);
        let size = TerminalSize { width: (both >> 16) as u16, height: both as u16 };
        (size.width > 0 && size.height > 0).then_some(size)
    }
}

/// Takes in the sizes told while somebody waits for the exit.
pub fn channel(
    size: Option<Arc<Size>>,
    exit: impl Future<Output = Result<Exit>> + Send + 'static,
) -> (Option<mpsc::Sender<TerminalSize>>, BoxFuture<'static, Result<Exit>>) {
    let Some(size) = size else { return (None, Box::pin(exit)) };
    let (sender, mut sizes) = mpsc::channel(SIZES_MAX);
    let exit = async move {
        tokio::pin!(exit);
        loop {
            tokio::select! {
                exit = &mut exit => return exit,
                Some(new) = sizes.recv() => size.set(new),
            }
        }
    };
    (Some(sender), Box::pin(exit))
}
