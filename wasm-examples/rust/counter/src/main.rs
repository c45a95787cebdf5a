//! Counts its own starts in a file: `counter [FILE]` (default `/data/count`). Mount a volume there to keep it.

use std::{fs, io::ErrorKind, process::ExitCode};

fn main() -> ExitCode {
    let path = std::env::args().nth(1).unwrap_or_else(|| "/data/count".into());
    let before = match fs::read_to_string(&path) {
        Ok(text) => match text.trim().parse::<u64>() {
            Ok(n) => n,
            Err(e) => {
                eprintln!("{path} does not hold a number: {e}");
                return ExitCode::from(2);
            }
        },
        Err(e) if e.kind() == ErrorKind::NotFound => 0,
        Err(e) => {
            eprintln!("failed to read {path}: {e}");
            return ExitCode::from(1);
        }
    };
    if let Err(e) = fs::write(&path, format!("{}\n", before + 1)) {
        eprintln!("failed to write {path}: {e}");
        return ExitCode::from(1);
    }
    println!("{}", before + 1);
    ExitCode::SUCCESS
}
