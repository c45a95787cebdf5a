//! A container's own part: what it will run, and what it leaves.

use std::{
    collections::{HashMap, hash_map::Entry},
    path::PathBuf,
    sync::Arc,
};

use parking_lot::Mutex;
use skiff_runtime::{ContainerConfig, Error, Exit, Result, SandboxConfig, annotations::declared_environment_only};
use tokio::sync::{SetOnce, oneshot};

use crate::{
    charge::Account,
    exec::{Hub, Processes, Stdio},
    files::Preopen,
    http,
    images::RunConfig,
    lanes::SharedBucket,
    limits::Usage,
    log::Log,
    net::ContainerNet,
    options::Setup,
    program::Program,
    spin::Served,
    storage::Storage,
};

/// Tells the user something about a container that goes on: a reason of one word, and a message.
pub type Warn = Arc<dyn Fn(&'static str, String) + Send + Sync>;

pub struct Process {
    pub setup: Arc<Setup>,
    pub program: Arc<Program>,
    /// The function named by `path#function`.
    pub entry: Option<String>,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub working_dir: Option<String>,
    /// The private root directory, made at the start if at all.
    pub root: PathBuf,
    pub storage: Arc<Storage>,
    /// What the guest sees, once its files are there.
    pub preopens: SetOnce<Arc<[Preopen]>>,
    /// Of the whole container.
    pub usage: Arc<Usage>,
    /// Counts what the host holds for the container.
    pub account: Account,
    /// Of the main process.
    pub usage_main: Arc<Usage>,
    pub bucket: Option<SharedBucket>,
    /// What was exec'd.
    pub processes: Processes,
    /// Who is attached to the main process.
    pub hub: Arc<Hub>,
    /// Its pod's network, and what its guests share of it.
    pub net: Arc<ContainerNet>,
    pub log: Mutex<Option<Log>>,
    pub kill: Mutex<Option<oneshot::Sender<Exit>>>,
    /// Of an HTTP server.
    pub server: Option<http::Control>,
    /// Of a Spin application.
    pub app: Option<Arc<Served>>,
}

/// One process to be started: the main one, or another.
pub struct Run {
    pub main: bool,
    pub entry: Option<String>,
    pub args: Vec<String>,
    pub stdio: Stdio,
    pub usage: Arc<Usage>,
}

/// The arguments: the pod's command and args over the image's entrypoint and cmd, as Kubernetes combines them. The first
/// is a label (a module is not a file of its container); where nothing gives one it is the image's own name.
pub fn arguments(config: &ContainerConfig, image: &RunConfig) -> Vec<String> {
    let mut args = if config.command.is_empty() { image.entrypoint.clone() } else { config.command.clone() };
    if args.is_empty() && config.args.is_empty() && !image.cmd.is_empty() {
        return image.cmd.clone();
    }
    if args.is_empty() {
        args.push(label(&config.image));
    }
    if config.command.is_empty() && config.args.is_empty() {
        args.extend(image.cmd.iter().cloned());
    } else {
        args.extend(config.args.iter().cloned());
    }
    args
}

/// The arguments of an exec'd process: those given. Where they begin with an option, the container's own first one
/// comes before them: `exec pod -- --version` asks the container's program for its version.
pub fn exec_arguments(main: &[String], command: &[String]) -> Result<Vec<String>> {
    let Some(first) = command.first() else {
        return Err(Error::Invalid("you must specify at least one command for the container".to_owned()));
    };
    let label = main.first().filter(|_| first.starts_with('-'));
    Ok(label.into_iter().chain(command).cloned().collect())
}

/// `ghcr.io/a/hello:v1@sha256:…` → `hello`.
fn label(image: &str) -> String {
    let name = image.split('@').next().unwrap_or(image);
    let name = name.rsplit('/').next().unwrap_or(name);
    name.split(':').next().unwrap_or(name).to_owned()
}

/// Refuses what a program would read otherwise than it was written: for C, a text ends at its first NUL.
///
/// # Errors
/// Which it is.
pub fn check(args: &[String], env: &[(String, String)]) -> Result<(), String> {
    if let Some(place) = args.iter().position(|argument| argument.contains('\0')) {
        return Err(format!("its argument {place} has a NUL byte in it, which no program can be given"));
    }
    match env.iter().find(|(name, value)| name.contains('\0') || value.contains('\0')) {
        Some((name, _)) => Err(format!("its variable {name:?} has a NUL byte in it, which no program can be given")),
        None => Ok(()),
    }
}

/// The function that argv[0] names after a `#`.
pub fn entry(args: &[String]) -> Option<String> {
    let (_, function) = args.first()?.split_once('#')?;
    (!function.is_empty()).then(|| function.to_owned())
}

/// The image's variables, the host name, then the container's; the later of two wins.
pub fn environment(config: &ContainerConfig, sandbox: &SandboxConfig, image: &RunConfig) -> Vec<(String, String)> {
    let hostname = [("HOSTNAME".to_owned(), sandbox.hostname.clone())];
    let told = !declared_environment_only(Some(&sandbox.annotations));
    let hostname = hostname.iter().filter(|(_, value)| told && !value.is_empty());
    let mut env: Vec<(String, String)> = Vec::with_capacity(config.env.len() + image.env.len() + 1);
    // Service links can make thousands of them.
    let mut places: HashMap<&str, usize> = HashMap::with_capacity(env.capacity());
    for (name, value) in image.env.iter().chain(hostname).chain(&config.env) {
        match places.entry(name) {
            Entry::Occupied(place) => env[*place.get()].1.clone_from(value),
            Entry::Vacant(place) => {
                place.insert(env.len());
                env.push((name.clone(), value.clone()));
            }
        }
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_combine_as_in_kubernetes() {
        let list = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        // image entrypoint, image cmd, command, args → argv
        type Words<'a> = &'a [&'a str];
        let rows: &[(Words<'_>, Words<'_>, Words<'_>, Words<'_>, Words<'_>)] = &[
            (&[], &[], &[], &[], &["hello"]),
            (&[], &[], &[], &["a"], &["hello", "a"]),
            (&[], &[], &["/"], &["a"], &["/", "a"]),
            (&["/x.wasm"], &["d"], &[], &[], &["/x.wasm", "d"]),
            (&["/x.wasm"], &["d"], &[], &["a"], &["/x.wasm", "a"]),
            (&["/x.wasm"], &["d"], &["y"], &[], &["y"]),
            (&[], &["/x.wasm", "d"], &[], &[], &["/x.wasm", "d"]),
            (&[], &["/x.wasm"], &[], &["a"], &["hello", "a"]),
        ];
        for (entrypoint, cmd, command, args, expected) in rows {
            let image = RunConfig { entrypoint: list(entrypoint), cmd: list(cmd), ..RunConfig::default() };
            let config = ContainerConfig {
                image: "ghcr.io/a/hello:v1".to_owned(),
                command: list(command),
                args: list(args),
                ..ContainerConfig::default()
            };
            assert_eq!(arguments(&config, &image), list(expected));
        }
    }

    #[test]
    fn a_nul_is_refused() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(check(&["a".to_owned()], &[pair("A", "b")]), Ok(()));
        let rows = [("a\0", "b", "argument 0"), ("a", "b\0c", "variable \"A\"")];
        for (argument, value, expected) in rows {
            let error = check(&[argument.to_owned()], &[pair("A", value)]).expect_err("it has one");
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_function_is_named_after_a_hash() {
        let rows = [("/", None), ("a.wasm#run", Some("run")), ("a#", None), ("#x", Some("x"))];
        for (argument, expected) in rows {
            assert_eq!(entry(&[argument.to_owned()]).as_deref(), expected, "{argument}");
        }
    }
}
