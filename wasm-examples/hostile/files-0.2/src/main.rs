//! What a hostile component tries with WASI 0.2's files: `escape` tries to leave its last directory, `fill` writes to it
//! for ever, `open` opens files for ever. Each says how it was stopped.
//!
//! Build: `cargo build --release --target wasm32-wasip2`, then copy `hostile-files.wasm` to `../files-0.2.wasm`.

use wasip2::filesystem::{
    preopens::get_directories,
    types::{Descriptor, DescriptorFlags, OpenFlags, PathFlags},
};

const WAYS: [&str; 20] = [
    "..", "../", "../..", "./..", "d/../..", "../../../../../../etc/passwd", "/", "/etc/passwd", "/proc/self/environ",
    "d/../../etc/passwd", "//etc/passwd", "planted/passwd", "out", "out/passwd", "up", "up/../..", "d/up", "proc",
    "proc/self/root/etc/passwd", "loop/x",
];

fn main() {
    let directories = get_directories();
    match std::env::args().nth(1).as_deref() {
        Some("fill") => fill(&directories[directories.len() - 1].0),
        Some("open") => open(&directories[0].0),
        _ => escape(&directories[directories.len() - 1].0),
    }
}

fn open_at(directory: &Descriptor, follow: bool, path: &str) -> Result<Descriptor, String> {
    let flags = if follow { PathFlags::SYMLINK_FOLLOW } else { PathFlags::empty() };
    directory.open_at(flags, path, OpenFlags::empty(), DescriptorFlags::READ).map_err(|error| error.name().to_owned())
}

fn try_all(directory: &Descriptor) {
    for way in WAYS {
        for follow in [false, true] {
            if open_at(directory, follow, way).is_ok() {
                println!("{way}");
                std::process::exit(1);
            }
        }
    }
}

fn escape(directory: &Descriptor) {
    try_all(directory);
    let _ = directory.create_directory_at("d");
    for (to, at) in [("/etc", "out"), ("..", "up"), ("../../../../../etc", "d/up"), ("/proc", "proc"), ("loop", "loop")] {
        let _ = directory.symlink_at(to, at);
    }
    try_all(directory);
    if directory.link_at(PathFlags::SYMLINK_FOLLOW, "/etc/passwd", directory, "hard").is_ok() {
        println!("a hard link");
        std::process::exit(1);
    }
    for _ in 0..20 {
        let _ = directory.rename_at("d", directory, "a");
        try_all(directory);
        let _ = directory.rename_at("a", directory, "d");
        try_all(directory);
    }
}

fn fill(directory: &Descriptor) {
    let flags = DescriptorFlags::WRITE | DescriptorFlags::READ;
    let file = directory.open_at(PathFlags::empty(), "bomb", OpenFlags::CREATE, flags).expect("opens");
    let stream = file.write_via_stream(0).expect("a stream");
    let chunk = vec![b'x'; 4096];
    while stream.blocking_write_and_flush(&chunk).is_ok() {}
    println!("refused");
}

fn open(directory: &Descriptor) {
    let mut opened = vec![];
    loop {
        match open_at(directory, false, ".") {
            Ok(descriptor) => opened.push(descriptor),
            Err(error) => {
                println!("{} opened, then {error}", opened.len());
                return;
            }
        }
    }
}
