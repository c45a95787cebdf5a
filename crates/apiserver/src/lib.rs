//! The Kubernetes API: pipeline, registry, HTTP, TLS, authentication
