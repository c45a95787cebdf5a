//! The runtime contract's suite, run against the Wasm runtime with programs in WebAssembly text.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use skiff_runtime::{
    ImageSource, Runtime,
    conformance::{Artefact, Mapping, Program, Subject},
};
use skiff_runtime_wasm::{WasmConfig, WasmRuntime};

struct Wasm;

macro_rules! program {
    ($directory:literal, $name:literal, $($arg:expr),*) => {
        Mapping::Runs(
            Artefact::named(concat!("localhost/", $name, ":latest"))
                .source(ImageSource::Module(Bytes::from_static(include_bytes!(concat!($directory, $name, ".wat")))))
                .args(&[$($arg),*]),
        )
    };
}

#[async_trait::async_trait]
impl Subject for Wasm {
    async fn open(&self, root: &Path) -> Arc<dyn Runtime> {
        let mut config = WasmConfig::new(root);
        config.instances_max = Some(400);
        WasmRuntime::open(config).expect("the runtime opens")
    }

    fn map(&self, program: &Program) -> Mapping {
        match program {
            Program::ExitsWith(code) => program!("../../../wasm-examples/wat/", "exit-code", &code.to_string()),
            Program::PrintsLines(count) => program!("../../../wasm-examples/wat/", "lines", &count.to_string()),
            Program::PrintsBothStreams => program!("programs/", "streams",),
            Program::PrintsUnterminated => program!("programs/", "unterminated",),
            Program::PrintsLongLine(length) => program!("programs/", "long-line", &length.to_string()),
            Program::FloodsLog => program!("../../../wasm-examples/wat/", "log-flood",),
            Program::Sleeps => program!("../../../wasm-examples/wat/", "sleep",),
            Program::IgnoresTerm => Mapping::Lacks("a Wasm guest cannot catch signals"),
            Program::LoopsForever => program!("../../../wasm-examples/wat/", "loop",),
            Program::EchoesStdin => program!("programs/", "stdin",),
            Program::EchoesConnections(_) => program!("../../../wasm-examples/wat/", "echo-connections",),
            Program::PrintsEnv => program!("../../../wasm-examples/wat/", "env",),
            Program::PrintsArgs => program!("../../../wasm-examples/wat/", "args",),
            Program::PrintsFile(path) => program!("../../../wasm-examples/wat/", "files", "read", path),
            Program::WritesFile(path) => program!("../../../wasm-examples/wat/", "files", "write", path, "written"),
            Program::Traps => program!("../../../wasm-examples/wat/", "trap",),
            Program::Recurses => program!("programs/", "recursion",),
            Program::Obeys(words) => {
                let Mapping::Runs(artefact) = program!("../../../wasm-examples/wat/", "obey",) else { unreachable!() };
                let words: Vec<_> = words.iter().map(String::as_str).collect();
                Mapping::Runs(artefact.args(&words))
            }
            Program::GrowsMemory => program!("../../../wasm-examples/wat/", "memory-growth",),
        }
    }

    fn unusable(&self) -> Option<ImageSource> {
        Some(ImageSource::Module(Bytes::from_static(b"\x7fELF not Wasm")))
    }
}

skiff_runtime::runtime_conformance!(Wasm);
