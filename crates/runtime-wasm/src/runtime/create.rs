//! Making a container: what it wants is checked against what is here, and nothing runs yet.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use parking_lot::Mutex;
use skiff_runtime::{ContainerConfig, ContainerId, Error, Result};
use tokio::sync::SetOnce;

use super::shared::Shared;
use crate::{
    charge::Account,
    exec::{Hub, Processes},
    files, http,
    images::RunConfig,
    lanes::Bucket,
    limits::Usage,
    messages,
    net::ContainerNet,
    options::{self, Setup},
    process::{self, Process},
    spin::{self, Plan, Served},
    wall,
};

impl Shared {
    /// Checks what the container wants against what is here, and makes its process, not yet started.
    pub(super) async fn create(self: &Arc<Self>, sandbox: &str, config: ContainerConfig) -> Result<ContainerId> {
        let shared = self;
        let pod = shared.ledger.sandbox_config(sandbox)?;
        let name = if config.image_id.is_empty() { &config.image } else { &config.image_id };
        let Some((image_id, image)) = shared.images.find(name)? else {
            return Err(Error::NotFound { what: "image", id: name.clone() });
        };
        let invalid = |reason: String| Error::Invalid(format!("container {:?}: {reason}", config.name));
        if !shared.admits(&config.image, &image) {
            let reason = "the node's image policy wants a signature, and none was checked".to_owned();
            return Err(Error::ImageUnusable { image: config.image, reason });
        }
        let machines = shared.started().await?.machines;
        let node = options::Node {
            machines: &machines,
            fast_first_start: shared.config.fast_first_start.then_some((&*shared.compiler, &*image.module)),
            budget: &shared.budget,
            stores: &shared.stores,
            root: &shared.config.root,
            memory_bytes_default: shared.config.memory_bytes_default,
        };
        let setup = Setup::of(&node, &config, &pod).map_err(invalid)?;
        let (reader, module) = (shared.clone(), image.module.clone());
        let program = setup
            .program(&shared.compiler, &image.module, move || reader.images.read(&module))
            .await
            .map_err(|failure| Error::ImageUnusable { image: config.image.clone(), reason: failure.to_string() })?;
        let args = process::arguments(&config, &image.run);
        let entry = process::entry(&args);
        program.check(entry.as_deref()).map_err(invalid)?;
        files::check(&config.mounts).map_err(invalid)?;
        wall::limit(&config.annotations).map_err(invalid)?;
        let RunConfig { working_dir, .. } = &image.run;
        let mut env = process::environment(&config, &pod, &image.run);
        process::check(&args, &env).map_err(invalid)?;
        let server = http::Control::of(&program, &config, &pod, &env).map_err(invalid)?;
        let app = match &image.app {
            Some(app) => Some(shared.application(app, &image_id, &setup, &env, &config).await?),
            None => None,
        };
        if server.is_some() {
            env.retain(|(name, _)| !http::for_host(name));
        }
        let usage = Arc::new(Usage::default());
        let memory_bytes_max = config.resources.memory_bytes_max.unwrap_or(shared.config.memory_bytes_default);
        let account = Account::new(memory_bytes_max, usage.clone(), shared.budget.clone());
        let root = shared.containers_directory().join(unique());
        let process = Process {
            setup,
            program,
            entry,
            env,
            args,
            working_dir: config.working_dir.clone().or_else(|| working_dir.clone()),
            storage: shared.storages.container(&Arc::from(sandbox), &pod, &config, root.clone()),
            root,
            preopens: SetOnce::new(),
            usage_main: Usage::of(&usage),
            usage,
            bucket: config.resources.cpu_millis_max.map(|millis| Arc::new(Mutex::new(Bucket::new(millis)))),
            processes: Processes::default(),
            hub: Hub::new(config.stdin, config.stdin_once, config.tty, account.clone()),
            net: ContainerNet::new(shared.net(sandbox)?, account.clone()),
            account,
            log: Mutex::default(),
            kill: Mutex::default(),
            server,
            app,
        };
        let first = config.attempt == 0 && shared.ledger.containers(Some(sandbox)).is_empty();
        let container = shared.ledger.create(sandbox, config, process)?;
        if first && let Some(message) = messages::engines::substituted(&pod.runtime_handler) {
            shared.ledger.warn(&container, messages::engines::REASON, message);
        }
        Ok(container.id.clone())
    }

    /// What a container with a Spin application serves.
    async fn application(
        self: &Arc<Self>,
        app: &spin::App,
        image_id: &str,
        setup: &Setup,
        env: &[(String, String)],
        config: &ContainerConfig,
    ) -> Result<Arc<Served>> {
        let invalid = |reason: String| Error::Invalid(format!("container {:?}: {reason}", config.name));
        let plan = Plan::of(app, env).map_err(invalid)?;
        let mut programs = Vec::new();
        for component in &plan.app.components {
            let (reader, module) = (self.clone(), component.module.clone());
            let unusable = |reason: String| {
                let reason = format!("Spin component {:?}: {reason}", component.id);
                Error::ImageUnusable { image: config.image.clone(), reason }
            };
            let program = setup.program(&self.compiler, &component.module, move || reader.images.read(&module)).await;
            let program = program.map_err(|failure| unusable(failure.to_string()))?;
            program.check(None).map_err(unusable)?;
            if !program.serves() {
                return Err(unusable(
                    "it exports no wasi:http/incoming-handler, which an HTTP trigger needs".to_owned(),
                ));
            }
            programs.push(program);
        }
        plan.serve(programs, env, &self.images.files(image_id)).map(Arc::new).map_err(invalid)
    }
}

/// A directory name that no other container of this process has.
fn unique() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed).to_string()
}
