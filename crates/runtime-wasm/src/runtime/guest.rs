//! One process of a container on its thread: its files and listeners are made, then it runs to its end.

use std::sync::{Arc, atomic::AtomicBool};

use futures::FutureExt as _;
use skiff_runtime::{Exit, ledger::Container};

use super::shared::Shared;
use crate::{
    files,
    guest::{self, Launch},
    http::Seat,
    net::p1::Listening,
    process::{Process, Run, Warn},
    wall,
};

impl Shared {
    /// Makes what tells the user about this container.
    pub(super) fn warn(self: &Arc<Self>, container: &Arc<Container<Process>>) -> Warn {
        let (shared, container) = (self.clone(), container.clone());
        Arc::new(move |reason, message| shared.ledger.warn(&container, reason, message))
    }

    /// What a program accepts on: the main process has the container's ports, another has none.
    async fn listening(&self, container: &Container<Process>, main: bool) -> Result<Option<Listening>, String> {
        let process = &container.extra;
        if !process.program.accepts || !main {
            return Ok(None);
        }
        let placeholder = self.config.root.join("empty");
        Listening::open(&process.net.pod, &container.config.ports, placeholder).await.map(Some)
    }

    pub(super) async fn guest(
        self: Arc<Self>,
        container: Arc<Container<Process>>,
        run: Run,
        yielded: Arc<AtomicBool>,
        seat: Option<Seat>,
    ) -> Exit {
        let process = &container.extra;
        let config = &container.config;
        let preopens = if run.main { lay_out(&container) } else { Ok(process.preopens.wait().await.clone()) };
        let preopens = match preopens {
            Ok(preopens) => preopens,
            Err(error) => {
                let message = format!("failed to make the container's files: {error}");
                return Exit { code: 128, reason: "StartError", message };
            }
        };
        let listening = match self.listening(&container, run.main).await {
            Ok(listening) => listening,
            Err(message) => return Exit { code: 128, reason: "StartError", message },
        };
        let main = run.main;
        let launch = Launch {
            setup: process.setup.clone(),
            program: process.program.clone(),
            entry: run.entry,
            args: run.args,
            env: process.env.clone(),
            working_dir: process.working_dir.clone(),
            preopens,
            stdio: run.stdio,
            usage: run.usage,
            storage: process.storage.clone(),
            budget: self.budget.clone(),
            memory_bytes_max: config.resources.memory_bytes_max.unwrap_or(self.config.memory_bytes_default),
            yielded,
            net: process.net.clone(),
            listening,
            warn: self.warn(&container),
            seat,
            app: process.app.clone(),
            part: None,
        };
        // Checked when it was created.
        let limit = wall::limit(&config.annotations).unwrap_or_default().filter(|_| main);
        let run = std::panic::AssertUnwindSafe(wall::within(limit, guest::run(launch))).catch_unwind();
        run.await.unwrap_or_else(|_| Exit {
            code: 128,
            reason: "StartError",
            message: "the host failed while it ran this container; its log tells more".to_owned(),
        })
    }
}

/// Makes what the processes of a container see of files.
fn lay_out(container: &Container<Process>) -> std::io::Result<Arc<[files::Preopen]>> {
    let (process, config) = (&container.extra, &container.config);
    let message_path = config.termination_message_path.as_deref();
    let private = process.program.opens_files;
    let preopens: Arc<[_]> = files::lay_out(&process.root, private, &config.mounts, message_path)?.into();
    let _ = process.preopens.set(preopens.clone());
    Ok(preopens)
}
