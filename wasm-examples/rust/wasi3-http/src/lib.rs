//! One path for each thing that an HTTP handler of WASI 0.3 may do, well or badly: a component that exports
//! `wasi:http/handler` and sends requests of its own (`/fetch?URL`).

use std::sync::atomic::{AtomicU32, Ordering};

use wasip3::{
    clocks::monotonic_clock,
    http::{
        client,
        types::{ErrorCode, Fields, Method, Request, Response, Scheme},
    },
    spawn_local, wit_future, wit_stream,
};

struct Lab;

wasip3::http::service::export!(Lab);

static ANSWERED: AtomicU32 = AtomicU32::new(0);

impl wasip3::exports::http::handler::Guest for Lab {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let path = request.get_path_with_query().unwrap_or_else(|| "/".into());
        let (path, query) = path.split_once('?').unwrap_or((&path, ""));
        match path {
            "/echo" => Ok(echo(request)),
            "/trap" => panic!("as asked"),
            "/trap-late" => Ok(big(1, true)),
            "/loop" => loop {
                std::hint::black_box(query);
            },
            "/wait" => {
                eprintln!("waiting");
                monotonic_clock::wait_for(query.parse().unwrap_or(3_600_000) * 1_000_000).await;
                Ok(answer(200, "waited\n"))
            }
            "/after" => {
                // It goes on when it has answered.
                spawn_local(async {
                    monotonic_clock::wait_for(100_000_000).await;
                    eprintln!("after the answer");
                });
                Ok(answer(200, "before\n"))
            }
            "/error" => Err(ErrorCode::ConnectionRefused),
            "/grow" => Ok(answer(200, &format!("{}\n", std::hint::black_box(vec![1_u8; query.parse().unwrap_or(0)]).len()))),
            "/big" => Ok(big(query.parse().unwrap_or(1), false)),
            "/count" => Ok(answer(200, &format!("{}\n", ANSWERED.fetch_add(1, Ordering::Relaxed) + 1))),
            "/whom" => Ok(answer(
                200,
                &format!(
                    "{:?} {:?} {}\n",
                    request.get_method(),
                    request.get_scheme(),
                    request.get_authority().unwrap_or_default()
                ),
            )),
            "/fetch" => Ok(fetch(query).await),
            _ => Ok(answer(200, "hello\n")),
        }
    }
}

fn answer(status: u16, text: &str) -> Response {
    let (mut writer, reader) = wit_stream::new();
    let (trailers, end) = wit_future::new(|| Ok(None));
    let fields = Fields::from_list(&[("content-length".into(), text.len().to_string().into_bytes())]).expect("fields");
    let (response, _) = Response::new(fields, Some(reader), end);
    response.set_status_code(status).expect("a status");
    drop(trailers);
    let text = text.as_bytes().to_vec();
    spawn_local(async move {
        writer.write_all(text).await;
    });
    response
}

/// Megabytes; or less, and then a fault.
fn big(count: usize, trap: bool) -> Response {
    let (mut writer, reader) = wit_stream::new();
    let (trailers, end) = wit_future::new(|| Ok(None));
    let (response, _) = Response::new(Fields::new(), Some(reader), end);
    spawn_local(async move {
        for _ in 0..count {
            writer.write_all(vec![b'x'; 1 << 20]).await;
        }
        if trap {
            panic!("in the middle");
        }
        drop(writer);
        drop(trailers);
    });
    response
}

/// Body and trailers, as they come.
fn echo(request: Request) -> Response {
    let (ended, end) = wit_future::new(|| Ok(()));
    let (mut body, trailers) = Request::consume_body(request, end);
    let (mut writer, reader) = wit_stream::new();
    let (told, result) = wit_future::new(|| Ok(None));
    let (response, _) = Response::new(Fields::new(), Some(reader), result);
    spawn_local(async move {
        loop {
            let (status, bytes) = body.read(Vec::with_capacity(64 << 10)).await;
            if !bytes.is_empty() {
                writer.write_all(bytes).await;
            }
            if !matches!(status, wasip3::wit_bindgen::StreamResult::Complete(_)) {
                break;
            }
        }
        drop(writer);
        let _ = told.write(trailers.await).await;
        drop(ended);
    });
    response
}

async fn fetch(url: &str) -> Response {
    match ask(url).await {
        Ok(text) => answer(200, &text),
        Err(error) => answer(200, &format!("{error:?}\n")),
    }
}

async fn ask(url: &str) -> Result<String, ErrorCode> {
    let (scheme, rest) = url.split_once("://").ok_or(ErrorCode::HttpRequestUriInvalid)?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (_, end) = wit_future::new(|| Ok(None));
    let (request, _) = Request::new(Fields::new(), None, end, None);
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    let whole = request.set_method(&Method::Get).is_ok()
        && request.set_scheme(Some(&scheme)).is_ok()
        && request.set_authority(Some(authority)).is_ok()
        && request.set_path_with_query(Some(path)).is_ok();
    if !whole {
        return Err(ErrorCode::HttpRequestUriInvalid);
    }
    let response = client::send(request).await?;
    let status = response.get_status_code();
    let (_ended, end) = wit_future::new(|| Ok(()));
    let (body, trailers) = Response::consume_body(response, end);
    let body = body.collect().await;
    trailers.await?;
    Ok(format!("{status} {}", String::from_utf8_lossy(&body)))
}
