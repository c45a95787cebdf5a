//! Probes against servers of this process.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{Request, Response, body::Frame, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::{api::core::v1::HTTPGetAction, apimachinery::pkg::util::intstr::IntOrString};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::{dial::Target, grpc, http};

const LIMIT: Duration = Duration::from_secs(5);

/// A server that answers each connection by what the path of its request is mapped to; `None` says nothing for ever.
async fn server(answer: fn(&str) -> Option<String>) -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut silent = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let count = stream.read(&mut request).await.unwrap_or_default();
            let request = String::from_utf8_lossy(&request[..count]).into_owned();
            match answer(request.split(' ').nth(1).unwrap_or_default()) {
                Some(text) => stream.write_all(text.as_bytes()).await.unwrap_or_default(),
                None => silent.push(stream),
            }
        }
    });
    Target::Host { host: "127.0.0.1".to_owned(), port }
}

fn action(path: &str) -> HTTPGetAction {
    HTTPGetAction { path: Some(path.to_owned()), port: IntOrString::Int(0), ..HTTPGetAction::default() }
}

#[tokio::test]
async fn http_answers_are_judged_as_the_kubelet_does() {
    let target = server(|path| {
        let (status, more) = match path {
            "/silent" => return None,
            "/garbage" => return Some("nonsense\r\n\r\n".to_owned()),
            "/closed" => return Some(String::new()),
            "/ok" => ("200 OK", ""),
            "/bad" => ("503 Service Unavailable", ""),
            "/to-ok" => ("302 Found", "Location: /ok\r\n"),
            "/to-bad" => ("302 Found", "Location: /bad\r\n"),
            "/elsewhere" => ("301 Moved Permanently", "Location: http://192.0.2.1/bad\r\n"),
            _ => ("302 Found", "Location: /loop\r\n"),
        };
        Some(format!("HTTP/1.1 {status}\r\n{more}Content-Length: 0\r\nConnection: close\r\n\r\n"))
    })
    .await;
    let url = format!("http://{target}");
    let get = |path: &'static str, limit| {
        let target = target.clone();
        async move { http::get(target, &action(path), limit).await }
    };
    assert_eq!(get("/ok", LIMIT).await, Ok(()));
    assert_eq!(get("ok", LIMIT).await, Ok(()), "a slash is put in front");
    assert_eq!(get("/bad", LIMIT).await, Err("HTTP probe failed with statuscode: 503".to_owned()));
    assert_eq!(get("/to-ok", LIMIT).await, Ok(()));
    assert_eq!(get("/to-bad", LIMIT).await, Err("HTTP probe failed with statuscode: 503".to_owned()));
    assert_eq!(get("/elsewhere", LIMIT).await, Ok(()), "a redirect to another host ends there");
    assert_eq!(get("/loop", LIMIT).await, Err(format!("Get \"{url}/loop\": stopped after 10 redirects")));
    assert_eq!(get("/closed", LIMIT).await, Err(format!("Get \"{url}/closed\": EOF")));
    assert!(get("/garbage", LIMIT).await.unwrap_err().contains("malformed HTTP response"));
    let late = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
    assert_eq!(get("/silent", Duration::from_millis(50)).await, Err(format!("Get \"{url}/silent\": {late}")));
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_refused_in_go_s_words() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let target = Target::Host { host: "127.0.0.1".to_owned(), port };
    let refused = format!("dial tcp 127.0.0.1:{port}: connect: connection refused");
    assert_eq!(target.dial().await.map(drop), Err(refused.clone()));
    let http = http::get(target.clone(), &action("/"), LIMIT).await;
    assert_eq!(http, Err(format!("Get \"http://127.0.0.1:{port}/\": {refused}")));
    let grpc = grpc::check(&target, "", LIMIT).await;
    assert_eq!(grpc, Err(format!("error: failed to connect service at \"127.0.0.1:{port}\": {refused}")));
}

/// A health service that knows `good` and `bad`.
async fn health() -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let serve = service_fn(|request: Request<hyper::body::Incoming>| async move {
                assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                let message = request.into_body().collect().await.unwrap().to_bytes();
                let status = match message.get(7..).unwrap_or_default() {
                    b"" | b"good" => 1,
                    b"bad" => 2,
                    _ => return answer(&[], "5"),
                };
                answer(&[0, 0, 0, 0, 2, 8, status], "0")
            });
            tokio::spawn(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), serve));
        }
    });
    Target::Host { host: "127.0.0.1".to_owned(), port }
}

type Frames = StreamBody<futures::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, hyper::Error>>>>;

fn answer(message: &[u8], status: &'static str) -> Result<Response<Frames>, hyper::Error> {
    let mut trailers = hyper::HeaderMap::new();
    trailers.insert("grpc-status", hyper::header::HeaderValue::from_static(status));
    trailers.insert("grpc-message", hyper::header::HeaderValue::from_static("unknown%20service"));
    let frames = vec![Ok(Frame::data(Bytes::copy_from_slice(message))), Ok(Frame::trailers(trailers))];
    Ok(Response::new(StreamBody::new(futures::stream::iter(frames))))
}

#[tokio::test]
async fn grpc_health_is_asked_for_and_judged() {
    let target = health().await;
    assert_eq!(grpc::check(&target, "", LIMIT).await, Ok(()));
    assert_eq!(grpc::check(&target, "good", LIMIT).await, Ok(()));
    let bad = grpc::check(&target, "bad", LIMIT).await;
    assert_eq!(bad, Err("service unhealthy (responded with \"NOT_SERVING\")".to_owned()));
    let unknown = grpc::check(&target, "what", LIMIT).await;
    let expected = "error: health rpc probe failed: rpc error: code = NotFound desc = unknown service";
    assert_eq!(unknown, Err(expected.to_owned()));
}
