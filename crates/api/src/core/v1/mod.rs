//! `v1`.

pub mod config_map;
pub mod event;
pub mod namespace;
pub mod node;
pub mod persistent_volume_claim;
pub mod pod;
pub mod pod_spec;
pub mod pod_status;
pub mod replication_controller;
pub mod secret;
pub mod service;
pub mod service_account;
