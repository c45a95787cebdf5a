//! One path for each thing that an HTTP handler may do, well or badly: a component that exports `wasi:http/incoming-handler`
//! (0.2) and sends requests of its own (`/fetch?URL`).

use std::sync::atomic::{AtomicU32, Ordering};

use wasip2::{
    clocks::monotonic_clock,
    http::{
        outgoing_handler,
        types::{
            ErrorCode, Fields, IncomingBody, IncomingRequest, IncomingResponse, Method, OutgoingBody, OutgoingRequest,
            OutgoingResponse, ResponseOutparam, Scheme,
        },
    },
    io::streams::{InputStream, OutputStream, StreamError},
};

struct Lab;

static ANSWERED: AtomicU32 = AtomicU32::new(0);
const CHUNK: u64 = 64 << 10;

impl wasip2::exports::http::incoming_handler::Guest for Lab {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_else(|| "/".into());
        let (path, query) = path.split_once('?').unwrap_or((&path, ""));
        match path {
            "/echo" => echo(request, out),
            "/trap" => panic!("as asked"),
            "/trap-late" => {
                let (body, stream) = begin(out, 200);
                // More than fits between here and the client.
                write(&stream, &vec![b'x'; 1 << 20]);
                drop(stream);
                std::mem::forget(body);
                panic!("in the middle");
            }
            "/loop" => loop {
                std::hint::black_box(query);
            },
            "/storm" => loop {
                std::hint::black_box((monotonic_clock::now(), Fields::new()));
            },
            "/wait" => {
                let seconds = query.parse().unwrap_or(3600);
                monotonic_clock::subscribe_duration(seconds * 1_000_000_000).block();
                answer(out, 200, "waited\n");
            }
            "/silent" => {}
            "/error" => ResponseOutparam::set(out, Err(ErrorCode::ConnectionRefused)),
            "/grow" => {
                let bytes: usize = query.parse().unwrap_or(0);
                let memory = vec![1_u8; bytes];
                answer(out, 200, &format!("{}\n", std::hint::black_box(&memory).len()));
            }
            "/big" => big(out, query.parse().unwrap_or(1)),
            "/headers" => {
                let fields = Fields::new();
                for n in 0..query.parse().unwrap_or(1) {
                    fields.append(&format!("x-{n}"), &[b'x'; 1024]).expect("taken");
                }
                respond(out, 200, fields, "many\n");
            }
            "/count" => answer(out, 200, &format!("{}\n", ANSWERED.fetch_add(1, Ordering::Relaxed) + 1)),
            "/env" => {
                let lines: Vec<_> = std::env::vars().map(|(name, value)| format!("{name}={value}\n")).collect();
                answer(out, 200, &lines.concat());
            }
            "/log" => {
                eprintln!("told: {query}");
                answer(out, 200, "told\n");
            }
            "/fetch" => fetch(query, out),
            "/file" => match std::fs::read_to_string(query) {
                Ok(text) => answer(out, 200, &text),
                Err(error) => answer(out, 404, &format!("{error}\n")),
            },
            "/write" => answer(out, 200, &format!("{:?}\n", std::fs::write(query, "x").is_ok())),
            _ if query == "headers" => {
                let mut all = request.headers().entries();
                all.sort();
                let lines = all.iter().map(|(name, value)| format!("{name}={}\n", String::from_utf8_lossy(value)));
                answer(out, 200, &lines.collect::<String>());
            }
            _ => answer(out, 200, "hello\n"),
        }
    }
}

fn begin(out: ResponseOutparam, status: u16) -> (OutgoingBody, OutputStream) {
    let response = OutgoingResponse::new(Fields::new());
    response.set_status_code(status).expect("a status");
    let body = response.body().expect("its first");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("its first");
    (body, stream)
}

fn answer(out: ResponseOutparam, status: u16, text: &str) {
    let (body, stream) = begin(out, status);
    write(&stream, text.as_bytes());
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}

fn respond(out: ResponseOutparam, status: u16, fields: Fields, text: &str) {
    let response = OutgoingResponse::new(fields);
    response.set_status_code(status).expect("a status");
    let body = response.body().expect("its first");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("its first");
    write(&stream, text.as_bytes());
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}

/// Whether it was taken: a client may have gone away.
fn write(stream: &OutputStream, bytes: &[u8]) -> bool {
    bytes.chunks(4096).all(|chunk| stream.blocking_write_and_flush(chunk).is_ok())
}

/// Sends back what comes, as it comes, with its trailers.
fn echo(request: IncomingRequest, out: ResponseOutparam) {
    let incoming = request.consume().expect("its first");
    let (body, stream) = begin(out, 200);
    copy(&incoming.stream().expect("its first"), &stream);
    drop(stream);
    let trailers = IncomingBody::finish(incoming);
    trailers.subscribe().block();
    let trailers = match trailers.get() {
        Some(Ok(Ok(Some(fields)))) => Some(Fields::from_list(&fields.entries()).expect("they came so")),
        _ => None,
    };
    let _ = OutgoingBody::finish(body, trailers);
}

fn copy(from: &InputStream, to: &OutputStream) {
    loop {
        match from.blocking_read(CHUNK) {
            Ok(bytes) if write(to, &bytes) => {}
            Err(StreamError::Closed) | Ok(_) | Err(_) => return,
        }
    }
}

fn big(out: ResponseOutparam, mebibytes: u64) {
    let (body, stream) = begin(out, 200);
    let chunk = [b'x'; 4096];
    for _ in 0..mebibytes * 256 {
        if !write(&stream, &chunk) {
            return;
        }
    }
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}

/// What that address answers: its status and text, or 502 and the error.
fn fetch(url: &str, out: ResponseOutparam) {
    match get(url) {
        Ok(response) => {
            let (body, stream) = begin(out, response.status());
            let incoming = response.consume().expect("its first");
            copy(&incoming.stream().expect("its first"), &stream);
            drop(stream);
            let _ = OutgoingBody::finish(body, None);
        }
        Err(error) => answer(out, 502, &format!("{error:?}\n")),
    }
}

fn get(url: &str) -> Result<IncomingResponse, ErrorCode> {
    let (scheme, rest) = url.split_once("://").ok_or(ErrorCode::HttpRequestUriInvalid)?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let request = OutgoingRequest::new(Fields::new());
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    let taken = request.set_method(&Method::Get).is_ok()
        && request.set_scheme(Some(&scheme)).is_ok()
        && request.set_authority(Some(authority)).is_ok()
        && request.set_path_with_query(Some(&format!("/{path}"))).is_ok();
    if !taken {
        return Err(ErrorCode::HttpRequestUriInvalid);
    }
    let response = outgoing_handler::handle(request, None)?;
    response.subscribe().block();
    response.get().expect("it is ready").expect("its first")
}

wasip2::http::proxy::export!(Lab);
