//! The product: the command line and the only wiring of stores, runtimes and loops ([`compose`]).

pub mod commands;
pub mod compose;
pub mod global;
pub mod images;
pub mod manifest;
