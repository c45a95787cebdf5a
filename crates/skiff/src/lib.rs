//! The product: the command line and the only wiring of stores, runtimes and loops ([`compose`]).

pub mod apply;
pub mod commands;
pub mod compose;
pub mod duration;
pub mod error;
pub mod global;
pub mod images;
pub mod manifest;
pub mod progress;
pub mod table;
