//! WebAssembly containers in an in-process wasmtime sandbox
