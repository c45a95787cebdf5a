//! What a pod's annotations ask of the runtime for its containers: which engine, and how it runs.

mod features;
mod machines;
mod setup;

use std::collections::BTreeMap;

use skiff_runtime::annotations;

use crate::{coredump::Place, deterministic::Seed, program::ENTRY_DEFAULT};
pub use features::{Features, missing};
pub use machines::Machines;
pub use setup::{Extras, Node, Setup};

#[derive(Clone, Debug, Default)]
pub struct Options {
    pub variant: Variant,
    pub seed: Option<Seed>,
    pub core_dump: Option<Place>,
    /// The function that makes the snapshot that it starts from.
    pub snapshot: Option<String>,
}

/// What needs an engine of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variant {
    pub features: Features,
    /// File and line in backtraces: the debug information is kept with the compiled module and read at a fault, which
    /// takes memory and time in proportion to what the program's author put there. So it is asked for.
    pub source: bool,
    pub core_dump: bool,
    /// The same floating-point results everywhere, and clocks that do not pass by themselves.
    pub deterministic: bool,
    /// Compiled by Winch: six times faster than Cranelift, to code that is slower and larger. Not for annotations: a node
    /// may start a large module with it until Cranelift is done.
    pub winch: bool,
}

impl Options {
    /// # Errors
    /// Which annotation is wrong, and what it may be.
    pub fn of(annotations: &BTreeMap<String, String>) -> Result<Self, String> {
        let get = |name: &str| annotations.get(name).map(|value| value.trim()).filter(|value| !value.is_empty());
        let seed = get(annotations::DETERMINISTIC).map(Seed::of);
        let core_dump = match (
            flag(annotations::CORE_DUMP, get(annotations::CORE_DUMP), "true")?,
            get(annotations::CORE_DUMP_PATH),
        ) {
            (false, None) => None,
            (true, None) => Some(Place::Node),
            (_, Some(path)) => Some(Place::Mounted(path.to_owned())),
        };
        Ok(Self {
            variant: Variant {
                features: get(annotations::WASM_FEATURES).map_or(Ok(Features::default()), Features::parse)?,
                source: flag(annotations::BACKTRACE, get(annotations::BACKTRACE), "source")?,
                core_dump: core_dump.is_some(),
                deterministic: seed.is_some(),
                winch: false,
            },
            seed,
            core_dump,
            snapshot: get(annotations::SNAPSHOT).map(snapshot).transpose()?,
        })
    }
}

/// The function that prepares a program: not the program itself, which then would have nothing left to run.
fn snapshot(function: &str) -> Result<String, String> {
    if function == ENTRY_DEFAULT {
        let name = annotations::SNAPSHOT;
        return Err(format!(
            "annotation {name}: {function:?} is what a start runs; name a function that prepares for it"
        ));
    }
    Ok(function.to_owned())
}

/// On with this value, off without the annotation or with `false`.
fn flag(name: &str, value: Option<&str>, on: &str) -> Result<bool, String> {
    match value {
        None | Some("false") => Ok(false),
        Some(value) if value == on => Ok(true),
        Some(value) => Err(format!("annotation {name}: {value:?} is not known; it may be {on:?} or \"false\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<Options, String> {
        Options::of(&pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    #[test]
    fn annotations_are_read_and_wrong_ones_are_refused() {
        assert_eq!(of(&[("other", "x")]).expect("fine").variant, Variant::default());
        assert!(of(&[("skiff.dev/core-dump", "true")]).expect("fine").variant.core_dump);
        assert!(of(&[("skiff.dev/core-dump-path", "/data/core")]).expect("fine").variant.core_dump);
        assert!(of(&[("skiff.dev/deterministic", "7")]).expect("fine").variant.deterministic);
        assert_eq!(of(&[("skiff.dev/snapshot", "init")]).expect("fine").snapshot.as_deref(), Some("init"));
        for (name, value, expected) in [
            ("skiff.dev/core-dump", "yes", "\"true\" or \"false\""),
            ("skiff.dev/backtrace", "all", "\"source\""),
            ("skiff.dev/wasm-features", "teleport", "teleport"),
            ("skiff.dev/snapshot", "_start", "what a start runs"),
        ] {
            let error = of(&[(name, value)]).expect_err("wrong");
            assert!(error.contains(name) && error.contains(expected), "{error}");
        }
    }
}
