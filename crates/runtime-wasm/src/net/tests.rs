use wasmtime_wasi::sockets::SocketAddrUse;

use super::{
    pod::{Route, Unreachable},
    *,
};

fn pod(network: &Arc<Network>) -> Arc<PodNet> {
    network.join(PodFacts::default()).expect("an address is free")
}

fn kind<T>(result: io::Result<T>) -> Option<io::ErrorKind> {
    result.err().map(|error| error.kind())
}

#[tokio::test]
async fn two_pods_listen_on_one_port() {
    let network = Network::open().expect("a block is free");
    let (a, b) = (pod(&network), pod(&network));
    assert_ne!(a.ip(), b.ip());
    let first = a.listen(80).await.expect("listens");
    let _second = b.listen(80).await.expect("listens");
    assert_eq!(kind(a.listen(80).await), Some(io::ErrorKind::AddrInUse));
    a.dial(80).await.expect("connects");
    drop(first);
    assert_eq!(kind(a.dial(80).await), Some(io::ErrorKind::ConnectionRefused));
}

#[tokio::test]
async fn a_pod_reaches_what_others_listen_on_from_its_own_address_and_nothing_else() {
    let network = Network::open().expect("a block is free");
    let (a, b) = (pod(&network), pod(&network));
    let server = b.listen(80).await.expect("listens");
    let to = |ip: std::net::Ipv4Addr, port| SocketAddr::new(ip.into(), port);
    let stream = a.connect(to(b.ip(), 80)).await.expect("connects");
    let (_, from) = server.socket.accept().await.expect("accepts");
    assert_eq!(from, stream.local_addr().expect("bound"));
    assert_eq!(from.ip(), IpAddr::V4(a.ip()));
    b.connect(to([127, 0, 0, 1].into(), 80)).await.expect("its own loopback is the pod");
    assert_eq!(kind(a.connect(to([127, 0, 0, 1].into(), 80)).await), Some(io::ErrorKind::ConnectionRefused));
    // A service of the host that listens on every address is not to be reached by a pod's.
    let host = std::net::TcpListener::bind("0.0.0.0:0").expect("binds");
    let port = host.local_addr().expect("bound").port();
    assert_eq!(kind(a.connect(to(b.ip(), port)).await), Some(io::ErrorKind::ConnectionRefused));
    assert_eq!(kind(a.connect(to([127, 0, 0, 2].into(), port)).await), Some(io::ErrorKind::PermissionDenied));
    // The pod has that port all the same.
    let shadowed = b.listen(port).await.expect("listens");
    a.connect(to(b.ip(), port)).await.expect("connects");
    shadowed.socket.accept().await.expect("it was the pod that was reached");
}

#[test]
fn what_is_bound_to_loopback_is_for_the_pod_alone() {
    let network = Network::open().expect("a block is free");
    let (a, b) = (pod(&network), pod(&network));
    let bound = a.bind(Protocol::Tcp, 9000, true).expect("free");
    let actual = SocketAddrV4::new(a.ip(), 9000);
    bound.listens_at(actual);
    let to = SocketAddr::new(a.ip().into(), 9000);
    assert_eq!(a.route(Protocol::Tcp, to), Ok(Route::Pod(actual)));
    assert_eq!(b.route(Protocol::Tcp, to), Err(Unreachable::Refused));
    assert_eq!(a.route(Protocol::Udp, to), Err(Unreachable::Refused));
}

#[test]
fn the_api_server_is_reached_at_its_own_address_and_its_service() {
    let network = Network::open().expect("a block is free");
    let a = pod(&network);
    let (service, actual) = ("10.96.0.1:443".parse().expect("an address"), "127.0.0.1:6443".parse().expect("one"));
    network.publish_api(service, actual);
    assert_eq!(a.route(Protocol::Tcp, service), Ok(Route::Outside(actual)));
    assert!(matches!(a.route(Protocol::Udp, "10.96.0.1:53".parse().expect("one")), Ok(Route::Outside(_))));
    assert!(a.permits(actual, SocketAddrUse::TcpConnect) && !a.permits(actual, SocketAddrUse::UdpSend));
    assert_eq!(a.route(Protocol::Tcp, actual), Err(Unreachable::Refused), "loopback is the pod's");
}

#[test]
fn an_address_is_given_again_only_after_it_was_given_back() {
    let network = Network::open().expect("a block is free");
    let (a, b) = (pod(&network), pod(&network));
    let ip = a.ip();
    drop(a);
    assert_eq!(pod(&network).ip(), ip);
    assert_ne!(b.ip(), ip);
}

#[test]
fn two_processes_have_different_blocks() {
    let (a, b) = (Network::open().expect("free"), Network::open().expect("free"));
    assert_ne!(pod(&a).ip(), pod(&b).ip());
}
