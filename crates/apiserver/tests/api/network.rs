//! Over TLS: client certificates, tokens, HTTP/2, limits, and what is not a resource.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures::{AsyncBufReadExt, StreamExt};
use http::Method;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::{
    Api, Client, Config,
    api::{ListParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig as File},
};
use serde_json::{Value, json};
use skiff_apiserver::{
    ApiServer, Limits, StaticToken, UserInfo,
    pki::{self, Identity, Kubeconfig, Pki},
};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

use crate::support::{CONFIG_MAPS, Server, config_map};

struct Network {
    pki: Pki,
    address: SocketAddr,
    shutdown: CancellationToken,
    served: tokio::task::JoinHandle<()>,
    server: Server,
}

impl Network {
    async fn start() -> Self {
        Self::with(Limits::default()).await
    }

    async fn with(limits: Limits) -> Self {
        let pki = Pki::ephemeral().unwrap();
        let signer = pki.token_signer().unwrap();
        let server = Server::with(|config| {
            config.limits = limits;
            config.token_signer = Some(signer);
            let user = UserInfo::new("ci", &["system:masters"]);
            config.tokens.push(StaticToken { token: "secret".to_owned(), user });
        })
        .await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let names = pki::api_server_names([10, 96, 0, 1].into(), &[]);
        let tls = pki.tls("skiff-apiserver", &names).unwrap();
        let (api, shutdown): (Arc<ApiServer>, _) = (server.api.clone(), CancellationToken::new());
        let stop = shutdown.clone();
        let served = tokio::spawn(async move { api.serve(listener, tls, stop).await });
        Self { pki, address, shutdown, served, server }
    }

    async fn config(&self, identity: &Identity) -> Config {
        let server = format!("https://{}", self.address);
        let file = Kubeconfig { cluster: "c", user: "u", server: &server, ca_pem: self.pki.ca_pem(), identity };
        let file = File::from_yaml(&file.render()).unwrap();
        Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap()
    }

    async fn client(&self, user: &str, group: &str) -> Client {
        let identity = self.pki.client(user, Some(group)).unwrap();
        Client::try_from(self.config(&identity).await).unwrap()
    }

    async fn with_token(&self, token: Option<&str>) -> Client {
        let mut config = self.config(&self.pki.client("nobody", None).unwrap()).await;
        config.auth_info = kube::config::AuthInfo { token: token.map(|t| t.to_owned().into()), ..Default::default() };
        Client::try_from(config).unwrap()
    }
}

async fn code(client: Client) -> u16 {
    match Api::<Namespace>::all(client).list(&ListParams::default()).await {
        Ok(_) => 200,
        Err(kube::Error::Api(status)) => status.code,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn who_comes_in_is_known_by_certificate_or_token() {
    let network = Network::start().await;
    assert_eq!(code(network.client("kubernetes-admin", "system:masters").await).await, 200);
    assert_eq!(code(network.client("system:node:a", "system:nodes").await).await, 200);
    assert_eq!(code(network.client("bob", "devs").await).await, 403);
    assert_eq!(code(network.with_token(Some("secret")).await).await, 200);
    assert_eq!(code(network.with_token(Some("guess")).await).await, 401);
    assert_eq!(code(network.with_token(None).await).await, 403);

    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {}});
    let headers = [("impersonate-user", "bob"), ("content-type", "application/json")];
    let answer = network.server.request(Method::POST, path, &headers, review.to_string()).await.ok();
    assert_eq!(answer["status"]["allowed"], false);

    // The token of an account is good until the account is gone.
    let accounts: Api<ServiceAccount> = Api::default_namespaced(network.server.client());
    let account = serde_json::from_value(json!({"metadata": {"name": "robot"}})).unwrap();
    accounts.create(&PostParams::default(), &account).await.unwrap();
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": []}});
    let path = "/api/v1/namespaces/default/serviceaccounts/robot/token";
    let token = network.server.post(path, &request).await.ok();
    let token = token["status"]["token"].as_str().unwrap();
    assert_eq!(code(network.with_token(Some(token)).await).await, 403);
    accounts.delete("robot", &Default::default()).await.unwrap();
    assert_eq!(code(network.with_token(Some(token)).await).await, 401);

    // The end of the server ends its watches, and those of its own process go on.
    let admin = network.client("kubernetes-admin", "system:masters").await;
    let request = http::Request::get("/api/v1/namespaces?watch=true").body(Vec::new()).unwrap();
    let mut lines = Box::pin(admin.request_stream(request).await.unwrap().lines());
    assert!(lines.next().await.unwrap().unwrap().starts_with("{\"type\":\"ADDED\""));
    let mut inside = network.server.watch("/api/v1/namespaces?watch=true").await;
    network.shutdown.cancel();
    network.served.await.unwrap();
    while let Some(Ok(_)) = lines.next().await {}
    assert_eq!(inside.line().await, "ADDED default");
}

#[tokio::test]
async fn what_is_not_right_gets_a_status() {
    let server = Server::start().await;
    server.get("/apis/nothing/v1").await.fails(404, "NotFound");
    server.get("/nowhere/at/all").await.fails(404, "NotFound");
    server.get("/api/v1/pods/p").await.fails(404, "NotFound");
    server.request(Method::POST, "/api/v1/pods", &[], "{}").await.fails(405, "MethodNotAllowed");
    server.request(Method::POST, &format!("{CONFIG_MAPS}/a"), &[], "{}").await.fails(405, "MethodNotAllowed");
    server.request(Method::PUT, CONFIG_MAPS, &[], "{}").await.fails(405, "MethodNotAllowed");
    server.request(Method::DELETE, "/version", &[], "").await.fails(405, "MethodNotAllowed");
    let odd = [("content-type", "text/csv")];
    server.request(Method::POST, CONFIG_MAPS, &odd, "a,b").await.fails(415, "UnsupportedMediaType");
    server.request(Method::GET, CONFIG_MAPS, &[("accept", "image/png")], "").await.fails(406, "NotAcceptable");
    server.request(Method::POST, CONFIG_MAPS, &[], "{").await.fails(400, "BadRequest");
    let big = config_map("big", json!({"x": "y".repeat(4 << 20)}));
    server.post(CONFIG_MAPS, &big).await.fails(413, "RequestEntityTooLarge");
    let wrong = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}});
    server.post(CONFIG_MAPS, &wrong).await.fails(400, "BadRequest");
    server.get(&format!("{CONFIG_MAPS}?labelSelector=%3D%3D")).await.fails(400, "BadRequest");
    server.get(&format!("{CONFIG_MAPS}?fieldSelector=spec.x%3D1")).await.fails(400, "BadRequest");
}

#[tokio::test]
async fn yaml_and_protobuf_say_the_same_as_json() {
    let server = Server::start().await;
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: why\ndata:\n  a: \"1\"\n";
    let made = server.request(Method::POST, CONFIG_MAPS, &[("content-type", "application/yaml")], yaml).await.ok();
    let path = format!("{CONFIG_MAPS}/why");
    let text = server.request(Method::GET, &path, &[("accept", "application/yaml")], "").await;
    assert_eq!(text.headers["content-type"], "application/yaml");
    assert!(text.text.contains("a: \"1\"") || text.text.contains("a: '1'"), "{}", text.text);
    let protobuf = [("accept", "application/vnd.kubernetes.protobuf, application/json")];
    let answer = server.request(Method::GET, &path, &protobuf, "").await;
    assert_eq!(answer.headers["content-type"], "application/vnd.kubernetes.protobuf");
    assert!(answer.text.starts_with("k8s\0"));
    assert_eq!(made["data"], json!({"a": "1"}));
}

#[tokio::test]
async fn discovery_is_sent_once() {
    let server = Server::start().await;
    let accept = ("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json");
    let first = server.request(Method::GET, "/apis", &[accept], "").await;
    assert_eq!(first.body["kind"], "APIGroupDiscoveryList");
    let tag = first.headers["etag"].to_str().unwrap();
    let second = server.request(Method::GET, "/apis", &[accept, ("if-none-match", tag)], "").await;
    assert_eq!((second.code.as_u16(), second.text.as_str()), (304, ""));
    assert_eq!(server.get("/apis").await.ok()["kind"], "APIGroupList");
    let index: Value = server.get("/openapi/v3").await.ok();
    let apps = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    assert!(server.get(apps).await.ok()["components"]["schemas"].is_object());
    for path in ["/healthz", "/livez/ping", "/readyz?verbose", "/metrics"] {
        let answer = server.get(path).await;
        assert_eq!(answer.code, 200, "{path}: {}", answer.text);
    }
    let metrics = server.get("/metrics").await.text;
    assert!(metrics.contains("apiserver_storage_objects{resource=\"namespaces\"} 4"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_finish_its_handshake_is_cut_off_but_not_soon() {
    let limit = Duration::from_millis(300);
    let network = Network::with(Limits { header_timeout: limit, ..Limits::default() }).await;
    let start = std::time::Instant::now();
    let mut silent = TcpStream::connect(network.address).await.unwrap();
    let read = silent.read(&mut [0; 16]).await;
    assert!(read.as_ref().is_ok_and(|count| *count == 0) || read.is_err(), "{read:?}");
    assert!(start.elapsed() >= limit, "{:?}", start.elapsed());
    // Go's clients wait 10 s themselves; one that was stopped for longer than the server waits saw a reset.
    assert!(Limits::default().header_timeout > Duration::from_secs(30));
    network.shutdown.cancel();
    network.served.await.unwrap();
}
