//! The door to the nodes: how the API server reaches the HTTP server of a kubelet for logs, streams and proxies.

use async_trait::async_trait;
use axum::body::Body;

#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// No connection to this node is known.
    #[error("node {node:?} is not connected")]
    Unknown { node: String },
    #[error("failed to reach node {node:?}: {reason}")]
    Unreachable { node: String, reason: String },
}

/// Passes a request on to a node. The path is the kubelet's (`/containerLogs/NS/POD/CONTAINER`); the body of the answer
/// is streamed.
///
/// A request to change the protocol (exec, attach, port-forward) carries the client's connection among its extensions (hyper's
/// `OnUpgrade`). A node in this process answers 101 and takes it; a connector to a remote node takes it itself, and copies bytes
/// between it and the connection that the node gives. Whoever takes it keeps the other extensions until it ends: they
/// count the stream.
#[async_trait]
pub trait NodeConnector: Send + Sync + 'static {
    /// # Errors
    /// When the node is not known or does not answer. An answer with an error code is not an error here.
    async fn call(&self, node: &str, request: http::Request<Body>) -> Result<http::Response<Body>, NodeError>;
}

/// For an API server that has no nodes.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoNodes;

#[async_trait]
impl NodeConnector for NoNodes {
    async fn call(&self, node: &str, _: http::Request<Body>) -> Result<http::Response<Body>, NodeError> {
        Err(NodeError::Unknown { node: node.to_owned() })
    }
}
