//! Whole clusters in process, driven as their users drive them. Tests that need the stock kubectl use it where it is on PATH
//! and say so where it is not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod annotations;
mod command;
mod examples;
mod exec;
mod files;
mod guests;
mod hostile;
mod http;
mod kubectl;
mod messages;
mod modules;
mod network;
mod nodes;
mod options;
mod processor;
mod streams;
mod systems;
mod tool;
mod verbs;
mod wasi_http;
mod wasi_suite;

#[path = "../../crates/runtime-wasm/tests/support/registry.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod registry;
#[path = "../../crates/runtime-wasm/tests/support/signed.rs"]
mod signed;
