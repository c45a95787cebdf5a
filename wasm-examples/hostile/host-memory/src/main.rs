//! What a hostile component tries with memory of the host's: it takes little itself, and makes the host hold much. Each way says
//! how many it holds and what stopped it, then waits if it is told to (`reads hold`).
//!
//! - `fields`: headers that it never sends;
//! - `bodies`: bodies of requests that it never sends;
//! - `reads`: files that it reads ahead and never takes;
//! - `names`: a large directory, listed again and again.
//!
//! Build: `cargo build --release --target wasm32-wasip2`, then copy `hostile-host-memory.wasm` to `../host-memory.wasm`.

use wasip2::{
    clocks::monotonic_clock,
    filesystem::{
        preopens::get_directories,
        types::{Descriptor, DescriptorFlags, OpenFlags, PathFlags},
    },
    http::types::{Fields, OutgoingRequest},
};

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let held: Box<dyn std::any::Any> = match words.first().map(String::as_str) {
        Some("fields") => Box::new(collect(fields)),
        Some("bodies") => Box::new(collect(body)),
        Some("reads") => reads(),
        _ => names(),
    };
    if words.len() > 1 {
        monotonic_clock::subscribe_duration(3_600_000_000_000).block();
    }
    drop(held);
}

/// As many as it gets.
fn collect<T>(make: impl Fn() -> Result<T, &'static str>) -> Vec<T> {
    let mut held = Vec::new();
    loop {
        match make() {
            Ok(one) => held.push(one),
            Err(error) => {
                println!("{}, then {error}", held.len());
                return held;
            }
        }
    }
}

fn fields() -> Result<Fields, &'static str> {
    let fields = Fields::new();
    for n in b'a'..=b'z' {
        fields.append(&(n as char).to_string(), &vec![b'x'; 4000]).map_err(|_| "refused")?;
    }
    Ok(fields)
}

fn body() -> Result<impl Sized, &'static str> {
    let request = OutgoingRequest::new(Fields::new());
    let body = request.body().map_err(|()| "no body")?;
    let stream = body.write().map_err(|()| "no stream")?;
    while let Ok(room @ 1..) = stream.check_write() {
        stream.write(&vec![b'x'; room as usize]).map_err(|_| "not written")?;
    }
    Ok((stream, body, request))
}

fn directory() -> Descriptor {
    get_directories().pop().expect("one is given").0
}

fn open(directory: &Descriptor, name: &str) -> Descriptor {
    let flags = DescriptorFlags::READ | DescriptorFlags::WRITE;
    directory.open_at(PathFlags::empty(), name, OpenFlags::CREATE, flags).expect("opens")
}

fn reads() -> Box<dyn std::any::Any> {
    let file = open(&directory(), "large");
    file.write(&vec![b'x'; 65_536], 0).expect("written");
    let streams = collect(|| {
        let stream = file.read_via_stream(0).map_err(|_| "no stream")?;
        match stream.read(65_536) {
            Ok(_) => Ok(stream),
            Err(_) => Err("not read"),
        }
    });
    Box::new((streams, file))
}

fn names() -> Box<dyn std::any::Any> {
    let directory = directory();
    for n in 0..2000 {
        drop(open(&directory, &format!("{n:0>200}")));
    }
    let lists = collect(|| directory.read_directory().map_err(|error| error.name()));
    Box::new((lists, directory))
}
