//! Being woken when a log grows or is rotated. On Linux the kernel says so (inotify); elsewhere a timer looks four
//! times a second.

use std::{io, path::Path};

#[cfg(target_os = "linux")]
pub use linux::Watch;
#[cfg(not(target_os = "linux"))]
pub use other::Watch;

#[cfg(target_os = "linux")]
mod linux {
    use std::{mem::MaybeUninit, os::fd::OwnedFd};

    use rustix::fs::inotify;
    use tokio::io::unix::AsyncFd;

    use super::*;

    #[derive(Debug)]
    pub struct Watch {
        fd: AsyncFd<OwnedFd>,
    }

    impl Watch {
        /// Of a directory, which must be there.
        pub fn new(dir: &Path) -> io::Result<Self> {
            let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
            let what = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVE;
            inotify::add_watch(&fd, dir, what)?;
            // `new` is deprecated for types that do not own their descriptor; `OwnedFd` does.
            #[allow(deprecated)]
            let fd = AsyncFd::new(fd)?;
            Ok(Self { fd })
        }

        /// Returns once something happened since the last call. Safe to cancel.
        pub async fn changed(&mut self) -> io::Result<()> {
            let mut ready = self.fd.readable().await?;
            let mut buffer = [const { MaybeUninit::<u8>::uninit() }; 4096];
            let mut events = inotify::Reader::new(self.fd.get_ref(), &mut buffer);
            // What happened does not matter: the reader looks at the files.
            while events.next().is_ok() {}
            ready.clear_ready();
            Ok(())
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod other {
    use std::time::Duration;

    use super::*;

    #[derive(Debug)]
    pub struct Watch;

    impl Watch {
        pub fn new(_: &Path) -> io::Result<Self> {
            Ok(Self)
        }

        pub async fn changed(&mut self) -> io::Result<()> {
            tokio::time::sleep(Duration::from_millis(250)).await;
            Ok(())
        }
    }
}
