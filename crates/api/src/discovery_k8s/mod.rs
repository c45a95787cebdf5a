//! `discovery.k8s.io`: endpoint slices. (API discovery is [`crate::discovery`].)

pub mod v1;
