//! WebAssembly features by name: which are on for everybody, which a pod may turn on or off, which a module needs.

use wasmparser::{Validator, WasmFeatures};
use wasmtime::Config;

use skiff_runtime::annotations::WASM_FEATURES;

/// Name, what the parser calls it, and whether it is on for everybody.
///
/// Not in it, and so never on: stack switching and shared-everything threads, which wasmtime calls experimental, and
/// shared memories, whose growth no limit of a container sees (`threads` are the atomic instructions).
const FEATURES: &[(&str, WasmFeatures, bool)] = &[
    ("custom-page-sizes", WasmFeatures::CUSTOM_PAGE_SIZES, false),
    ("exceptions", WasmFeatures::EXCEPTIONS, true),
    ("extended-const", WasmFeatures::EXTENDED_CONST, true),
    ("function-references", WasmFeatures::FUNCTION_REFERENCES, true),
    ("gc", WasmFeatures::GC, true),
    ("memory64", WasmFeatures::MEMORY64, true),
    ("multi-memory", WasmFeatures::MULTI_MEMORY, true),
    ("relaxed-simd", WasmFeatures::RELAXED_SIMD, true),
    ("simd", WasmFeatures::SIMD, true),
    ("tail-call", WasmFeatures::TAIL_CALL, true),
    ("threads", WasmFeatures::THREADS, true),
    ("wide-arithmetic", WasmFeatures::WIDE_ARITHMETIC, false),
];

/// A choice of them, as indexes of the table: what is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features(u32);

impl Default for Features {
    fn default() -> Self {
        Self(FEATURES.iter().enumerate().filter(|(_, row)| row.2).fold(0, |set, (index, _)| set | (1 << index)))
    }
}

impl Features {
    /// # Errors
    /// Names that are not known, with those that are.
    pub fn parse(list: &str) -> Result<Self, String> {
        let mut set = Self::default();
        for word in list.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let (name, on) = word.strip_prefix('-').map_or((word, true), |name| (name, false));
            let Some(index) = FEATURES.iter().position(|row| row.0 == name) else {
                let names: Vec<_> = FEATURES.iter().map(|row| row.0).collect();
                return Err(format!(
                    "annotation {WASM_FEATURES}: {:?} is not a feature of this node; it has {}",
                    name.chars().take(100).collect::<String>(),
                    names.join(", ")
                ));
            };
            set.0 = if on { set.0 | (1 << index) } else { set.0 & !(1 << index) };
        }
        Ok(set)
    }

    fn has(self, index: usize) -> bool {
        self.0 & (1 << index) != 0
    }

    pub fn apply(self, config: &mut Config) {
        let changed = FEATURES.iter().enumerate().filter(|(index, row)| self.has(*index) != row.2);
        for (index, (_, flag, _)) in changed {
            config.wasm_features(*flag, self.has(index));
        }
    }

    /// As the validator has them.
    fn flags(self) -> WasmFeatures {
        let mut flags = WasmFeatures::WASM3 | WasmFeatures::COMPONENT_MODEL | WasmFeatures::GC_TYPES;
        for (index, (_, flag, _)) in FEATURES.iter().enumerate() {
            flags.set(*flag, self.has(index));
        }
        flags
    }
}

/// Why a module does not compile with these features, if it would with others: a message for the user.
pub fn missing(bytes: &[u8], features: Features) -> Option<String> {
    let valid = |flags: WasmFeatures| Validator::new_with_features(flags).validate_all(bytes).is_ok();
    let have = features.flags();
    let all = WasmFeatures::all();
    if valid(have) || !valid(all) {
        return None;
    }
    let (mut offered, mut absent) = (Vec::new(), Vec::new());
    for (name, flag) in all.difference(have).iter_names() {
        if valid(all.difference(flag)) {
            continue;
        }
        match FEATURES.iter().find(|row| row.1 == flag) {
            Some(row) => offered.push(row.0.to_owned()),
            None => absent.push(name.to_ascii_lowercase().replace('_', "-")),
        }
    }
    if offered.is_empty() && absent.is_empty() {
        return None;
    }
    if !absent.is_empty() {
        let hint = if absent.iter().any(|name| name.starts_with("cm-async")) {
            ": a node with the option --wasi-0.3 has asynchronous components"
        } else {
            ""
        };
        absent.extend(offered);
        return Some(format!(
            "it needs WebAssembly features that this node does not have: {}{hint}",
            absent.join(", ")
        ));
    }
    Some(format!(
        "it needs WebAssembly features that are off: set the pod's annotation {WASM_FEATURES} to \"{}\"",
        offered.join(",")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: &str = "(module (func (param i64 i64) (result i64 i64) local.get 0 local.get 1 i64.mul_wide_u))";

    #[test]
    fn lists_are_read() {
        let set = |list| Features::parse(list).expect("fine");
        assert_eq!(set("threads, gc,"), Features::default());
        assert_ne!(set("wide-arithmetic"), Features::default());
        assert_ne!(set("-gc"), Features::default());
        assert_eq!(set("-gc,gc"), Features::default());
        let error = Features::parse("gc,warp").expect_err("unknown");
        assert!(error.contains("\"warp\"") && error.contains("memory64"), "{error}");
    }

    #[test]
    fn what_a_module_needs_is_told() {
        let rows = [
            (WIDE, "", Some("skiff.dev/wasm-features to \"wide-arithmetic\"")),
            (WIDE, "wide-arithmetic", None),
            ("(module (memory i64 1))", "", None),
            ("(module (memory i64 1))", "-memory64", Some("to \"memory64\"")),
            ("(module (type $f (func)) (type $c (cont $f)))", "", Some("stack-switching")),
            ("(module (func) (func i32.add))", "", None),
        ];
        for (text, list, expected) in rows {
            let bytes = wat::parse_str(text).expect("is text");
            let told = missing(&bytes, Features::parse(list).expect("fine"));
            match (expected, &told) {
                (Some(part), Some(message)) => assert!(message.contains(part), "{message}"),
                (None, None) => {}
                _ => panic!("{text} with {list:?}: {told:?}"),
            }
        }
    }

    #[test]
    fn the_default_set_is_the_engine_s_own() {
        for (name, flag, on) in FEATURES {
            assert_eq!(WasmFeatures::WASM3.contains(*flag), *on, "{name}");
        }
    }
}
