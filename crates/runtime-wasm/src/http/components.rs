//! The components of a Spin application behind one listener: each is a server for its own requests, with the places, the
//! connections and the end of the one that listens, which watches over all of them.

use std::sync::Arc;

use http::Request;
use hyper::body::Incoming;

use super::server::Server;
use crate::spin::Served;

pub struct Components {
    pub app: Arc<Served>,
    /// In the order of the application's parts.
    pub servers: Vec<Arc<Server>>,
}

impl Server {
    /// The server of the component that a request is for; none if no route leads to one.
    pub fn component(self: Arc<Self>, request: &mut Request<Incoming>) -> Option<Arc<Self>> {
        let Some(components) = &self.components else { return Some(self) };
        let index = components.app.route(request)?;
        components.servers.get(index).cloned()
    }

    /// Those of its components.
    pub fn others(&self) -> impl Iterator<Item = &Arc<Self>> {
        self.components.iter().flat_map(|components| &components.servers)
    }
}
