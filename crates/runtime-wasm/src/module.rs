//! Bytes that claim to be a module: text is made binary, and what is neither is told apart for the user.

use wasmparser::{FunctionBody, Operator, Parser, Payload};

use crate::config::{CODE_BYTES_MAX, IMAGE_BYTES_MAX, LOCALS_IN_LOOPS_MAX};

/// The binary form of a module or component.
///
/// # Errors
/// What it is instead, in words for the user.
pub fn read(bytes: &[u8]) -> Result<Vec<u8>, String> {
    if bytes.len() as u64 > IMAGE_BYTES_MAX {
        return Err(format!("it has {} bytes; the limit is {IMAGE_BYTES_MAX}", bytes.len()));
    }
    if bytes.is_empty() {
        return Err("it is empty: the file or the layer was not written".to_owned());
    }
    if Parser::is_core_wasm(bytes) || Parser::is_component(bytes) {
        check_code(bytes)?;
        return Ok(bytes.to_vec());
    }
    if bytes.starts_with(b"\0asm") {
        return Err("it is WebAssembly of a version that is neither a module nor a component".to_owned());
    }
    if let Some(what) = other(bytes) {
        return Err(format!("it is {what}, not a WebAssembly module"));
    }
    if let Some(what) = text(bytes) {
        return Err(format!("it is {what}, not a WebAssembly module"));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if looks_like_text_format(text) => {
            let binary =
                wat::parse_str(text).map_err(|error| format!("it is not correct WebAssembly text: {error}"))?;
            check_code(&binary)?;
            Ok(binary)
        }
        _ => {
            let start: String = String::from_utf8_lossy(&bytes[..bytes.len().min(16)]).escape_default().collect();
            Err(format!(
                "it is neither a WebAssembly module or component (\\0asm) nor WebAssembly text ((module …)); its {} bytes \
                 start with \"{start}\"",
                bytes.len()
            ))
        }
    }
}

/// Bounds what compiling can cost, over all modules of a component.
fn check_code(bytes: &[u8]) -> Result<(), String> {
    let mut total = 0;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(|error| damaged(&error, bytes.len()))? {
            Payload::CodeSectionStart { size, .. } => total += u64::from(size),
            Payload::CodeSectionEntry(body) => check_function(&body)?,
            _ => {}
        }
    }
    if total > CODE_BYTES_MAX {
        return Err(format!("it has {total} bytes of code; the limit is {CODE_BYTES_MAX}"));
    }
    Ok(())
}

/// A module that cannot be read to its end.
fn damaged(error: &wasmparser::BinaryReaderError, length: usize) -> String {
    let what = if error.offset() + 1 >= length || error.to_string().contains("unexpected end") {
        "cut off"
    } else {
        "damaged"
    };
    format!("it is {what} (it has {length} bytes): {error}; build or pull it again")
}

/// A compiler keeps track of every variable at every loop around it: a few hundred kilobytes of code can ask for gigabytes.
fn check_function(body: &FunctionBody<'_>) -> Result<(), String> {
    let wrong = |error: wasmparser::BinaryReaderError| error.to_string();
    let mut locals = 0_u64;
    for group in body.get_locals_reader().map_err(wrong)? {
        locals += u64::from(group.map_err(wrong)?.0);
    }
    // Each loop has three bytes at least; most functions are told apart without a look at their code.
    if locals.saturating_mul(body.range().len() as u64 / 3) <= LOCALS_IN_LOOPS_MAX {
        return Ok(());
    }
    // Whether what is left open is a loop.
    let (mut open, mut loops, mut deepest) = (vec![], 0_u64, 0);
    for operator in body.get_operators_reader().map_err(wrong)? {
        match operator.map_err(wrong)? {
            Operator::Loop { .. } => {
                open.push(true);
                loops += 1;
                deepest = deepest.max(loops);
            }
            Operator::Block { .. } | Operator::If { .. } | Operator::TryTable { .. } => open.push(false),
            Operator::End => loops -= u64::from(open.pop() == Some(true)),
            _ => {}
        }
    }
    if locals.saturating_mul(deepest) > LOCALS_IN_LOOPS_MAX {
        return Err(format!(
            "the function at offset {} has {locals} locals and loops {deepest} deep; the limit of their product is \
             {LOCALS_IN_LOOPS_MAX}",
            body.range().start
        ));
    }
    Ok(())
}

fn looks_like_text_format(text: &str) -> bool {
    let text = text.trim_start_matches('\u{feff}').trim_start();
    text.starts_with('(') || text.starts_with(";;")
}

fn other(bytes: &[u8]) -> Option<&'static str> {
    let rows: [(&[u8], &str); 8] = [
        (b"\x7fELF", "a Linux executable (ELF)"),
        (b"#!", "a script"),
        (b"\x1f\x8b", "a gzip archive"),
        (b"\x28\xb5\x2f\xfd", "a zstd archive"),
        (b"PK\x03\x04", "a zip archive"),
        (b"BZh", "a bzip2 archive"),
        (b"\xfd7zXZ", "an xz archive"),
        (b"MZ", "a Windows executable"),
    ];
    let tar = bytes.get(257..262) == Some(b"ustar");
    rows.iter().find(|(magic, _)| bytes.starts_with(magic)).map(|row| row.1).or(tar.then_some("a tar archive"))
}

/// Text that is not WebAssembly: an error page that was saved as a module, or a file of another kind.
fn text(bytes: &[u8]) -> Option<&'static str> {
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(TEXT_BYTES_SEEN)]).to_ascii_lowercase();
    let start = start.trim_start_matches('\u{feff}').trim_start();
    let rows: [(&[&str], &str); 5] = [
        (&["<!doctype html", "<html"], "an HTML page, as a server gives in place of a file that it does not have"),
        (&["<?xml", "<"], "XML"),
        (&["{", "["], "JSON"),
        (&["version https://git-lfs"], "a Git LFS pointer: fetch the file itself with `git lfs pull`"),
        (&["-----begin"], "a PEM file"),
    ];
    rows.iter().find(|(starts, _)| starts.iter().any(|prefix| start.starts_with(prefix))).map(|row| row.1)
}

/// Of a text that is looked at to say what it is.
const TEXT_BYTES_SEEN: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_not_wasm_is_named() {
        let rows: [(&[u8], &str); 12] = [
            (b"", "it is empty"),
            (b"\0asm\x01\0\0\0\x01\x7f\x01", "it is cut off (it has 11 bytes): "),
            (b"\n<!DOCTYPE html><title>404", "an HTML page"),
            (b"  [1]", "JSON"),
            (b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer"),
            (b"hello", "neither a WebAssembly module"),
            (b"\x7fELF\x02", "a Linux executable"),
            (b"#!/bin/sh\n", "a script"),
            (b"\x1f\x8b\x08", "a gzip archive"),
            (b"\0asm\x09\0\0\0", "neither a module nor a component"),
            (b"(module (func $x", "not correct WebAssembly text"),
            (b"{\"a\":1}", "JSON"),
        ];
        for (bytes, expected) in rows {
            let error = read(bytes).unwrap_err();
            assert!(error.contains(expected), "{bytes:?} gave {error:?}");
        }
    }

    #[test]
    fn text_becomes_binary() {
        for text in ["(module)", ";; a comment\n(module)", "  (component)", "(; c ;) (module)"] {
            assert!(read(text.as_bytes()).unwrap().starts_with(b"\0asm"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..512), text in "[ -~(;)]{0,200}") {
            let _ = read(&bytes);
            let _ = read(text.as_bytes());
        }
    }
}
