//! The API server through its own service, with raw requests and with kube's client, on the in-memory store.

// A helper that fails fails its test.
#![allow(clippy::unwrap_used)]

mod admission;
mod deletion;
mod every_kind;
mod network;
mod objects;
mod patching;
mod subresources;
mod support;
mod tables;
mod watching;
