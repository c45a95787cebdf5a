//! `policy`.

pub mod v1;
