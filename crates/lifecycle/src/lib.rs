//! The pod state machine of a node as pure functions
