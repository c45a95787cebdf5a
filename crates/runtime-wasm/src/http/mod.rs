//! HTTP: components that export `wasi:http/incoming-handler` (0.2) or `wasi:http/handler` (0.3) are served on their pod's address, and every component may
//! send requests where its policy lets it.
//!
//! A connection is one task of the guests' lanes. A request's instance runs inside of it, with no hop to another thread, until
//! it has computed for [`crate::lanes::PROMPT_SLICES_MAX`] epochs; then it goes on as any other guest. Each request has a
//! fresh instance, unless the container says that one may answer several.
//!
//! What must stay true: a request's fault, time-out or memory ends that request and never the server; what a request holds
//! (its instance, its place, its memory) is free when it has ended, also when its client does not read; a response that a guest
//! did not finish never looks complete.
//!
//! Asked to stop, a server takes no more connections, finishes the requests that it has, and ends with 0, as servers do;
//! when its grace is over it is killed (137).

mod body;
mod call;
mod client;
mod components;
mod connection;
mod faults;
mod held;
mod outgoing;
mod request;
mod server;
mod service;
mod setting;
mod slots;
mod state;
mod tls;

use std::sync::Arc;

use skiff_runtime::{ContainerConfig, Exit, SandboxConfig};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

pub use client::add_0_3_to_linker;
pub use outgoing::Outgoing;
pub use server::serve;
pub use service::{HANDLER_0_3, Service};
pub use setting::for_host;
pub use slots::Slots;
pub use state::State;

use crate::{
    engine::Ticker,
    lanes::{Lanes, SharedBucket},
    log::Log,
    net::PodNet,
    program::{Program, Runnable},
};
use setting::{Setting, Words};

/// What the container of a server keeps from its creation on.
#[derive(Clone)]
pub struct Control {
    setting: Setting,
    /// Cancelled when it listens: a hook or probe right after its start finds it there.
    pub listens: CancellationToken,
    /// Cancelled when it is asked to stop.
    pub drain: CancellationToken,
}

impl Control {
    /// Of a server; none for other programs.
    ///
    /// # Errors
    /// A variable or annotation that cannot be read.
    pub fn of(
        program: &Program,
        config: &ContainerConfig,
        pod: &SandboxConfig,
        env: &[(String, String)],
    ) -> Result<Option<Self>, String> {
        if !matches!(program.runnable, Ok(Runnable::Server(_))) {
            return Ok(None);
        }
        let words = Words {
            env,
            annotations: [&config.annotations, &pod.annotations],
            ports: &config.ports,
            handler: &pod.runtime_handler,
        };
        let (listens, drain) = (CancellationToken::new(), CancellationToken::new());
        Ok(Some(Self { setting: Setting::read(&words)?, listens, drain }))
    }
}

/// A server's place in the node.
pub struct Seat {
    pub control: Control,
    pub net: Arc<PodNet>,
    pub lanes: Arc<Lanes>,
    pub ticker: Arc<Ticker>,
    pub bucket: Option<SharedBucket>,
    /// The node's instances for requests.
    pub slots: Arc<Slots>,
    pub log: Log,
    /// Ends it at once with that exit, whatever it is doing.
    pub kill: oneshot::Receiver<Exit>,
}
