//! Counts the words of every file in a directory, as of a mounted ConfigMap: `word-count [DIR]` (default `/texts`).
//! Prints `WORDS FILE` lines sorted by file and a total; hidden files (the mount's own) are left out.

use std::{fs, io, process::ExitCode};

fn count(dir: &str) -> io::Result<Vec<(usize, String)>> {
    let mut rows = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let path = format!("{dir}/{name}");
        if name.starts_with('.') || !fs::metadata(&path)?.is_file() {
            continue;
        }
        rows.push((fs::read_to_string(&path)?.split_whitespace().count(), name));
    }
    rows.sort_by(|a, b| a.1.cmp(&b.1));
    Ok(rows)
}

fn main() -> ExitCode {
    let dir = std::env::args().nth(1).unwrap_or_else(|| "/texts".into());
    match count(&dir) {
        Ok(rows) => {
            for (words, name) in &rows {
                println!("{words:>8} {name}");
            }
            println!("{:>8} total", rows.iter().map(|r| r.0).sum::<usize>());
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("failed to read {dir}: {e}");
            ExitCode::FAILURE
        }
    }
}
