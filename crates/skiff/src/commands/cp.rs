//! `skiff cp`: files and directories from and to containers, through the container's `tar`.

use std::{
    fs,
    io::{self, Read, Write},
    path::{Component, Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, anyhow, bail};
use kube::api::{AttachParams, AttachedProcess};
use serde_json::Value;
use tar::{Archive, Builder, EntryType};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
    task::spawn_blocking,
};

use crate::{
    conversation::code_of,
    global::Global,
    pods,
    server::{finish, from_kube},
    session::{Namespace, Session},
};

#[derive(clap::Args)]
pub struct Args {
    /// A file or directory here, or `[NAMESPACE/]POD:PATH`
    source: String,

    /// Where it goes: into a directory that is there, or under a new name
    destination: String,

    #[command(flatten)]
    namespace: Namespace,

    /// The container; default: the annotated one, or the first
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
}

/// Chunks under way between the connection and the archive.
const CHUNKS_MAX: usize = 4;
const CHUNK_BYTES: usize = 64 << 10;
/// What is kept of what the container's `tar` says.
const STDERR_BYTES_MAX: u64 = 16 << 10;

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Here(PathBuf),
    There { namespace: Option<String>, pod: String, path: String },
}

impl Place {
    fn parse(text: &str) -> Result<Self> {
        let Some((pod, path)) = text.split_once(':').filter(|(pod, _)| !pod.starts_with(['.', '/'])) else {
            return Ok(Self::Here(text.into()));
        };
        let (namespace, pod) = match pod.split_once('/') {
            Some((namespace, pod)) => (Some(namespace.to_owned()), pod),
            None => (None, pod),
        };
        if pod.is_empty() || path.is_empty() || pod.contains('/') {
            bail!("{text:?} is not [NAMESPACE/]POD:PATH");
        }
        Ok(Self::There { namespace, pod: pod.to_owned(), path: path.to_owned() })
    }
}

pub async fn run(args: Args, global: &Global) -> Result<ExitCode> {
    finish(cp(args, global).await)
}

async fn cp(args: Args, global: &Global) -> Result<ExitCode> {
    let (namespace, pod, copy) = match (Place::parse(&args.source)?, Place::parse(&args.destination)?) {
        (Place::Here(from), Place::There { namespace, pod, path }) => (namespace, pod, Copy::Up { from, to: path }),
        (Place::There { namespace, pod, path }, Place::Here(to)) => (namespace, pod, Copy::Down { from: path, to }),
        (Place::Here(_), Place::Here(_)) => bail!("one of source and destination must be [NAMESPACE/]POD:PATH"),
        (Place::There { .. }, Place::There { .. }) => bail!("one of source and destination must be a local file"),
    };
    let namespace = Namespace { namespace: namespace.or(args.namespace.namespace) };
    let session = Session::open(global, &namespace).await?;
    let pod = pods::one(&session, &pod).await?;
    let container = pods::container(&pod, args.container.as_deref(), false)?.to_owned();
    let remote = Remote { session, pod, container };
    match copy {
        Copy::Up { from, to } => remote.upload(from, &to).await?,
        Copy::Down { from, to } => remote.download(&from, to).await?,
    }
    Ok(ExitCode::SUCCESS)
}

enum Copy {
    Up { from: PathBuf, to: String },
    Down { from: String, to: PathBuf },
}

struct Remote {
    session: Session,
    pod: Value,
    container: String,
}

impl Remote {
    async fn exec(&self, command: &[&str], stdin: bool) -> Result<AttachedProcess> {
        let wanted = AttachParams::default().container(&self.container).stdin(stdin).stdout(true).stderr(true);
        let wanted = wanted.max_stdin_buf_size(CHUNK_BYTES).max_stdout_buf_size(CHUNK_BYTES);
        pods::api(&self.session, &self.pod)
            .exec(pods::name(&self.pod), command.to_vec(), &wanted)
            .await
            .map_err(from_kube)
    }

    async fn is_directory(&self, path: &str) -> Result<bool> {
        let mut process = self.exec(&["test", "-d", path], false).await?;
        let status = process.take_status().context("no status")?;
        Ok(status.await.is_some_and(|status| status.status.as_deref() == Some("Success")))
    }

    /// Into a directory that is there, or under the name that the path ends with.
    async fn upload(&self, from: PathBuf, to: &str) -> Result<()> {
        fs::symlink_metadata(&from).with_context(|| format!("failed to read {}", from.display()))?;
        let own_name = from.file_name().map(|name| name.to_string_lossy().into_owned());
        let to = to.trim_end_matches('/');
        let to = if to.is_empty() { "/" } else { to };
        let (directory, name) = if self.is_directory(to).await? {
            (to, own_name.with_context(|| format!("{} has no name", from.display()))?)
        } else {
            let (directory, name) = to.rsplit_once('/').unwrap_or((".", to));
            (if directory.is_empty() { "/" } else { directory }, name.to_owned())
        };
        let mut process = self.exec(&["tar", "-xmf", "-", "-C", directory], true).await?;
        let mut stdin = process.stdin().context("no stdin")?;
        let (chunks, mut packed) = mpsc::channel(CHUNKS_MAX);
        let packing = spawn_blocking(move || pack(&from, &name, Chunks(chunks)));
        let sending = async {
            while let Some(chunk) = packed.recv().await {
                // A tar that has ended says why on stderr.
                if stdin.write_all(&chunk).await.is_err() {
                    break;
                }
            }
            drop(packed);
            let _ = stdin.shutdown().await;
        };
        let (said, ()) = tokio::join!(stderr_and_status(&mut process), sending);
        let packed = packing.await?;
        said?;
        packed
    }

    /// Into a directory that is there, or under the name that the path ends with.
    async fn download(&self, from: &str, to: PathBuf) -> Result<()> {
        let from = from.trim_end_matches('/').to_owned();
        let to = if to.is_dir() { to.join(Path::new(&from).file_name().unwrap_or_default()) } else { to };
        let mut process = self.exec(&["tar", "cf", "-", if from.is_empty() { "/" } else { &from }], false).await?;
        let mut stdout = process.stdout().context("no stdout")?;
        let (chunks, packed) = mpsc::channel(CHUNKS_MAX);
        let unpacking =
            spawn_blocking(move || unpack(Received { chunks: packed, rest: Vec::new(), at: 0 }, &from, &to));
        let receiving = async {
            loop {
                let mut chunk = Vec::with_capacity(CHUNK_BYTES);
                match stdout.read_buf(&mut chunk).await {
                    Ok(1..) if chunks.send(chunk).await.is_ok() => {}
                    _ => break,
                }
            }
            drop(chunks);
        };
        let (said, ()) = tokio::join!(stderr_and_status(&mut process), receiving);
        let unpacked = unpacking.await?;
        said?;
        unpacked
    }
}

/// What went wrong there, in its own words.
async fn stderr_and_status(process: &mut AttachedProcess) -> Result<()> {
    let (stderr, status) = (process.stderr(), process.take_status());
    let mut said = String::new();
    if let Some(stderr) = stderr {
        let _ = stderr.take(STDERR_BYTES_MAX).read_to_string(&mut said).await;
    }
    let status = match status {
        Some(status) => status.await,
        None => None,
    };
    let status = status.context("the connection was lost")?;
    if status.status.as_deref() == Some("Success") {
        return Ok(());
    }
    if said.trim().is_empty() {
        code_of(&status).map(drop).and_then(|()| Err(anyhow!("tar failed in the container")))
    } else {
        bail!(said.trim().to_owned())
    }
}

/// Writes to the connection's task; waits while it has enough.
struct Chunks(mpsc::Sender<Vec<u8>>);

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(CHUNK_BYTES);
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.0.blocking_send(bytes[..count].to_vec()).map_err(gone)?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads from the connection's task.
struct Received {
    chunks: mpsc::Receiver<Vec<u8>>,
    rest: Vec<u8>,
    at: usize,
}

impl Read for Received {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.rest.len() {
            let Some(chunk) = self.chunks.blocking_recv() else { return Ok(0) };
            (self.rest, self.at) = (chunk, 0);
        }
        let count = buffer.len().min(self.rest.len() - self.at);
        buffer[..count].copy_from_slice(&self.rest[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

fn pack(from: &Path, name: &str, to: Chunks) -> Result<()> {
    let mut builder = Builder::new(io::BufWriter::with_capacity(CHUNK_BYTES, to));
    builder.follow_symlinks(false);
    let packed =
        if from.is_dir() { builder.append_dir_all(name, from) } else { builder.append_path_with_name(from, name) };
    let packed = packed.and_then(|()| builder.into_inner()).and_then(|mut writer| writer.flush());
    packed.with_context(|| format!("failed to copy {}", from.display()))
}

/// What lies at `from` in the archive comes to lie at `to`. Nothing is written anywhere else, whatever the archive says.
fn unpack(archive: impl Read, from: &str, to: &Path) -> Result<()> {
    let mut archive = Archive::new(archive);
    let prefix = Path::new(from.trim_start_matches('/'));
    let mut found = false;
    for entry in archive.entries()? {
        let mut entry = entry.context("the archive is damaged")?;
        let path = entry.path()?.into_owned();
        let below = path.strip_prefix("/").unwrap_or(&path);
        let below = below.strip_prefix("./").unwrap_or(below).to_owned();
        let Ok(below) = below.strip_prefix(prefix) else {
            bail!("the archive has {}, which was not asked for", path.display())
        };
        if below.components().any(|part| !matches!(part, Component::Normal(_))) {
            bail!("the archive has {}, which leads elsewhere", path.display());
        }
        let target = if below.as_os_str().is_empty() { to.to_owned() } else { to.join(below) };
        let failed = || format!("failed to write {}", target.display());
        match entry.header().entry_type() {
            EntryType::Directory => fs::create_dir_all(&target).with_context(failed)?,
            EntryType::Regular | EntryType::Continuous => {
                if let Some(parent) = target.parent() {
                    fs::create_dir_all(parent).with_context(failed)?;
                }
                // Links are never made here, and one that was there before is replaced, not followed.
                if fs::symlink_metadata(&target).is_ok_and(|meta| meta.is_symlink()) {
                    fs::remove_file(&target).with_context(failed)?;
                }
                let mut file = fs::File::create(&target).with_context(failed)?;
                io::copy(&mut entry, &mut file).with_context(failed)?;
            }
            EntryType::Symlink | EntryType::Link => eprintln!("warning: skipping link {}", path.display()),
            _ => continue,
        }
        found = true;
    }
    if !found {
        bail!("{from}: nothing was copied");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_here_or_in_a_pod() {
        let there = |namespace: Option<&str>, pod: &str, path: &str| Place::There {
            namespace: namespace.map(str::to_owned),
            pod: pod.to_owned(),
            path: path.to_owned(),
        };
        for (text, expected) in [
            ("file", Some(Place::Here("file".into()))),
            ("./a:b", Some(Place::Here("./a:b".into()))),
            ("/a:b", Some(Place::Here("/a:b".into()))),
            ("web:/tmp/x", Some(there(None, "web", "/tmp/x"))),
            ("prod/web:/tmp", Some(there(Some("prod"), "web", "/tmp"))),
            ("web:", None),
            ("a/b/c:/x", None),
        ] {
            assert_eq!(Place::parse(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn an_archive_cannot_write_elsewhere() {
        let archive = |path: &str| {
            let mut header = tar::Header::new_gnu();
            header.set_size(1);
            header.set_entry_type(EntryType::Regular);
            // `set_path` would refuse it.
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            let mut builder = Builder::new(Vec::new());
            builder.append(&header, &b"x"[..]).expect("written");
            builder.into_inner().expect("written")
        };
        let dir = tempfile::tempdir().expect("a directory");
        let to = dir.path().join("to");
        for hostile in ["data/../../evil", "../evil", "other/file"] {
            assert!(unpack(&archive(hostile)[..], "/data", &to).is_err(), "{hostile}");
        }
        unpack(&archive("data/a/b")[..], "/data", &to).expect("unpacked");
        assert_eq!(fs::read_to_string(to.join("a/b")).expect("there"), "x");
        assert!(!dir.path().join("evil").exists());
    }
}
