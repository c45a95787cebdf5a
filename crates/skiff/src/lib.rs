//! The product: the command line and the only wiring of stores, runtimes and loops ([`compose`]).

#![allow(clippy::print_stdout, reason = "a command line prints")]

pub mod apply;
pub mod catalog;
pub mod commands;
pub mod compose;
pub mod conversation;
pub mod duration;
pub mod error;
pub mod global;
pub mod images;
pub mod manifest;
pub mod output;
pub mod pods;
pub mod progress;
pub mod server;
pub mod session;
pub mod table;
pub mod terminal;
