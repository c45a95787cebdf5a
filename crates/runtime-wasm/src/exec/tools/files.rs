//! `@ls`, `@cat`, `@stat` and `test`.

use std::{
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use super::{
    Job,
    view::{Kind, Meta},
};

/// Read and written at once.
const CHUNK_BYTES: usize = 64 << 10;

/// `-l` and the like, then paths.
fn options(args: &[String], known: &str) -> Result<(String, Vec<String>), String> {
    let (mut letters, mut paths) = (String::new(), Vec::new());
    for (at, arg) in args.iter().enumerate() {
        match arg.strip_prefix('-') {
            Some("-") => {
                paths.extend_from_slice(&args[at + 1..]);
                break;
            }
            Some(more) if !more.is_empty() => match more.chars().find(|letter| !known.contains(*letter)) {
                Some(letter) => return Err(format!("option {letter:?} is not known")),
                None => letters.push_str(more),
            },
            _ => paths.push(arg.clone()),
        }
    }
    Ok((letters, paths))
}

pub fn ls(job: &mut Job, args: &[String]) -> io::Result<i32> {
    let (letters, mut paths) = match options(args, "la1") {
        Ok(parsed) => parsed,
        Err(message) => {
            writeln!(job.err, "ls: {message}")?;
            return Ok(2);
        }
    };
    if paths.is_empty() {
        paths.push(".".to_owned());
    }
    let long = letters.contains('l');
    let several = paths.len() > 1;
    let mut code = 0;
    for (at, path) in paths.iter().enumerate() {
        match listed(job, Path::new(path), letters.contains('a')) {
            Ok(Listed::Directory(rows)) => {
                if several {
                    writeln!(job.out, "{}{path}:", if at == 0 { "" } else { "\n" })?;
                }
                print_rows(job, Some(Path::new(path)), &rows, long)?;
            }
            Ok(Listed::File(row)) => print_rows(job, None, &[row], long)?,
            Err(error) => {
                job.complain("ls", path, &error);
                code = 1;
            }
        }
    }
    Ok(code)
}

enum Listed {
    Directory(Vec<(PathBuf, Meta)>),
    File((PathBuf, Meta)),
}

fn listed(job: &Job, path: &Path, all: bool) -> io::Result<Listed> {
    let meta = match job.view.stat(path, true) {
        Ok(meta) => meta,
        // A link that leads nowhere is there all the same.
        Err(error) => job.view.stat(path, false).ok().filter(|meta| meta.kind == Kind::Link).ok_or(error)?,
    };
    if meta.kind != Kind::Directory {
        return Ok(Listed::File((path.to_owned(), meta)));
    }
    let entries = job.view.list(path)?.into_iter();
    let shown = entries.filter(|(name, _)| all || !name.as_encoded_bytes().starts_with(b"."));
    Ok(Listed::Directory(shown.map(|(name, meta)| (PathBuf::from(name), meta)).collect()))
}

fn print_rows(job: &mut Job, parent: Option<&Path>, rows: &[(PathBuf, Meta)], long: bool) -> io::Result<()> {
    let width = rows.iter().map(|(_, meta)| meta.size.to_string().len()).max().unwrap_or(0);
    let mut text = Vec::new();
    for (name, meta) in rows {
        if long {
            let (kind, mode) = (letter(meta.kind), permissions(meta.mode));
            write!(text, "{kind}{mode} {:2} {:width$} {} ", meta.links, meta.size, time(meta.modified_s))?;
        }
        print_name(&mut text, name);
        if long && meta.kind == Kind::Link {
            let path = parent.map_or_else(|| name.clone(), |parent| parent.join(name));
            if let Ok(target) = job.view.read_link(&path) {
                text.extend_from_slice(b" -> ");
                print_name(&mut text, Path::new(&target));
            }
        }
        text.push(b'\n');
        if text.len() > CHUNK_BYTES {
            job.out.write_all(&text)?;
            text.clear();
        }
    }
    job.out.write_all(&text)
}

/// A name that a guest chose must not steer somebody's terminal.
fn print_name(text: &mut Vec<u8>, name: &Path) {
    let name = name.to_string_lossy();
    text.extend(name.chars().flat_map(|c| if c.is_control() { '?' } else { c }.to_string().into_bytes()));
}

fn letter(kind: Kind) -> char {
    match kind {
        Kind::File => '-',
        Kind::Directory => 'd',
        Kind::Link => 'l',
        Kind::Other => '?',
    }
}

fn permissions(mode: u32) -> String {
    let bit = |at: u32, letter| if mode & (1 << at) == 0 { '-' } else { letter };
    (0..9).rev().map(|at| bit(at, ['x', 'w', 'r'][at as usize % 3])).collect()
}

/// `2026-01-31 12:00:00`
fn time(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| "?".to_owned(), |time| time.strftime("%F %T").to_string())
}

pub fn cat(job: &mut Job, args: &[String]) -> io::Result<i32> {
    let mut chunk = vec![0; CHUNK_BYTES];
    if args.is_empty() {
        loop {
            match job.input.read(&mut chunk)? {
                0 => return Ok(0),
                count => job.out.write_all(&chunk[..count])?,
            }
        }
    }
    let mut code = 0;
    for path in args {
        let mut file = match job.view.open(Path::new(path)) {
            Ok((file, _)) => file,
            Err(error) => {
                job.complain("cat", path, &error);
                code = 1;
                continue;
            }
        };
        loop {
            match file.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => job.out.write_all(&chunk[..count])?,
                Err(error) => {
                    job.complain("cat", path, &error);
                    code = 1;
                    break;
                }
            }
        }
    }
    Ok(code)
}

pub fn stat(job: &mut Job, args: &[String]) -> io::Result<i32> {
    let mut code = i32::from(args.is_empty());
    if args.is_empty() {
        writeln!(job.err, "stat: it takes paths")?;
    }
    for path in args {
        let meta = match job.view.stat(Path::new(path), false) {
            Ok(meta) => meta,
            Err(error) => {
                job.complain("stat", path, &error);
                code = 1;
                continue;
            }
        };
        let kind = match meta.kind {
            Kind::File => "regular file",
            Kind::Directory => "directory",
            Kind::Link => "symbolic link",
            Kind::Other => "special file",
        };
        let mut text = Vec::new();
        text.extend_from_slice(b"  File: ");
        print_name(&mut text, Path::new(path));
        if let Some(target) = job.view.read_link(Path::new(path)).ok().filter(|_| meta.kind == Kind::Link) {
            text.extend_from_slice(b" -> ");
            print_name(&mut text, Path::new(&target));
        }
        writeln!(text, "\n  Size: {}\n  Kind: {kind}\n Links: {}", meta.size, meta.links)?;
        let (mode, permissions) = (meta.mode, permissions(meta.mode));
        writeln!(text, "  Mode: {mode:04o} ({}{permissions})\nModify: {}", letter(meta.kind), time(meta.modified_s))?;
        job.out.write_all(&text)?;
    }
    Ok(code)
}

/// `test -d PATH`, and `-e`, `-f`, `-s`, `-L` beside it.
pub fn test(job: &mut Job, args: &[String]) -> i32 {
    let [option, path] = args else { return 2 };
    let found = job.view.stat(Path::new(path), option != "-L");
    let holds = match (option.as_str(), found) {
        ("-d", Ok(meta)) => meta.kind == Kind::Directory,
        ("-f", Ok(meta)) => meta.kind == Kind::File,
        ("-s", Ok(meta)) => meta.size > 0,
        ("-L", Ok(meta)) => meta.kind == Kind::Link,
        ("-e", Ok(_)) => true,
        ("-d" | "-f" | "-s" | "-L" | "-e", Err(_)) => false,
        _ => return 2,
    };
    i32::from(!holds)
}
