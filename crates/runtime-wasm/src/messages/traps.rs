//! How a fault of a guest is told: what happened in words, then where, innermost function first.

use std::fmt::{self, Write as _};

use skiff_runtime::MESSAGE_BYTES_MAX;
use wasmtime::{Trap, WasmBacktrace};

/// The signal that a Linux process would have died of.
pub fn signal(trap: Option<&Trap>) -> i32 {
    match trap {
        Some(Trap::IntegerDivisionByZero | Trap::IntegerOverflow | Trap::BadConversionToInteger) => SIGFPE,
        Some(Trap::StackOverflow | Trap::MemoryOutOfBounds | Trap::HeapMisaligned) => SIGSEGV,
        _ => SIGABRT,
    }
}

const SIGABRT: i32 = 6;
const SIGFPE: i32 = 8;
const SIGSEGV: i32 = 11;

/// The whole message of an error that ended a guest.
pub fn describe(error: &wasmtime::Error) -> String {
    let mut message = error.root_cause().to_string();
    if let Some(words) = error.downcast_ref::<Trap>().and_then(words) {
        let _ = write!(message, " ({words})");
    }
    if let Some(backtrace) = error.downcast_ref::<WasmBacktrace>()
        && !backtrace.frames().is_empty()
    {
        let mut text = Bounded(String::new());
        // What is too long is cut off.
        let _ = write!(text, "{backtrace}");
        let frames = text.0.split_once('\n').map_or("", |(_, frames)| frames);
        let _ = write!(message, "\nbacktrace, innermost first:\n{frames}");
    }
    message
}

/// What the specification's name of the trap means for the program.
fn words(trap: &Trap) -> Option<&'static str> {
    Some(match trap {
        Trap::UnreachableCodeReached => {
            "the program gave up: a panic, an abort or a failed assertion; its log may say why"
        }
        Trap::MemoryOutOfBounds => "it read or wrote beyond the end of its memory: a wrong pointer or index",
        Trap::StackOverflow => "stack overflow: it called too deeply, as endless recursion does",
        Trap::TableOutOfBounds | Trap::IndirectCallToNull => {
            "it called through a function pointer that points to no function"
        }
        Trap::BadSignature => "it called through a function pointer of another type",
        Trap::HeapMisaligned => "an atomic operation on an address that is not aligned",
        Trap::IntegerDivisionByZero => "a division by zero",
        Trap::BadConversionToInteger => "a floating-point number that no integer can hold",
        Trap::NullReference => "it used a null reference",
        Trap::ArrayOutOfBounds => "an index beyond the end of an array",
        Trap::CastFailure => "a reference of another type than it was cast to",
        _ => return None,
    })
}

/// Takes the beginning of what is written, as much as a message may hold: a program chooses how long its names are.
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = MESSAGE_BYTES_MAX.saturating_sub(self.0.len());
        self.0.push_str(&text[..text.floor_char_boundary(room)]);
        if text.len() > room { Err(fmt::Error) } else { Ok(()) }
    }
}
