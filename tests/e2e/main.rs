//! Whole clusters in process, driven as their users drive them. Tests that need the stock kubectl use it where it is on PATH
//! and say so where it is not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

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
mod streams;
mod tool;
mod verbs;
mod wasi_suite;
