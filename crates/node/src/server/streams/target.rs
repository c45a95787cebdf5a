//! What a request is about: a running container, or a pod's network.

use std::sync::Arc;

use axum::{http::StatusCode, response::Response};
use skiff_reconcile::ObjectKey;
use skiff_runtime::{Connection, Error, Runtime};

use crate::{agent::Agent, mailbox::PodHandle, server::refuse};

pub(super) fn pod(agent: &Agent, namespace: String, name: String) -> Result<Arc<PodHandle>, Box<Response>> {
    let key = ObjectKey::new(namespace, name);
    let missing = || Box::new(refuse(StatusCode::NOT_FOUND, format!("pod \"{key}\" not found")));
    agent.by_name(&key).ok_or_else(missing)
}

/// A container that runs.
pub(super) struct Container {
    pub runtime: Arc<dyn Runtime>,
    pub id: Arc<str>,
}

pub(super) fn container(agent: &Agent, pod: &PodHandle, name: &str) -> Result<Container, Box<Response>> {
    let snapshot = pod.snapshot.borrow();
    let Some((_, runtime, id)) = snapshot.running.iter().find(|(of, ..)| of == name) else {
        // Upstream's words for one that waits, has ended or is unknown.
        let message = format!("container not found (\"{name}\")");
        return Err(Box::new(refuse(StatusCode::INTERNAL_SERVER_ERROR, message)));
    };
    Ok(Container { runtime: agent.runtime(*runtime).clone(), id: id.clone() })
}

/// Connects to a port of a pod.
pub(super) async fn dial(agent: &Agent, pod: &PodHandle, port: u16) -> Result<Box<dyn Connection>, Error> {
    let running = pod.snapshot.borrow().running.first().map(|(_, runtime, id)| (*runtime, id.clone()));
    let Some((runtime, id)) = running else {
        return Err(Error::InvalidState(format!("no container of pod {} runs", pod.key)));
    };
    let runtime = agent.runtime(runtime);
    let sandbox = runtime.container_status(&id).await?.sandbox;
    runtime.dial(&sandbox, port).await
}
