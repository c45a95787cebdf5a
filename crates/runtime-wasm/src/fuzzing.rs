//! Hostile inputs for what reads modules and images, made from correct ones. Used by this crate's tests for a moment, and by
//! `cargo run --release -p skiff-runtime-wasm --example fuzz_loader -- SECONDS` for as long as is asked.
//!
//! What must stay true of each [`Target`]: whatever the bytes, it answers (with a module or with words for the user), it does not
//! panic, and it takes memory and time in proportion to what it was given.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt as _;

use crate::{artefact::Document, layout, messages, module};

/// What reads bytes from strangers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A `.wasm` or `.wat` file, up to what a compiler is given.
    Module,
    /// An OCI image layout as a tar archive.
    Layout,
    /// A registry's manifest or index, whose blobs are the same bytes.
    Manifest,
}

pub const TARGETS: [Target; 3] = [Target::Module, Target::Layout, Target::Manifest];
/// Of processor time, which other programs do not use up. One input of a few kilobytes takes far less.
pub const INPUT_SECONDS_MAX: u64 = 20;

/// What this thread has used so far.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    Duration::from_secs(part(time.tv_sec)) + Duration::from_nanos(part(time.tv_nsec))
}

/// A small generator of numbers (xorshift64*): a seed tells all that follows.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        // Truncated to what `end` has room for.
        (self.number() % (end.max(1) as u64)) as usize
    }
}

/// Correct inputs to begin with.
pub fn corpus(target: Target) -> Vec<Vec<u8>> {
    let text = |text: &str| wat::parse_str(text).unwrap_or_default();
    let hello = include_bytes!("../../../wasm-examples/wat/hello.wat").to_vec();
    let module = text(include_str!("../../../wasm-examples/wat/files.wat"));
    let component = text(include_str!("../../../wasm-examples/wat/command.wat"));
    match target {
        Target::Module => vec![
            hello,
            module,
            component,
            text(
                "(module (memory i64 1) (table 3 funcref) (func $f (param i64) (local v128)) (elem (i32.const 0) $f))",
            ),
            text(
                "(module (type $t (struct (field (mut i8)))) (tag $e (param i32)) (global (ref null $t) (ref.null $t)))",
            ),
            include_bytes!("../../../wasm-examples/wat/http-handler.wat").to_vec(),
        ],
        Target::Layout => vec![archive(&module), archive(&component)],
        Target::Manifest => {
            let index =
                r#"{"manifests":[{"digest":"sha256:00","size":7,"platform":{"architecture":"wasm","os":"wasi"}}]}"#;
            vec![manifest("sha256:00", 100).into_bytes(), index.as_bytes().to_vec(), tar_of("app.wasm", &module)]
        }
    }
}

fn manifest(digest: &str, size: usize) -> String {
    format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.wasm.config.v0+json","digest":"{digest}","size":2}},
        "layers":[{{"mediaType":"application/wasm","digest":"{digest}","size":{size}}}]}}"#
    )
}

fn tar_of(path: &str, bytes: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    append(&mut builder, path, bytes);
    builder.into_inner().unwrap_or_default()
}

fn append(builder: &mut tar::Builder<Vec<u8>>, path: &str, bytes: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    // Into memory, with a short path: cannot fail.
    let _ = builder.append_data(&mut header, path, bytes);
}

/// A layout with one module.
fn archive(module: &[u8]) -> Vec<u8> {
    let digest = crate::images::digest(module);
    let manifest = manifest(&digest, module.len());
    let id = crate::images::digest(manifest.as_bytes());
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{{"digest":"{id}","size":{}}}]}}"#, manifest.len());
    let mut builder = tar::Builder::new(Vec::new());
    append(&mut builder, "index.json", index.as_bytes());
    append(&mut builder, &format!("blobs/{}", id.replacen(':', "/", 1)), manifest.as_bytes());
    append(&mut builder, &format!("blobs/{}", digest.replacen(':', "/", 1)), module);
    builder.into_inner().unwrap_or_default()
}

/// Numbers that lengths, counts and depths are made of, as WebAssembly writes them.
const LENGTHS: [&[u8]; 6] = [
    &[0],
    &[0x7f],
    &[0x80, 0x80, 0x04],
    &[0xff, 0xff, 0xff, 0xff, 0x07],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
];
/// What formats treat specially.
const WORDS: [&[u8]; 12] = [
    b"\0asm\x01\0\0\0",
    b"\0asm\x0d\0\x01\0",
    b"(((((((((((((((((((((((((((((((((",
    b"(block (loop (if (",
    b"(; ",
    b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    b"99999999999999999999",
    b"-1",
    b"\"sha256:../../../../etc/passwd\"",
    b"\x1f\x8b\x08\0\0\0\0\0\0\x03",
    b"../../../../tmp/escaped",
    b"\xff\xfe\xfd",
];

/// Changes an input in a few places.
pub fn mutate(bytes: &mut Vec<u8>, others: &[Vec<u8>], random: &mut Random) {
    for _ in 0..=random.below(6) {
        let at = random.below(bytes.len() + 1);
        let span = random.below(64).min(bytes.len() - at);
        match random.below(9) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = random.number() as u8,
            2 => drop(bytes.splice(at..at + span.min(5), LENGTHS[random.below(LENGTHS.len())].iter().copied())),
            3 => drop(bytes.splice(at..at, WORDS[random.below(WORDS.len())].iter().copied())),
            4 => bytes.truncate(at),
            5 => drop(bytes.drain(at..at + span)),
            6 => {
                // The same again, many times: sections, nests, lists.
                let part = bytes[at..at + span].to_vec();
                let times = random.below(200);
                drop(bytes.splice(at..at, part.repeat(times)));
            }
            7 => {
                let other = &others[random.below(others.len())];
                let from = random.below(other.len() + 1);
                let to = from + random.below(256).min(other.len() - from);
                drop(bytes.splice(at..at, other[from..to].iter().copied()));
            }
            _ => {
                let words = random.number().to_le_bytes();
                drop(bytes.splice(at..at + span.min(8), words));
            }
        }
    }
    bytes.truncate(1 << 20);
}

/// What the loader is made of, kept between inputs.
pub struct Loader {
    engine: wasmtime::Engine,
}

impl Loader {
    /// # Errors
    /// When the engine cannot be made.
    pub fn new() -> wasmtime::Result<Self> {
        Ok(Self { engine: wasmtime::Engine::default() })
    }

    /// Reads the bytes as the runtime would. Says whether they were something.
    pub fn read(&self, target: Target, bytes: &[u8]) -> bool {
        let content = match target {
            Target::Module => module::read(bytes),
            Target::Layout => ready(layout::read(bytes)).map(|content| content.module),
            Target::Manifest => ready(read_document(bytes)),
        };
        match content {
            Ok(module) => self.load(&module),
            Err(message) => {
                assert!(!message.is_empty(), "a refusal says why");
                false
            }
        }
    }

    /// Validation is most of what a compiler reads; compiling itself is the engine's and is fuzzed by its authors.
    fn load(&self, module: &[u8]) -> bool {
        if wasmparser::Parser::is_component(module) {
            return match wasmtime::component::Component::new(&self.engine, module) {
                Ok(component) => {
                    let _ = messages::exports::of_component(&component);
                    true
                }
                Err(_) => false,
            };
        }
        match wasmtime::Module::new(&self.engine, module) {
            Ok(module) => {
                let _ = messages::imports::of_module(&module, |_, _| false);
                let _ = messages::exports::of_module(&module, "_start");
                true
            }
            Err(_) => false,
        }
    }
}

async fn read_document(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let document = Document::parse(bytes)?;
    let _ = document.choose()?;
    let content = document.content("sha256:0".to_owned(), |_| std::future::ready(Ok(bytes.to_vec()))).await?;
    Ok(content.module)
}

/// Nothing here waits for anything.
fn ready<T>(future: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    future.now_or_never().unwrap_or_else(|| Err("it waits for something".to_owned()))
}

/// What went wrong with an input.
#[derive(Debug)]
pub struct Finding {
    pub target: Target,
    pub seed: u64,
    pub input: Vec<u8>,
    pub what: String,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    pub inputs: u64,
    pub accepted: u64,
    pub slowest: Duration,
}

/// Tries inputs for as long as `goes_on` says.
///
/// # Errors
/// The first input that panics or takes too long.
#[allow(clippy::disallowed_methods, reason = "measures how long an input takes")]
pub fn run(seed: u64, mut goes_on: impl FnMut(&Totals) -> bool) -> Result<Totals, Box<Finding>> {
    let loader = Loader::new().map_err(|error| {
        Box::new(Finding { target: Target::Module, seed, input: Vec::new(), what: format!("{error:#}") })
    })?;
    let corpora = TARGETS.map(corpus);
    let mut totals = Totals::default();
    let mut next = seed;
    while goes_on(&totals) {
        next = next.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut random = Random::new(next);
        let index = random.below(TARGETS.len());
        let (target, corpus) = (TARGETS[index], &corpora[index]);
        let mut input = corpus[random.below(corpus.len())].clone();
        mutate(&mut input, corpus, &mut random);
        let before = processor_time();
        let read = std::panic::catch_unwind(AssertUnwindSafe(|| loader.read(target, &input)));
        let took = processor_time().saturating_sub(before);
        let found = |what: String| Box::new(Finding { target, seed: next, input: input.clone(), what });
        match read {
            Err(_) => return Err(found("it panicked".to_owned())),
            Ok(_) if took.as_secs() > INPUT_SECONDS_MAX => return Err(found(format!("it took {took:?}"))),
            Ok(accepted) => totals.accepted += u64::from(accepted),
        }
        totals.inputs += 1;
        totals.slowest = totals.slowest.max(took);
    }
    Ok(totals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_is_correct() {
        let loader = Loader::new().unwrap();
        for target in [Target::Module, Target::Layout] {
            for (index, input) in corpus(target).iter().enumerate() {
                assert!(loader.read(target, input), "{target:?} {index}");
            }
        }
    }

    #[test]
    fn strangers_bytes_are_answered() {
        let seed = std::env::var("SKIFF_FUZZ_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
        let totals = run(seed, |totals| totals.inputs < 600).unwrap_or_else(|finding| {
            panic!("{:?} with seed {}: {} ({} bytes)", finding.target, finding.seed, finding.what, finding.input.len())
        });
        assert!(totals.accepted > 0, "some inputs go all the way: {totals:?}");
    }

    proptest::proptest! {
        #[test]
        fn any_archive_is_answered(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..2048)) {
            let _ = ready(layout::read(&bytes));
            let _ = ready(read_document(&bytes));
        }
    }
}
