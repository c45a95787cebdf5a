//! Every controller as pure functions
