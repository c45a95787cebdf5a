//! Whoever read our output has gone (`skiff get pods | head -1`): the command ends as others do then, quietly and with 141.
//!
//! Rust ignores SIGPIPE, so that a server does not die of a client, and `println!` panics when it cannot write.

/// 128 + SIGPIPE, as a shell says it.
const CODE: i32 = 141;

/// From here on a `println!` that nobody reads ends the process.
pub fn end_quietly() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let said = panic.payload_as_str().unwrap_or_default();
        if said.starts_with("failed printing to stdout") && said.contains("Broken pipe") {
            std::process::exit(CODE);
        }
        usual(panic);
    }));
}
