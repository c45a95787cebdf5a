//! Run plans against a model of the API until nothing is left to do.
