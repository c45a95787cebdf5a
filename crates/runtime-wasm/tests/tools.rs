//! Built-in commands, tar and terminals: what exec offers beside the container's own module.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{io::Read as _, os::unix::fs::symlink, path::PathBuf, time::Duration};

use skiff_runtime::{
    Attached, ContainerConfig, Error, ExecOutput, ExecRequest, Mount, Runtime as _, StreamsWanted, TerminalSize,
};
use support::{Node, Run};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const OBEY: &str = include_str!("../../../wasm-examples/wat/obey.wat");
const ALL: StreamsWanted = StreamsWanted { stdin: true, stdout: true, stderr: true, tty: false };

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

async fn sleeper(node: &Node, change: impl FnOnce(&mut ContainerConfig)) -> Run<'_> {
    node.load("localhost/obey", OBEY.as_bytes()).await.unwrap();
    let change = |config: &mut ContainerConfig| {
        config.args = words(&["sleep"]);
        change(config);
    };
    node.start("localhost/obey", change).await
}

async fn tool(run: &Run<'_>, command: &[&str]) -> ExecOutput {
    run.node.runtime.exec_sync(&run.id, &words(command), Duration::from_secs(60)).await.unwrap()
}

async fn text(run: &Run<'_>, command: &[&str]) -> String {
    let output = tool(run, command).await;
    assert_eq!((output.code, String::from_utf8_lossy(&output.stderr).as_ref()), (0, ""), "{command:?}");
    String::from_utf8(output.stdout).unwrap()
}

async fn exec(run: &Run<'_>, command: &[&str], streams: StreamsWanted) -> Attached {
    run.node.runtime.exec(&run.id, ExecRequest { command: words(command), streams }).await.unwrap()
}

/// A directory on the node with a file in it, and its mount.
fn mount(node: &Node, name: &str, read_only: bool) -> (PathBuf, Mount) {
    let host_path = node.directory.path().join(name);
    std::fs::create_dir(&host_path).unwrap();
    std::fs::write(host_path.join("file"), name).unwrap();
    (host_path.clone(), Mount { host_path, container_path: format!("/{name}"), read_only, volume: None })
}

/// Sends it all while the output is read; the output, the errors and the exit code.
async fn talk(attached: Attached, input: &[u8]) -> (Vec<u8>, String, i32) {
    let Attached { stdin, stdout, stderr, exit, .. } = attached;
    let send = async {
        let mut stdin = stdin.unwrap();
        let _ = stdin.write_all(input).await;
        let _ = stdin.shutdown().await;
    };
    let read = async |stream: Option<skiff_runtime::streams::Reader>| {
        let mut all = Vec::new();
        if let Some(mut stream) = stream {
            stream.read_to_end(&mut all).await.unwrap();
        }
        all
    };
    let all = async { tokio::join!(send, read(stdout), read(stderr), exit) };
    let ((), out, err, exit) = tokio::time::timeout(Duration::from_secs(60), all).await.expect("it ends");
    (out, String::from_utf8(err).unwrap(), exit.unwrap().code)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_containers_own_view_is_shown() {
    let node = Node::new().await;
    let (_, data) = mount(&node, "data", false);
    let run = sleeper(&node, |config| {
        config.mounts = vec![data];
        config.env = vec![("COLOUR".to_owned(), "blue".to_owned())];
    })
    .await;
    assert_eq!(text(&run, &["@ls", "/"]).await, "data\n");
    assert_eq!(text(&run, &["@ls", "/data"]).await, "file\n");
    assert!(text(&run, &["@ls", "-l", "/data/file"]).await.starts_with("-rw-r--r--  1 4 20"));
    assert_eq!(text(&run, &["@cat", "/data/file"]).await, "data");
    assert!(text(&run, &["@stat", "/data/file"]).await.contains("  Size: 4\n  Kind: regular file\n"));
    assert!(text(&run, &["@env"]).await.contains("COLOUR=blue\n"));
    assert!(text(&run, &["@help"]).await.contains("@top"));
    let missing = tool(&run, &["@cat", "/nothing", "/data/file"]).await;
    assert_eq!((missing.code, missing.stdout), (1, b"data".to_vec()));
    assert_eq!(String::from_utf8(missing.stderr).unwrap(), "cat: /nothing: No such file or directory\n");
    for (command, code) in [(["test", "-d", "/data"], 0), (["test", "-d", "/data/file"], 1), (["test", "-e", "/x"], 1)]
    {
        assert_eq!(tool(&run, &command).await.code, code, "{command:?}");
    }
    let unknown = node.runtime.exec_sync(&run.id, &words(&["@nope"]), Duration::from_secs(1)).await;
    assert!(matches!(&unknown, Err(Error::Invalid(text)) if text.contains("@ls")), "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_and_what_they_use_are_shown() {
    let node = Node::new().await;
    let run = sleeper(&node, |config| config.resources = support::memory(16 << 20)).await;
    let busy = exec(&run, &["obey", "loop"], ALL).await;
    let ps = text(&run, &["@ps"]).await;
    let commands: Vec<_> = ps.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    assert_eq!(commands[0], ["PID", "STARTED", "CPU", "MEMORY", "COMMAND"]);
    let row = |at: usize| (commands[at][0], commands[at].last().copied().unwrap());
    assert_eq!((row(1), row(2).1, row(3).1), (("1", "sleep"), "loop", "@ps"), "{ps}");
    let top = text(&run, &["@top"]).await;
    assert!(top.contains("(of 16384Ki)") && top.contains("obey loop"), "{top}");
    let millis = top.lines().find(|line| line.ends_with("obey loop")).unwrap().split_whitespace().nth(1).unwrap();
    assert!(millis.parse::<u32>().unwrap() > 0, "{top}");
    drop(busy);
}

#[tokio::test(flavor = "multi_thread")]
async fn links_do_not_lead_out() {
    let node = Node::new().await;
    let (host, data) = mount(&node, "data", false);
    let secret = node.directory.path().join("secret");
    std::fs::write(&secret, "secret").unwrap();
    symlink(&secret, host.join("absolute")).unwrap();
    symlink("../secret", host.join("relative")).unwrap();
    symlink("/", host.join("all")).unwrap();
    let run = sleeper(&node, |config| config.mounts = vec![data]).await;
    for path in ["/data/absolute", "/data/relative", "/data/all/etc/passwd", "/etc/passwd", "/data/../../../etc/passwd"]
    {
        let output = tool(&run, &["@cat", path]).await;
        assert_eq!((output.code, output.stdout.len()), (1, 0), "{path}");
    }
    // Links are packed as links.
    let output = tool(&run, &["tar", "cf", "-", "/data"]).await;
    assert!(!output.stdout.windows(6).any(|bytes| bytes == b"secret\0"), "{:?}", output.stderr);
}

fn archive(members: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, kind, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o640);
        if kind.is_symlink() {
            header.set_size(0);
            archive.append_link(&mut header, name, content).unwrap();
            continue;
        }
        header.set_size(content.len() as u64);
        if name.contains("..") {
            // As no honest archiver writes it.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            archive.append(&header, content.as_bytes()).unwrap();
        } else {
            archive.append_data(&mut header, name, content.as_bytes()).unwrap();
        }
    }
    archive.into_inner().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_go_in_and_come_out() {
    use tar::EntryType::{Directory, Regular, Symlink};
    let node = Node::new().await;
    let (host, data) = mount(&node, "data", false);
    let (fixed_host, fixed) = mount(&node, "fixed", true);
    let run = sleeper(&node, |config| config.mounts = vec![data, fixed]).await;
    let long = format!("in/{}/name", "long".repeat(60));
    let members = [
        ("in", Directory, ""),
        ("in/a", Regular, "content of a"),
        (&long, Regular, "long name"),
        ("in/link", Symlink, "a"),
    ];
    let into = exec(&run, &["tar", "-xmf", "-", "-C", "/data"], ALL).await;
    assert_eq!(talk(into, &archive(&members)).await, (vec![], String::new(), 0));
    assert_eq!(std::fs::read(host.join("in/a")).unwrap(), b"content of a");
    assert_eq!(std::fs::read(host.join(&long)).unwrap(), b"long name");
    assert_eq!(std::fs::read_link(host.join("in/link")).unwrap(), PathBuf::from("a"));

    let (packed, errors, code) = talk(exec(&run, &["tar", "cf", "-", "/data/in"], ALL).await, b"").await;
    assert_eq!((errors.as_str(), code), ("", 0));
    let mut names = Vec::new();
    for entry in tar::Archive::new(packed.as_slice()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        names.push((entry.path().unwrap().to_string_lossy().into_owned(), content));
    }
    let expected = [("data/in", ""), ("data/in/a", "content of a"), ("data/in/link", "")];
    for (name, content) in expected {
        assert!(names.iter().any(|(n, c)| n.trim_end_matches('/') == name && c == content), "{name} in {names:?}");
    }
    assert!(names.iter().any(|(n, c)| *n == format!("data/{long}") && c == "long name"), "{names:?}");
    let (rest, _, _) = talk(exec(&run, &["sh", "-c", "tar cf - /data/in | tail -c+513"], ALL).await, b"").await;
    assert_eq!(rest, packed[512..]);

    for (directory, member, says) in [
        ("/fixed", ("a", Regular, "x"), "Read-only file system"),
        ("/data", ("../b", Regular, "x"), "Member name contains '..'"),
        ("/data", ("c", Symlink, "/etc/passwd"), "absolute"),
    ] {
        let after = ("after", Regular, "still comes");
        let bad = talk(exec(&run, &["tar", "xf", "-", "-C", directory], ALL).await, &archive(&[member, after])).await;
        assert!(bad.1.contains(says) && bad.2 == 2, "{bad:?}");
    }
    assert_eq!(std::fs::read(host.join("after")).unwrap(), b"still comes");
    assert_eq!(std::fs::read_dir(fixed_host).unwrap().count(), 1);
    let (_, errors, code) = talk(exec(&run, &["tar", "xf", "-"], ALL).await, &[b'x'; 1024]).await;
    assert!(errors.contains("does not look like a tar archive") && code == 2, "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_are_compressed_on_the_way() {
    let node = Node::new().await;
    let (host, data) = mount(&node, "data", false);
    let run = sleeper(&node, |config| config.mounts = vec![data]).await;
    let content = "the same again ".repeat(10_000);
    std::fs::create_dir(host.join("in")).unwrap();
    std::fs::write(host.join("in/a"), &content).unwrap();
    let (packed, errors, code) = talk(exec(&run, &["tar", "czf", "-", "-C", "/data", "in"], ALL).await, b"").await;
    assert_eq!((errors.as_str(), code, &packed[..2]), ("", 0, &[0x1f, 0x8b][..]));
    assert!(packed.len() < content.len() / 10, "{}", packed.len());
    let unpack = ["tar", "xzf", "-", "-C", "/data/in"];
    assert_eq!(talk(exec(&run, &unpack, ALL).await, &packed).await, (vec![], String::new(), 0));
    assert_eq!(std::fs::read_to_string(host.join("in/in/a")).unwrap(), content);
    let (_, errors, code) = talk(exec(&run, &unpack, ALL).await, &packed[..packed.len() / 2]).await;
    assert!(errors.starts_with("tar: ") && code == 2, "{errors}");
    let (_, errors, code) = talk(exec(&run, &unpack, ALL).await, &vec![b'x'; 1 << 20]).await;
    assert!(errors.starts_with("tar: ") && code == 2, "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_counts_against_the_disk() {
    let node = Node::new().await;
    let limit = |config: &mut ContainerConfig| config.resources.ephemeral_bytes_max = Some(1 << 20);
    let large = "x".repeat(300_000);
    let archive = archive(&["a", "b", "c", "d", "e"].map(|name| (name, tar::EntryType::Regular, large.as_str())));
    let mut run = sleeper(&node, limit).await;
    let attached = exec(&run, &["tar", "xf", "-", "-C", "/"], ALL).await;
    assert_ne!(talk(attached, &archive).await.2, 0);
    let exit = run.exit().await;
    assert_eq!((exit.code, exit.reason), (137, skiff_runtime::EVICTED), "{exit:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_without_files_gets_some_by_tar() {
    let node = Node::new().await;
    node.load("localhost/sleep", include_bytes!("../../../wasm-examples/wat/sleep.wat")).await.unwrap();
    let run = node.start("localhost/sleep", |_| {}).await;
    assert_eq!(text(&run, &["@ls", "/"]).await, "");
    let archive = archive(&[("new/file", tar::EntryType::Regular, "here")]);
    assert_eq!(talk(exec(&run, &["tar", "xmf", "-", "-C", "/"], ALL).await, &archive).await.2, 0);
    assert_eq!(text(&run, &["@cat", "new/file"]).await, "here");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_edits_lines_and_interrupts() {
    let node = Node::new().await;
    let run = sleeper(&node, |_| {}).await;
    let tty = StreamsWanted { tty: true, ..ALL };
    let attached = exec(&run, &["obey", "input"], tty).await;
    assert!(attached.stderr.is_none(), "it goes to stdout");
    attached.resize.as_ref().unwrap().send(TerminalSize { width: 80, height: 24 }).await.unwrap();
    let (out, _, code) = talk(attached, b"hellp\x7fo\r\x04").await;
    assert_eq!(String::from_utf8(out).unwrap(), "hellp\x08 \x08o\r\nhello\r\n");
    assert_eq!(code, 0);
    let looping = exec(&run, &["obey", "loop"], tty).await;
    assert_eq!(talk(looping, b"\x03").await.2, 130);
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_whose_client_leaves_end() {
    let node = Node::new().await;
    let run = sleeper(&node, |_| {}).await;
    // More than run at once: none of them may stay. Each would wait for ever: for input, or for somebody who reads.
    for _ in 0..50 {
        let mut waiting = Vec::new();
        for command in [&["@cat"][..], &["tar", "xf", "-"], &["tar", "cf", "-", "/"], &["@top"]] {
            loop {
                let request = ExecRequest { command: words(command), streams: StreamsWanted { tty: true, ..ALL } };
                match node.runtime.exec(&run.id, request).await {
                    Ok(attached) => break waiting.push(attached),
                    // The ones before are on their way out.
                    Err(Error::Exhausted(_)) => tokio::time::sleep(Duration::from_millis(5)).await,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
    let start = std::time::Instant::now();
    while text(&run, &["@ps"]).await.lines().count() > 3 {
        assert!(start.elapsed() < Duration::from_secs(60), "{}", text(&run, &["@ps"]).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    node.runtime.stop_container(&run.id, Duration::from_secs(30)).await.unwrap();
}
