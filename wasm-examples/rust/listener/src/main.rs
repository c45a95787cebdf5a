//! A preview 1 server: it accepts on the listening socket that the host opened for it (file descriptor 3, `LISTEN_FDS`).
//! Answers each request with the first line of it, and stops after `REQUESTS` of them if that is set.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::TcpListener,
    os::fd::FromRawFd,
};

fn main() -> io::Result<()> {
    if std::env::var("LISTEN_FDS").is_err() {
        eprintln!("no socket was opened for this program: does its container declare a port?");
        std::process::exit(1);
    }
    // SAFETY: descriptor 3 is ours and nobody else's, by the convention that LISTEN_FDS announces.
    let listener = unsafe { TcpListener::from_raw_fd(3) };
    let requests = std::env::var("REQUESTS").ok().and_then(|n| n.parse().ok()).unwrap_or(u64::MAX);
    for _ in 0..requests {
        let (mut stream, _) = listener.accept()?;
        // Who sends nothing gets nothing.
        let mut first = String::new();
        let mut request = BufReader::new(&stream);
        if request.read_line(&mut first)? == 0 {
            continue;
        }
        let mut line = String::new();
        while request.read_line(&mut line)? > 2 {
            line.clear();
        }
        let body = format!("you asked: {}\n", first.trim_end());
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        stream.write_all(format!("{head}{body}").as_bytes())?;
    }
    Ok(())
}
