//! `batch`.

pub mod v1;
