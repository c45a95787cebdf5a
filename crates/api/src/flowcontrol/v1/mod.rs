//! `flowcontrol.apiserver.k8s.io/v1`.

pub mod flow_schema;
pub mod priority_level_configuration;
