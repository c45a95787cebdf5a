//! How an image comes here: pulled or loaded, kept, compiled, named.

use std::sync::Arc;

use futures::FutureExt as _;
use skiff_runtime::{Credentials, Error, Image, ImageSource, Result, reference::Reference};

use super::shared::{Shared, Started, blocking};
use crate::{
    compile, first_start,
    images::{self, Content, RunConfig},
    layout, module,
    program::Machine,
    registry,
};

impl Shared {
    /// Compiles what was fetched and names it.
    async fn admit(self: &Arc<Self>, name: Reference, content: Content) -> Result<Image> {
        let unusable = |reason: String| Error::ImageUnusable { image: name.to_string(), reason };
        let module = images::digest(&content.module);
        let Started { machine, machines, .. } = self.started().await?;
        let (shared, digest) = (self.clone(), module.clone());
        let content = blocking(move || {
            shared.images.keep(&digest, &content.module).map_err(disk)?;
            Ok(content)
        })
        .await?;
        let (shared, digest) = (self.clone(), module.clone());
        let read = move || shared.images.read(&digest);
        let compiled = if self.config.fast_first_start {
            first_start::compile(&self.compiler, &machines, &module, content.module.len(), read).await
        } else {
            self.compiler.program(&machine, &module, read).await.map(drop)
        };
        let compiled = match compiled {
            Ok(()) => self.compile_others(&machine, &content, &module).await,
            failed => failed,
        };
        match compiled {
            // A pod may ask for them: then it is compiled when a container of it is created.
            Ok(()) | Err(compile::Failure::Features(_)) => {}
            Err(failure) => return Err(unusable(failure.to_string())),
        }
        let shared = self.clone();
        blocking(move || {
            let (image, gone) = shared.images.add(&name, &content, &module).map_err(disk)?;
            shared.forget(gone);
            Ok(image)
        })
        .await
    }

    /// The further modules of a Spin application.
    async fn compile_others(
        self: &Arc<Self>,
        machine: &Arc<Machine>,
        content: &Content,
        compiled: &str,
    ) -> Result<(), compile::Failure> {
        let others = content.app.iter().flat_map(|app| &app.modules).filter(|(digest, _)| digest != compiled);
        for (digest, bytes) in others {
            let bytes = bytes.clone();
            self.compiler.program(machine, digest, move || Ok(bytes)).await?;
        }
        Ok(())
    }

    /// Concurrent pulls of one reference with the same credentials share one.
    pub(super) async fn pull_shared(
        self: &Arc<Self>,
        name: Reference,
        credentials: Option<Credentials>,
    ) -> Result<Image> {
        let user = credentials.as_ref().map(|c| (c.username.clone(), c.password.clone())).unwrap_or_default();
        let key = (name.to_string(), user);
        let pull = {
            let mut pulls = self.pulls.lock();
            // One that has ended is nobody's to share: the tag may have moved since.
            pulls.retain(|_, pull| pull.peek().is_none());
            let shared = self.clone();
            let start = || async move { shared.pull(name, credentials).await }.boxed().shared();
            pulls.entry(key).or_insert_with(start).clone()
        };
        let result = pull.await;
        // Nor is a password kept for longer than it is used.
        self.pulls.lock().retain(|_, pull| pull.peek().is_none());
        result
    }

    async fn pull(self: Arc<Self>, name: Reference, credentials: Option<Credentials>) -> Result<Image> {
        let known = |id: &str| matches!(self.images.find(id), Ok(Some(_)));
        let pulled = registry::pull(&self.config.registry, &name, credentials, &self.config.signatures, known).await;
        let image = name.to_string();
        match pulled {
            Ok(registry::Pulled::New(content)) => self.admit(name, *content).await,
            Ok(registry::Pulled::Known { id, digests, signed_by }) => {
                let shared = self.clone();
                let named =
                    blocking(move || shared.images.name(&name, &id, &digests, signed_by.as_deref()).map_err(disk))
                        .await?;
                let gone_meanwhile =
                    || Error::ImagePull { image, reason: "it was removed while it was pulled".to_owned() };
                let (image, gone) = named.ok_or_else(gone_meanwhile)?;
                self.forget(gone);
                Ok(image)
            }
            Err(registry::Failure::Pull(reason)) => Err(Error::ImagePull { image, reason }),
            Err(registry::Failure::Unusable(reason)) => Err(Error::ImageUnusable { image, reason }),
        }
    }

    /// Whether the node's policy lets an image that is here go by that name.
    pub(super) fn admits(&self, name: &str, record: &images::Record) -> bool {
        let name = Reference::parse(name);
        name.map_or(true, |name| self.config.signatures.admits(&name, &record.signed_by))
    }

    pub(super) fn forget(&self, modules: Vec<String>) {
        for module in modules {
            self.compiler.forget(&module);
        }
    }

    /// Takes an image from a file.
    pub(super) async fn load(self: &Arc<Self>, reference: &str, source: ImageSource) -> Result<Image> {
        let name = Reference::parse(reference)?;
        if name.digest.is_some() {
            return Err(Error::Invalid(format!("{reference:?}: what is loaded is named by a tag, not by a digest")));
        }
        if let Some(rule) = self.config.signatures.rule(&name) {
            let reason = format!("what is loaded from a file cannot be checked, and {}", rule.describe());
            return Err(Error::ImageUnusable { image: name.to_string(), reason });
        }
        let image = name.to_string();
        let runtime = tokio::runtime::Handle::current();
        let content = blocking(move || {
            let unusable = |reason| Error::ImageUnusable { image, reason };
            match source {
                ImageSource::Module(bytes) => {
                    let module = module::read(&bytes).map_err(unusable)?;
                    let id = images::digest(&module);
                    Ok(Content {
                        digests: vec![id.clone()],
                        id,
                        module,
                        run: RunConfig::default(),
                        signed_by: None,
                        app: None,
                    })
                }
                ImageSource::OciLayoutTar(bytes) => runtime.block_on(layout::read(&bytes)).map_err(unusable),
            }
        })
        .await?;
        self.admit(name, content).await
    }
}

fn disk(error: std::io::Error) -> Error {
    Error::Internal(format!("failed to write an image: {error}"))
}
