//! Programs that offer no way to be started: what they export instead, and what is looked for.

use wasmtime::{ExternType, component::Component};

use super::{clip, list};

/// A component that is neither a command nor a server.
pub fn of_component(component: &Component) -> String {
    let engine = component.engine();
    let ty = component.component_type();
    let names: Vec<_> = ty.exports(engine).map(|(name, _)| name.to_owned()).collect();
    let has = if names.is_empty() { "nothing".to_owned() } else { list(&names) };
    let newer =
        names.iter().any(|name| name.starts_with("wasi:cli/run@0.3.") || name.starts_with("wasi:http/handler@0.3."));
    let hint = if newer { "; a node with the option --wasi-0.3 runs WASI 0.3" } else { "" };
    format!(
        "it is a component of another world: it exports {has}; this node runs those that export wasi:cli/run@0.2 \
         (commands) or wasi:http/incoming-handler@0.2 (servers){hint}"
    )
}

/// A module that lacks the function that is to be called.
pub fn of_module(module: &wasmtime::Module, wanted: &str) -> String {
    let functions: Vec<_> = module
        .exports()
        .filter(|export| matches!(export.ty(), ExternType::Func(_)))
        .map(|export| format!("{:?}", clip(export.name())))
        .collect();
    let has = if functions.is_empty() {
        "it exports no function at all".to_owned()
    } else {
        format!("its functions: {}", list(&functions))
    };
    format!(
        "it exports no function {:?}; {has}; another one is named in the container's command as \"PATH#FUNCTION\"",
        clip(wanted)
    )
}
