//! The network as a guest sees it, with nothing but the standard library (WASI 0.2 sockets):
//!
//! - `sockets serve ADDR`: HTTP over TCP. `/` says who asks, `/healthz` is 200 until `/fail` was asked for, then 500.
//! - `sockets get ADDR PATH [TIMES]`: asks such a server, prints the answer's body.
//! - `sockets udp-serve ADDR` / `sockets udp-send ADDR TEXT`: answers datagrams / sends one and prints the answer.
//! - `sockets resolve NAME…`, `sockets connect ADDR…`: print an address, or that it worked, or the error, of each.
//! - `sockets hoard`: opens sockets until it cannot, says how many.
//! - `sockets storm`: opens, connects and drops sockets as fast as it can, for ever.
//! - `sockets scan IP…`: tries the first 10,000 ports, says how many answered; fails if any did.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket},
};

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["serve", address] => serve(TcpListener::bind(address)?),
        ["get", address, path] => get(address, path),
        ["get", address, path, times] => (0..times.parse().unwrap_or(1)).try_for_each(|_| get(address, path)),
        ["udp-serve", address] => udp_serve(UdpSocket::bind(address)?),
        ["udp-send", address, text] => udp_send(address, text),
        ["resolve", ref names @ ..] => {
            for name in names {
                match (*name, 0).to_socket_addrs() {
                    Ok(mut found) => println!("{name}: {}", found.next().map_or("nothing".into(), |a| a.ip().to_string())),
                    Err(error) => println!("{name}: {}", error.kind()),
                }
            }
            Ok(())
        }
        ["connect", ref addresses @ ..] => {
            for address in addresses {
                match TcpStream::connect(address) {
                    Ok(_) => println!("{address}: connected"),
                    Err(error) => println!("{address}: {}", error.kind()),
                }
            }
            Ok(())
        }
        ["hoard"] => hoard(),
        ["storm"] => loop {
            storm();
        },
        ["scan", ref ips @ ..] => scan(ips),
        _ => {
            eprintln!("usage: sockets serve|get|udp-serve|udp-send|resolve|connect|hoard|storm|scan …");
            std::process::exit(2)
        }
    }
}

fn serve(listener: TcpListener) -> io::Result<()> {
    println!("listening on {}", listener.local_addr()?);
    let mut healthy = true;
    loop {
        let (stream, peer) = listener.accept()?;
        if let Err(error) = answer(stream, &peer.to_string(), &mut healthy) {
            println!("{peer}: {error}");
        }
    }
}

fn answer(mut stream: TcpStream, peer: &str, healthy: &mut bool) -> io::Result<()> {
    let mut request = BufReader::new(&stream);
    let mut first = String::new();
    request.read_line(&mut first)?;
    let mut line = String::new();
    while request.read_line(&mut line)? > 2 {
        line.clear();
    }
    let path = first.split(' ').nth(1).unwrap_or("/");
    *healthy &= path != "/fail";
    let (status, body) = match path {
        "/healthz" if !*healthy => ("500 Internal Server Error", "not well\n".to_string()),
        "/healthz" => ("200 OK", "well\n".to_string()),
        _ => {
            let name = std::env::var("HOSTNAME").unwrap_or_default();
            ("200 OK", format!("{name} at {} was asked by {peer}\n", stream.local_addr()?))
        }
    };
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

fn get(address: &str, path: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    print!("{}", text.split_once("\r\n\r\n").map_or(&*text, |(_, body)| body));
    Ok(())
}

fn udp_serve(socket: UdpSocket) -> io::Result<()> {
    println!("listening on {}", socket.local_addr()?);
    let mut datagram = [0; 1500];
    loop {
        let (count, peer) = socket.recv_from(&mut datagram)?;
        let text = String::from_utf8_lossy(&datagram[..count]).into_owned();
        socket.send_to(format!("{text} from {peer}").as_bytes(), peer)?;
    }
}

fn udp_send(address: &str, text: &str) -> io::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.send_to(text.as_bytes(), address)?;
    let mut datagram = [0; 1500];
    let (count, peer) = socket.recv_from(&mut datagram)?;
    println!("{peer} answered: {}", String::from_utf8_lossy(&datagram[..count]));
    Ok(())
}

fn hoard() -> io::Result<()> {
    let mut sockets = Vec::new();
    loop {
        match TcpListener::bind("127.0.0.1:0") {
            Ok(socket) => sockets.push(socket),
            Err(error) => {
                println!("{} sockets, then {error}", sockets.len());
                return Ok(());
            }
        }
    }
}

/// Errors are part of it.
fn storm() {
    let Ok(listener) = TcpListener::bind("0.0.0.0:0") else { return };
    let Ok(address) = listener.local_addr() else { return };
    let held: Vec<_> = (0..100).map_while(|_| TcpStream::connect(("127.0.0.1", address.port())).ok()).collect();
    drop(held);
    let _ = UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.send_to(&[0; 60_000], ("127.0.0.1", address.port())));
}

/// Where servers of a machine usually are.
const PORTS: u16 = 10_000;

fn scan(ips: &[&str]) -> io::Result<()> {
    let mut answered = 0;
    for ip in ips {
        answered += (1..=PORTS).filter(|port| TcpStream::connect((*ip, *port)).is_ok()).count();
    }
    println!("{answered} ports answered");
    std::process::exit(i32::from(answered > 0))
}
