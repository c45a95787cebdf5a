//! Commands that are built in: a Wasm container has no shell and no `ls` of its own.
//!
//! Those that begin with `@` are for people: `@ls`, `@cat`, `@env`, `@stat`, `@ps`, `@top`, `@help`. Without it there are
//! only `tar` and `test`, as `kubectl cp` runs them. They see what the container sees ([`view`]) and nothing else.
//!
//! A tool runs on a thread of its own, which waits when its client does not read: [`TOOLS_MAX`] bounds how many do. It
//! counts as a process of its container, and ends with it.

mod disk;
mod files;
mod processes;
mod streams;
mod tar_pack;
mod tar_unpack;
mod view;

use std::{
    io::{self, Write as _},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use skiff_runtime::{Attached, Error, Exit, Result, StreamsWanted, ledger::Container};
use tokio::sync::oneshot;

use self::{
    disk::Disk,
    streams::{In, Out},
    view::View,
};
use super::{Pipes, table::Entry};
use crate::process::Process;

/// For messages.
pub const NAMES: &str = "@ls, @cat, @env, @stat, @ps, @top, @help, tar, test";
/// Tools that run at once in this process, whatever their containers; exec answers with an error beyond.
const TOOLS_MAX: usize = 128;
static RUNNING: AtomicUsize = AtomicUsize::new(0);

const HELP: &str = "\
Commands that are built in; they see the container's own files, variables and processes:
  @ls [-l] [-a] [PATH...]   what is in a directory
  @cat [PATH...]            what is in a file; stdin without one
  @stat PATH...             size, kind, mode and times of a file
  @env                      the environment of the container
  @ps                       its processes
  @top                      what they use; on a terminal until ctrl-c
  @help                     this text
  tar, test                 as kubectl cp uses them
Anything else runs the container's own module with these words as its arguments.
";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Ls,
    Cat,
    Stat,
    Env,
    Ps,
    Top,
    Help,
    Tar,
    Test,
}

/// A command that is built in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    name: Name,
    command: Vec<String>,
    /// Bytes of the output that are left out, for a copy that is taken up again.
    skip: u64,
}

impl Tool {
    /// The tool that a command names, if it names one.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an `@` that is none of them.
    pub fn named(command: &[String]) -> Result<Option<Self>> {
        let Some(first) = command.first() else { return Ok(None) };
        if let Some(tool) = resumed(command) {
            return Ok(Some(tool));
        }
        let name = match first.as_str() {
            "@ls" => Name::Ls,
            "@cat" => Name::Cat,
            "@stat" => Name::Stat,
            "@env" => Name::Env,
            "@ps" => Name::Ps,
            "@top" => Name::Top,
            "@help" => Name::Help,
            "tar" => Name::Tar,
            "test" => Name::Test,
            other if other.starts_with('@') => {
                return Err(Error::Invalid(format!("{other:?} is not a built-in command; there are {NAMES}")));
            }
            _ => return Ok(None),
        };
        Ok(Some(Self { name, command: command.to_vec(), skip: 0 }))
    }
}

/// `sh -c "tar cf - PATH | tail -c+N"`, with which kubectl cp goes on after a connection was lost.
fn resumed(command: &[String]) -> Option<Tool> {
    let [shell, option, script] = command else { return None };
    if shell != "sh" || option != "-c" {
        return None;
    }
    let (path, from) = script.strip_prefix("tar cf - ")?.rsplit_once(" | tail -c+")?;
    let from: u64 = from.trim().parse().ok()?;
    let command = ["tar", "cf", "-", path].map(str::to_owned).to_vec();
    Some(Tool { name: Name::Tar, command, skip: from.saturating_sub(1) })
}

/// Told when the tool is to end.
#[derive(Default)]
struct Cancel {
    ended: Mutex<bool>,
    changed: Condvar,
}

impl Cancel {
    fn cancel(&self) {
        *self.ended.lock() = true;
        self.changed.notify_all();
    }

    /// Waits for that long; whether it is to end.
    fn wait(&self, time: Duration) -> bool {
        let mut ended = self.ended.lock();
        if !*ended {
            self.changed.wait_for(&mut ended, time);
        }
        *ended
    }
}

/// What a tool works with.
struct Job {
    container: Arc<Container<Process>>,
    entry: Arc<Entry>,
    view: View,
    disk: Disk,
    input: In,
    out: Out,
    err: Out,
    tty: bool,
    cancel: Arc<Cancel>,
}

impl Job {
    fn run(&mut self, tool: &Tool) -> i32 {
        self.out.skip(tool.skip);
        let args = &tool.command[1..];
        let result = match tool.name {
            Name::Ls => files::ls(self, args),
            Name::Cat => files::cat(self, args),
            Name::Stat => files::stat(self, args),
            Name::Test => Ok(files::test(self, args)),
            Name::Env => processes::env(self),
            Name::Ps => processes::ps(self),
            Name::Top => processes::top(self),
            Name::Help => self.out.write_all(HELP.as_bytes()).map(|()| 0),
            Name::Tar => tar(self, args),
        };
        // Whoever reads is gone: there is nobody to tell.
        result.unwrap_or(1)
    }

    /// Says what went wrong with a path, in the words of the usual tools.
    fn complain(&mut self, tool: &str, path: &str, error: &io::Error) {
        let _ = writeln!(self.err, "{tool}: {path}: {}", why(error));
    }
}

/// Without the number that Rust adds.
fn why(error: &io::Error) -> String {
    if error.raw_os_error() == Some(rustix::io::Errno::XDEV.raw_os_error()) {
        return "It leads out of the container's files".to_owned();
    }
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// `tar [-]c[z]f - PATH...`, `tar [-]x[z]mf - [-C DIR]`.
fn tar(job: &mut Job, args: &[String]) -> io::Result<i32> {
    // A copy may be long, and is nobody's hurry but its own.
    crate::lanes::lower_priority();
    match tar_options(args) {
        Ok(TarOptions { create: true, gzip, paths, directory }) => tar_pack::pack(job, &directory, &paths, gzip),
        Ok(TarOptions { create: false, gzip, directory, .. }) => tar_unpack::unpack(job, &directory, gzip),
        Err(message) => {
            writeln!(job.err, "tar: {message}")?;
            Ok(2)
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct TarOptions {
    create: bool,
    gzip: bool,
    directory: String,
    paths: Vec<String>,
}

fn tar_options(args: &[String]) -> std::result::Result<TarOptions, String> {
    let (mut create, mut extract, mut gzip) = (false, false, false);
    let (mut directory, mut paths) = (".".to_owned(), Vec::new());
    let mut rest = args.iter();
    let mut first = true;
    while let Some(arg) = rest.next() {
        let mut value = |name: char| rest.next().cloned().ok_or(format!("option {name:?} needs a value"));
        match arg.strip_prefix('-') {
            Some("" | "-") => paths.push(arg.clone()),
            Some("-no-same-owner" | "-no-same-permissions" | "-same-owner" | "-same-permissions") => {}
            Some(long) if long.starts_with('-') => return Err(format!("option {arg:?} is not supported")),
            None if !first => paths.push(arg.clone()),
            letters => {
                for letter in letters.unwrap_or(arg).chars() {
                    match letter {
                        'c' => create = true,
                        'x' => extract = true,
                        'z' => gzip = true,
                        'm' | 'o' | 'p' | 'v' => {}
                        'f' => {
                            let file = value('f')?;
                            if file != "-" {
                                return Err(format!("only \"-\" (stdin or stdout) can be the archive, not {file:?}"));
                            }
                        }
                        'C' => directory = value('C')?,
                        other => return Err(format!("option {other:?} is not supported")),
                    }
                }
            }
        }
        first = false;
    }
    if create == extract {
        return Err("it takes \"tar cf - PATH...\" or \"tar xf - [-C DIR]\"".to_owned());
    }
    if create && paths.is_empty() {
        return Err("Cowardly refusing to create an empty archive".to_owned());
    }
    Ok(TarOptions { create, gzip, directory, paths })
}

/// One of [`TOOLS_MAX`], given back when it is dropped.
struct Seat;

impl Seat {
    fn take() -> Result<Self> {
        if RUNNING.fetch_add(1, Ordering::SeqCst) >= TOOLS_MAX {
            drop(Self);
            return Err(Error::Exhausted(format!("the node runs {TOOLS_MAX} built-in commands, as many as it can")));
        }
        Ok(Self)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Runs it in a container that is running.
pub async fn exec(container: Arc<Container<Process>>, tool: Tool, wanted: StreamsWanted) -> Result<Attached> {
    let process = &container.extra;
    tokio::select! {
        _ = process.preopens.wait() => {}
        () = container.wait_exited() => return Err(Error::InvalidState("the container has exited".to_owned())),
    }
    let seat = Seat::take()?;
    let (entry, killed) = process.processes.enter(tool.command.clone(), &process.usage)?;
    let pipes = Pipes::new(wanted, &process.account);
    let (tell, exited) = oneshot::channel();
    let attached = pipes.attached(wanted, &entry, exited);
    let cancel = Arc::new(Cancel::default());
    let mut job = Job {
        view: View::new(&process.root, &container.config.mounts, process.working_dir.as_deref()),
        disk: Disk::new(process.storage.clone()),
        container: container.clone(),
        entry: entry.clone(),
        input: In::new(pipes.stdin.clone()),
        out: Out::new(pipes.stdout.clone()),
        err: Out::new(pipes.stderr.clone()),
        tty: wanted.tty,
        cancel: cancel.clone(),
    };
    let (done, mut finished) = oneshot::channel();
    let work = move || {
        let _seat = seat;
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job.run(&tool)));
        let _ = done.send(run.unwrap_or(1));
    };
    let started = std::thread::Builder::new().name("wasm-tool".to_owned()).spawn(work);
    // It watches for the end, whichever comes first: the tool's own, its client's or its container's.
    tokio::runtime::Handle::current().spawn(async move {
        let exit = tokio::select! {
            code = &mut finished => Exit::from_code(code.unwrap_or(1)),
            Ok(exit) = killed => {
                cancel.cancel();
                pipes.break_off();
                let _ = finished.await;
                exit
            }
        };
        pipes.end();
        container.extra.processes.left(entry.pid);
        let _ = tell.send(exit);
    });
    started.map_err(|error| Error::Exhausted(format!("no thread for a built-in command: {error}")))?;
    Ok(attached)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn what_kubectl_cp_runs_is_understood() {
        let tar = |create, directory: &str, paths: &[&str]| {
            let paths = paths.iter().map(|&path| path.to_owned()).collect();
            Ok(TarOptions { create, gzip: false, directory: directory.to_owned(), paths })
        };
        for (line, expected) in [
            ("cf - /data", tar(true, ".", &["/data"])),
            ("-cf - a b", tar(true, ".", &["a", "b"])),
            ("xmf - -C /data", tar(false, "/data", &[])),
            ("-xmf -", tar(false, ".", &[])),
            ("--no-same-permissions --no-same-owner -xmf - -C /", tar(false, "/", &[])),
            ("cf - -C /data a", tar(true, "/data", &["a"])),
            ("czf - a", tar(true, ".", &["a"]).map(|options| TarOptions { gzip: true, ..options })),
            ("cjf - a", Err("option 'j' is not supported".to_owned())),
            ("cf /a b", Err("only \"-\" (stdin or stdout) can be the archive, not \"/a\"".to_owned())),
        ] {
            assert_eq!(tar_options(&words(line)), expected, "{line}");
        }
    }

    #[test]
    fn tools_are_told_from_arguments() {
        let named = |line: &str| Tool::named(&words(line));
        assert_eq!(named("ls /").expect("fine"), None, "without the @ it is for the module");
        assert_eq!(named("@ls /").expect("fine").expect("a tool").name, Name::Ls);
        assert!(named("@nope").is_err());
        let script = ["sh", "-c", "tar cf - /a b | tail -c+513"].map(str::to_owned);
        let resumed = Tool::named(&script).expect("fine").expect("a tool");
        assert_eq!((resumed.skip, resumed.command[3].as_str()), (512, "/a b"));
    }
}
