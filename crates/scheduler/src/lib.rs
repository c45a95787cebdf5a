//! The scheduler as pure functions: queue, snapshot, plugins, decisions
