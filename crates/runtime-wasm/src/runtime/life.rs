//! A container's life after it was made: started, stopped, finished.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use skiff_runtime::{ContainerState, Exit, Result, ledger::Container};
use tokio::sync::oneshot;

use super::shared::{Shared, Started};
use crate::{
    exec::{Output, Stdio},
    files,
    http::Seat,
    lanes::Metered,
    log::Log,
    process::{Process, Run},
};

impl Shared {
    pub(super) fn end(&self, container: &Container<Process>, exit: Exit) {
        let mut kill = container.extra.kill.lock();
        match kill.take() {
            // It runs: its own task reports the exit.
            Some(kill) => drop(kill.send(exit)),
            None if container.state() == ContainerState::Created => {
                self.ledger.exited(container, exit);
            }
            None => {}
        }
    }

    /// Asks it to end: at once, but a server may finish its requests within the grace.
    pub(super) async fn stop(&self, container: &Container<Process>, grace: Duration) {
        let server = container.extra.server.as_ref().filter(|_| container.state() == ContainerState::Running);
        if let Some(server) = server.filter(|_| !grace.is_zero()) {
            server.drain.cancel();
            if tokio::time::timeout(grace, container.wait_exited()).await.is_ok() {
                return;
            }
            self.end(container, Exit::killed());
        } else {
            self.end(container, if grace.is_zero() { Exit::killed() } else { Exit::terminated() });
        }
        container.wait_exited().await;
    }

    /// After the main process is gone: what was exec'd ends, then the container.
    fn finish(self: Arc<Self>, container: Arc<Container<Process>>, exit: Exit) {
        if container.extra.processes.close() {
            return self.finished(&container, exit);
        }
        // On the thread of a lane, within its runtime.
        tokio::runtime::Handle::current().spawn(async move {
            container.extra.processes.quiet().await;
            self.finished(&container, exit);
        });
    }

    /// The log is complete, the files are read and removed, then the exit is told.
    fn finished(&self, container: &Container<Process>, mut exit: Exit) {
        let process = &container.extra;
        if let Some(log) = &*process.log.lock()
            && let Err(error) = log.finish()
        {
            tracing::warn!(container = &*container.id, error = %error, "end of a log not written");
        }
        if exit.message.is_empty()
            && let Some(path) = &container.config.termination_message_path
        {
            exit.message = files::termination_message(&process.root, &container.config.mounts, path);
        }
        files::remove(&process.root, container.config.termination_message_path.as_deref());
        process.kill.lock().take();
        self.give_slot_back();
        self.ledger.exited(container, exit.clone());
        process.hub.ended(&exit);
    }

    pub(super) fn start(self: &Arc<Self>, container: Arc<Container<Process>>, started: Started) -> Result<()> {
        let process = &container.extra;
        self.take_slot()?;
        let (sender, receiver) = oneshot::channel();
        let log = self.enter(&container, sender).inspect_err(|_| self.give_slot_back())?;
        let hub = &process.hub;
        let run = Run {
            main: true,
            entry: process.entry.clone(),
            args: process.args.clone(),
            stdio: Stdio {
                stdin: hub.stdin.clone(),
                output: Output::Log { log: log.clone(), attached: hub.clone() },
                tty: hub.tty(),
            },
            usage: process.usage_main.clone(),
        };
        log.counts_on(process.storage.clone(), process.account.clone());
        let (shared, ended) = (Arc::downgrade(self), Arc::downgrade(&container));
        process.storage.ends_with(move |exit| {
            if let (Some(shared), Some(container)) = (shared.upgrade(), ended.upgrade()) {
                shared.end(&container, exit);
            }
        });
        let (shared, silent) = (Arc::downgrade(self), Arc::downgrade(&container));
        log.tells(move |message| {
            if let (Some(shared), Some(container)) = (shared.upgrade(), silent.upgrade()) {
                shared.ledger.warn(&container, "FailedToWriteLog", message);
            }
        });
        let mut guest = self.metered(&container, &started, run, receiver);
        guest.log = Some(log);
        let shared = self.clone();
        started.lanes.spawn(guest, move |exit| shared.finish(container, exit));
        Ok(())
    }

    /// A process of a container, ready to be driven.
    pub(crate) fn metered(
        self: &Arc<Self>,
        container: &Arc<Container<Process>>,
        started: &Started,
        run: Run,
        kill: oneshot::Receiver<Exit>,
    ) -> Metered {
        let yielded = Arc::new(AtomicBool::new(false));
        let usage = run.usage.clone();
        let bucket = container.extra.bucket.clone();
        let (seat, kill) = self.seat(container, started, run.main, kill);
        Metered {
            guest: Box::pin(self.clone().guest(container.clone(), run, yielded.clone(), seat)),
            kill,
            yielded,
            usage,
            ticker: started.ticker.clone(),
            log: None,
            bucket,
            slices: 0,
            pause: None,
        }
    }

    /// A server's place, and the means to kill a process: a server's requests end before it does, so it has them itself.
    fn seat(
        &self,
        container: &Container<Process>,
        started: &Started,
        main: bool,
        kill: oneshot::Receiver<Exit>,
    ) -> (Option<Seat>, Option<oneshot::Receiver<Exit>>) {
        let process = &container.extra;
        let control = process.server.as_ref().filter(|_| main);
        let (Some(control), Some(log)) = (control.cloned(), process.log.lock().clone()) else {
            return (None, Some(kill));
        };
        let net = process.net.pod.clone();
        let (lanes, ticker, bucket) = (started.lanes.clone(), started.ticker.clone(), process.bucket.clone());
        let slots = self.request_slots.clone();
        (Some(Seat { control, net, lanes, ticker, bucket, slots, log, kill }), None)
    }

    /// created → running, once, with its log and the means to end it.
    fn enter(&self, container: &Container<Process>, sender: oneshot::Sender<Exit>) -> Result<Log> {
        let config = &container.config;
        let log = Log::new(config.log_path.clone(), config.log_bytes_max, config.log_files_max);
        // Held over both steps: who stops it meanwhile finds it created, or running with the means to end it.
        let mut kill = container.extra.kill.lock();
        self.ledger.started(container)?;
        *kill = Some(sender);
        *container.extra.log.lock() = Some(log.clone());
        Ok(log)
    }
}
