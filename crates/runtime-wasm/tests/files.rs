//! Files of guests, in both previews: nobody leaves the directories that it was given, and what is taken is counted.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use skiff_runtime::{ContainerConfig, EVICTED, Mount, MountedVolume, Resources, Runtime as _};
use support::Node;

const ESCAPE_1: &[u8] = include_bytes!("../../../wasm-examples/hostile/path-escape.wat");
const FILL_1: &[u8] = include_bytes!("../../../wasm-examples/hostile/disk-bomb.wat");
const FILES_2: &[u8] = include_bytes!("../../../wasm-examples/hostile/files-0.2.wasm");

fn mount(directory: &Path, read_only: bool) -> Mount {
    Mount { host_path: directory.to_owned(), container_path: "/v".to_owned(), read_only, volume: None }
}

fn with(mounts: Vec<Mount>, word: &'static str) -> impl FnOnce(&mut ContainerConfig) {
    move |config| {
        config.mounts = mounts;
        config.args = vec![word.to_owned()];
    }
}

/// Another writer of a shared directory: links and directories change places while a guest walks through them.
struct Planter {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Planter {
    fn start(directory: PathBuf) -> Self {
        std::fs::create_dir(directory.join("real")).unwrap();
        symlink("/etc", directory.join("link")).unwrap();
        symlink("/etc/passwd", directory.join("planted-file")).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let path = |name: &str| directory.join(name);
            while !stopped.load(Ordering::Relaxed) {
                for name in ["real", "link"] {
                    std::fs::rename(path(name), path("planted")).unwrap();
                    std::thread::yield_now();
                    std::fs::rename(path("planted"), path(name)).unwrap();
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Planter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_leaves_its_directories() {
    let node = Node::new().await;
    for (preview, program) in [("1", ESCAPE_1), ("0.2", FILES_2)] {
        node.load("localhost/escape", program).await.unwrap();
        for read_only in [false, true] {
            let shared = node.directory.path().join(format!("shared-{preview}-{read_only}"));
            std::fs::create_dir(&shared).unwrap();
            let planter = Planter::start(shared.clone());
            let mut run = node.start("localhost/escape", with(vec![mount(&shared, read_only)], "escape")).await;
            let exit = run.exit().await;
            drop(planter);
            assert_eq!(exit.code, 0, "preview {preview}, read-only {read_only}: {exit:?} {:?}", run.log());
            assert_eq!(shared.join("d").exists(), !read_only, "it could do what it may");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_counts_in_both_previews() {
    let node = Node::new().await;
    for (preview, program) in [("1", FILL_1), ("0.2", FILES_2)] {
        node.load("localhost/fill", program).await.unwrap();
        let limited = |config: &mut ContainerConfig| {
            config.args = vec!["fill".to_owned()];
            config.resources = Resources { ephemeral_bytes_max: Some(1 << 20), ..Resources::default() };
        };
        let mut run = node.start("localhost/fill", limited).await;
        let exit = run.exit().await;
        assert_eq!((exit.code, exit.reason), (137, EVICTED), "preview {preview}: {exit:?} {:?}", run.log());
        assert!(exit.message.ends_with("exceeded its local ephemeral storage limit \"1Mi\". "), "{exit:?}");

        let volume = node.directory.path().join(format!("volume-{preview}"));
        std::fs::create_dir(&volume).unwrap();
        let counted =
            MountedVolume { name: "data".to_owned(), root: volume.clone(), bytes_max: Some(2 << 20), in_memory: false };
        let mount = Mount { volume: Some(counted), ..mount(&volume, false) };
        let mut run = node.start("localhost/fill", with(vec![mount], "fill")).await;
        let exit = run.exit().await;
        assert_eq!(exit.message, "Usage of EmptyDir volume \"data\" exceeds the limit \"2Mi\". ", "preview {preview}");
        let size = std::fs::metadata(volume.join("bomb")).unwrap().len();
        assert!((2 << 20..3 << 20).contains(&size), "no more than a call's bytes beyond the limit: {size}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_mounted_inside_a_mounted_directory() {
    let node = Node::new().await;
    node.load("localhost/files", include_bytes!("../../../wasm-examples/wat/files.wat")).await.unwrap();
    let directory = node.directory.path().join("volume");
    std::fs::create_dir(&directory).unwrap();
    let file = node.directory.path().join("app.conf");
    std::fs::write(&file, "port=80\n").unwrap();
    let inner = || Mount { container_path: "/v/etc/app.conf".to_owned(), ..mount(&file, true) };
    let read = |config: &mut ContainerConfig| config.args = ["read", "/v/etc/app.conf"].map(str::to_owned).to_vec();
    let mounted = |read_only| {
        let mounts = vec![inner(), mount(&directory, read_only)];
        move |config: &mut ContainerConfig| {
            config.mounts = mounts;
            config.command = vec!["files".to_owned()];
            read(config);
        }
    };
    let mut run = node.start("localhost/files", mounted(false)).await;
    assert_eq!(run.exit().await.code, 0);
    assert_eq!(run.log(), ["port=80"]);
    let refused = node.create("localhost/files", mounted(true)).await;
    assert!(refused.is_err_and(|error| error.to_string().contains("read-only mount at \"/v\"")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_opens_only_so_many_files() {
    let node = Node::new().await;
    node.load("localhost/open", FILES_2).await.unwrap();
    let mut run = node.start("localhost/open", with(vec![], "open")).await;
    let exit = run.exit().await;
    assert_eq!(exit.code, 0, "{exit:?}");
    let expected = format!("{} opened, then insufficient-memory", skiff_runtime_wasm::OPEN_FILES_MAX);
    assert_eq!(run.log(), [expected]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_written_too_fast_waits_and_loses_nothing() {
    let node = Node::new().await;
    node.load("localhost/flood", include_bytes!("../../../wasm-examples/hostile/log-flood.wat")).await.unwrap();
    let before = std::time::Instant::now();
    let run = node.start("localhost/flood", |config| config.log_bytes_max = Some(1 << 20)).await;
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    node.runtime.stop_container(&run.id, std::time::Duration::ZERO).await.unwrap();
    let seconds = before.elapsed().as_secs() + 1;
    let written = node.runtime.container_stats(&run.id).await.unwrap().log_bytes;
    let most = skiff_runtime_wasm::LOG_BYTES_BURST + seconds * skiff_runtime_wasm::LOG_BYTES_PER_SECOND;
    assert!(written <= most, "{written} bytes in {seconds} s; at most {most}");
}
