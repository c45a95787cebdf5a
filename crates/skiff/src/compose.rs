//! The only place that names a concrete store or runtime: a whole cluster from its parts.
