//! Options of sockets, as WASI words them: zero is no value, others are brought into the system's range.

use std::time::Duration;

use rustix::{fd::AsFd, net::sockopt};
use wasmtime_wasi::p3::bindings::sockets::types::ErrorCode;

use super::{
    super::sockets::{BUFFER_BYTES_DEFAULT, BUFFER_BYTES_MAX},
    Answer,
};

const SECOND_NANOS: u64 = 1_000_000_000;
/// The system's limits of keep-alive.
const KEEP_ALIVE_SECONDS_MAX: u64 = i16::MAX as u64;
const KEEP_ALIVE_COUNT_MAX: u32 = i8::MAX as u32;

fn failed(error: rustix::io::Errno) -> ErrorCode {
    std::io::Error::from(error).into()
}

fn some<V: PartialEq + From<u8>>(value: V) -> Answer<V> {
    if value == V::from(0) { Err(ErrorCode::InvalidArgument) } else { Ok(value) }
}

/// The system counts twice what was asked for, for its own needs.
fn halved(bytes: usize) -> u64 {
    u64::try_from(bytes / 2).unwrap_or(u64::MAX)
}

fn bytes(value: u64) -> Answer<usize> {
    Ok(usize::try_from(some(value)?.min(BUFFER_BYTES_MAX)).unwrap_or(usize::MAX))
}

pub fn receive_buffer(fd: impl AsFd) -> Answer<u64> {
    sockopt::socket_recv_buffer_size(fd).map(halved).map_err(failed)
}

pub fn set_receive_buffer(fd: impl AsFd, value: u64) -> Answer<()> {
    sockopt::set_socket_recv_buffer_size(fd, bytes(value)?).map_err(failed)
}

pub fn send_buffer(fd: impl AsFd) -> Answer<u64> {
    sockopt::socket_send_buffer_size(fd).map(halved).map_err(failed)
}

pub fn set_send_buffer(fd: impl AsFd, value: u64) -> Answer<()> {
    sockopt::set_socket_send_buffer_size(fd, bytes(value)?).map_err(failed)
}

/// The system would let them grow to several megabytes.
pub fn bound_buffers(fd: impl AsFd) -> Answer<()> {
    set_receive_buffer(fd.as_fd(), BUFFER_BYTES_DEFAULT)?;
    set_send_buffer(fd, BUFFER_BYTES_DEFAULT)
}

pub fn hop_limit(fd: impl AsFd, v6: bool) -> Answer<u8> {
    if v6 {
        return sockopt::ipv6_unicast_hops(fd).map_err(failed);
    }
    let limit = sockopt::ip_ttl(fd).map_err(failed)?;
    u8::try_from(limit).map_err(|_| ErrorCode::NotSupported)
}

pub fn set_hop_limit(fd: impl AsFd, v6: bool, value: u8) -> Answer<()> {
    let value = some(value)?;
    let set = if v6 { sockopt::set_ipv6_unicast_hops(fd, Some(value)) } else { sockopt::set_ip_ttl(fd, value.into()) };
    set.map_err(failed)
}

pub fn keep_alive(fd: impl AsFd) -> Answer<bool> {
    sockopt::socket_keepalive(fd).map_err(failed)
}

pub fn set_keep_alive(fd: impl AsFd, value: bool) -> Answer<()> {
    sockopt::set_socket_keepalive(fd, value).map_err(failed)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn keep_alive_time(value: u64) -> Answer<Duration> {
    Ok(Duration::from_nanos(some(value)?.clamp(SECOND_NANOS, KEEP_ALIVE_SECONDS_MAX * SECOND_NANOS)))
}

pub fn keep_alive_idle(fd: impl AsFd) -> Answer<u64> {
    sockopt::tcp_keepidle(fd).map(nanos).map_err(failed)
}

pub fn set_keep_alive_idle(fd: impl AsFd, value: u64) -> Answer<()> {
    sockopt::set_tcp_keepidle(fd, keep_alive_time(value)?).map_err(failed)
}

pub fn keep_alive_interval(fd: impl AsFd) -> Answer<u64> {
    sockopt::tcp_keepintvl(fd).map(nanos).map_err(failed)
}

pub fn set_keep_alive_interval(fd: impl AsFd, value: u64) -> Answer<()> {
    sockopt::set_tcp_keepintvl(fd, keep_alive_time(value)?).map_err(failed)
}

pub fn keep_alive_count(fd: impl AsFd) -> Answer<u32> {
    sockopt::tcp_keepcnt(fd).map_err(failed)
}

pub fn set_keep_alive_count(fd: impl AsFd, value: u32) -> Answer<()> {
    sockopt::set_tcp_keepcnt(fd, some(value)?.min(KEEP_ALIVE_COUNT_MAX)).map_err(failed)
}

/// Gives one TCP socket the options of another.
pub fn copy_tcp(from: impl AsFd, from_v6: bool, to: impl AsFd, to_v6: bool) -> Answer<()> {
    let (from, to) = (from.as_fd(), to.as_fd());
    set_keep_alive(to, keep_alive(from)?)?;
    set_keep_alive_idle(to, keep_alive_idle(from)?)?;
    set_keep_alive_interval(to, keep_alive_interval(from)?)?;
    set_keep_alive_count(to, keep_alive_count(from)?)?;
    set_hop_limit(to, to_v6, hop_limit(from, from_v6)?)?;
    set_receive_buffer(to, receive_buffer(from)?)?;
    set_send_buffer(to, send_buffer(from)?)
}
