//! `apps`.

pub mod v1;
