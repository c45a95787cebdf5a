//! `autoscaling/v1`.

pub mod horizontal_pod_autoscaler;
