//! The API server through its own service, with raw requests and with kube's client, on the in-memory store.

mod deletion;
mod objects;
mod support;
mod watching;
