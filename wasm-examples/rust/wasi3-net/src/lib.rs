//! The network, files and output of WASI 0.3 as a command sees them:
//!
//! - `serve ADDR`: HTTP over TCP, says who asks. `get ADDR`: asks such a server, prints the answer's body.
//! - `udp-serve ADDR`, `udp-send ADDR TEXT`: answers datagrams, sends one and prints the answer.
//! - `resolve NAME…`, `connect ADDR…`: print an address, or that it worked, or the error, of each.
//! - `hoard`: makes sockets until it cannot, says how many.
//!
//! and what a hostile one tries:
//!
//! - `scan IP`: tries the first 1,000 ports, says how many answered; fails if any did.
//! - `fill`: writes to a file for ever. `open`: opens files for ever. `flood BYTES`: prints that much in one stream.
//! - `wait`: waits for more things at once than it may.

use std::{future::Future, net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr}};

use wasip3::{
    cli::stdout,
    clocks::monotonic_clock,
    filesystem::{
        preopens::get_directories,
        types::{Descriptor, DescriptorFlags, OpenFlags, PathFlags},
    },
    sockets::{
        ip_name_lookup::resolve_addresses,
        types::{
            ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress, TcpSocket,
            UdpSocket,
        },
    },
    wit_stream,
};

struct Command;

wasip3::cli::command::export!(Command);

impl wasip3::exports::cli::run::Guest for Command {
    async fn run() -> Result<(), ()> {
        let args: Vec<String> = std::env::args().skip(1).collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let done = match args[..] {
            ["serve", at] => serve(at).await,
            ["get", at] => get(at).await,
            ["udp-serve", at] => udp_serve(at).await,
            ["udp-send", to, text] => udp_send(to, text).await,
            ["resolve", ref names @ ..] => Ok(resolve(names).await),
            ["connect", ref addresses @ ..] => Ok(connect(addresses).await),
            ["hoard"] => Ok(hoard()),
            ["scan", ip] => return scan(ip).await,
            ["fill"] => Ok(fill().await),
            ["open"] => Ok(open().await),
            ["flood", bytes] => Ok(flood(bytes.parse().unwrap_or(0)).await),
            ["wait"] => Ok(wait().await),
            _ => {
                eprintln!("usage: serve|get|udp-serve|udp-send|resolve|connect|hoard|scan|fill|open|flood|wait …");
                return Err(());
            }
        };
        done.map_err(|error| eprintln!("{error:?}"))
    }
}

fn address(text: &str) -> IpSocketAddress {
    match text.parse().expect("an address") {
        SocketAddr::V4(v4) => {
            let [a, b, c, d] = v4.ip().octets();
            IpSocketAddress::Ipv4(Ipv4SocketAddress { port: v4.port(), address: (a, b, c, d) })
        }
        SocketAddr::V6(v6) => {
            let [a, b, c, d, e, f, g, h] = v6.ip().segments();
            let address = (a, b, c, d, e, f, g, h);
            IpSocketAddress::Ipv6(Ipv6SocketAddress { port: v6.port(), flow_info: 0, address, scope_id: 0 })
        }
    }
}

fn text(address: IpSocketAddress) -> String {
    match address {
        IpSocketAddress::Ipv4(v4) => SocketAddr::new(ip(IpAddress::Ipv4(v4.address)), v4.port).to_string(),
        IpSocketAddress::Ipv6(v6) => SocketAddr::new(ip(IpAddress::Ipv6(v6.address)), v6.port).to_string(),
    }
}

fn ip(ip: IpAddress) -> IpAddr {
    match ip {
        IpAddress::Ipv4((a, b, c, d)) => Ipv4Addr::new(a, b, c, d).into(),
        IpAddress::Ipv6((a, b, c, d, e, f, g, h)) => Ipv6Addr::new(a, b, c, d, e, f, g, h).into(),
    }
}

fn family(address: &IpSocketAddress) -> IpAddressFamily {
    match address {
        IpSocketAddress::Ipv4(_) => IpAddressFamily::Ipv4,
        IpSocketAddress::Ipv6(_) => IpAddressFamily::Ipv6,
    }
}

async fn serve(at: &str) -> Result<(), ErrorCode> {
    let at = address(at);
    let socket = TcpSocket::create(family(&at))?;
    socket.bind(at)?;
    let mut connections = socket.listen()?;
    println!("listening on {}", text(socket.get_local_address()?));
    while let Some(connection) = connections.next().await {
        let (mut input, _) = connection.receive();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let Some(byte) = input.next().await else { break };
            request.push(byte);
        }
        let name = std::env::var("HOSTNAME").unwrap_or_default();
        let (at, by) = (text(connection.get_local_address()?), text(connection.get_remote_address()?));
        let body = format!("{name} at {at} was asked by {by}\n");
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        send(&connection, answer).await;
    }
    Ok(())
}

/// All of what is sent on that connection.
async fn send(connection: &TcpSocket, text: String) {
    let (mut writer, reader) = wit_stream::new();
    let sent = connection.send(reader);
    writer.write_all(text.into_bytes()).await;
    drop(writer);
    if let Err(error) = sent.await {
        println!("not sent: {error:?}");
    }
}

async fn get(at: &str) -> Result<(), ErrorCode> {
    let at = address(at);
    let socket = TcpSocket::create(family(&at))?;
    socket.connect(at).await?;
    send(&socket, "GET / HTTP/1.1\r\n\r\n".to_owned()).await;
    let (input, end) = socket.receive();
    let answer = String::from_utf8(input.collect().await).expect("text");
    end.await?;
    print!("{}", answer.split_once("\r\n\r\n").map_or(&*answer, |(_, body)| body));
    Ok(())
}

async fn udp_serve(at: &str) -> Result<(), ErrorCode> {
    let at = address(at);
    let socket = UdpSocket::create(family(&at))?;
    socket.bind(at)?;
    println!("listening on {}", text(socket.get_local_address()?));
    loop {
        let (data, from) = socket.receive().await?;
        let data = format!("{} from {}", String::from_utf8_lossy(&data), text(from));
        socket.send(data.into_bytes(), Some(from)).await?;
    }
}

async fn udp_send(to: &str, what: &str) -> Result<(), ErrorCode> {
    let to = address(to);
    let socket = UdpSocket::create(family(&to))?;
    socket.send(what.as_bytes().to_vec(), Some(to)).await?;
    let (data, from) = socket.receive().await?;
    println!("{} answered: {}", text(from), String::from_utf8_lossy(&data));
    Ok(())
}

async fn resolve(names: &[&str]) {
    for name in names {
        match resolve_addresses((*name).to_owned()).await {
            Ok(found) => println!("{name}: {}", ip(found[0])),
            Err(error) => println!("{name}: {error:?}"),
        }
    }
}

async fn connect(addresses: &[&str]) {
    for to in addresses {
        let at = address(to);
        let connected = match TcpSocket::create(family(&at)) {
            Ok(socket) => socket.connect(at).await,
            Err(error) => Err(error),
        };
        match connected {
            Ok(()) => println!("{to}: connected"),
            Err(error) => println!("{to}: {error:?}"),
        }
    }
}

fn hoard() {
    let mut sockets = Vec::new();
    loop {
        match TcpSocket::create(IpAddressFamily::Ipv4) {
            Ok(socket) => sockets.push(socket),
            Err(error) => return println!("{} sockets, then {error:?}", sockets.len()),
        }
    }
}

/// Where servers of a machine usually are.
const PORTS: u16 = 1000;

async fn scan(ip: &str) -> Result<(), ()> {
    let mut answered = 0;
    for port in 1..=PORTS {
        let socket = TcpSocket::create(IpAddressFamily::Ipv4).map_err(|_| ())?;
        answered += u16::from(socket.connect(address(&format!("{ip}:{port}"))).await.is_ok());
    }
    println!("{answered} ports answered");
    if answered == 0 { Ok(()) } else { Err(()) }
}

async fn open_at(directory: &Descriptor, path: &str, how: OpenFlags) -> Result<Descriptor, String> {
    let flags = DescriptorFlags::READ | DescriptorFlags::WRITE;
    let opened = directory.open_at(PathFlags::empty(), path.to_owned(), how, flags).await;
    opened.map_err(|error| format!("{error:?}"))
}

async fn fill() {
    let directories = get_directories();
    let file = open_at(&directories[directories.len() - 1].0, "bomb", OpenFlags::CREATE).await.expect("opens");
    let (mut writer, reader) = wit_stream::new();
    let written = file.write_via_stream(reader, 0);
    while writer.write_all(vec![b'x'; 64 << 10]).await.is_empty() {}
    println!("refused: {:?}", written.await);
}

async fn open() {
    let directories = get_directories();
    let mut opened = vec![];
    loop {
        match open_at(&directories[directories.len() - 1].0, "file", OpenFlags::CREATE).await {
            Ok(file) => opened.push(file),
            Err(error) => return println!("{} opened, then {error}", opened.len()),
        }
    }
}

async fn flood(bytes: usize) {
    let (mut writer, reader) = wit_stream::new();
    let printed = stdout::write_via_stream(reader);
    let line = [&[b'x'; 1023][..], b"\n"].concat();
    writer.write_all(line.repeat(bytes / line.len())).await;
    drop(writer);
    let _ = printed.await;
}

async fn wait() {
    let mut waits = Vec::new();
    loop {
        let mut wait = Box::pin(monotonic_clock::wait_for(3_600_000_000_000));
        let begun = std::future::poll_fn(|context| std::task::Poll::Ready(wait.as_mut().poll(context)));
        if begun.await.is_ready() {
            return println!("it is over");
        }
        waits.push(wait);
    }
}
