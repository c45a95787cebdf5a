//! `poll_oneoff` over sockets and clocks. Without a socket among what is waited for it is wasmtime's; beside one, other
//! descriptors are ready to be written at once, and never to be read.

use std::{future::poll_fn, task::Poll, time::Duration};

use futures::future::BoxFuture;
use tokio::time::{Instant, sleep_until};
use wasmtime::{AsContextMut as _, Caller, Extern};
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self as wasi, WasiSnapshotPreview1 as _};
use wiggle::GuestMemory;

use super::{
    Entry, Socket,
    calls::{entry, inner},
    memory::{self, Errno, FAULT, INVAL, SUCCESS},
};
use crate::guest::Host;

/// What one call may wait for.
const SUBSCRIPTIONS_MAX: u32 = 1024;
const SUBSCRIPTION_BYTES: u32 = 48;
const EVENT_BYTES: u32 = 32;
/// A guest that waits longer than this is woken too early, which nobody will notice.
const SLEEP_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Clock = 0,
    Read = 1,
    Write = 2,
}

struct Subscription {
    userdata: [u8; 8],
    kind: Kind,
    body: [u8; 32],
}

impl Subscription {
    fn fd(&self) -> i32 {
        i32::from_le_bytes([self.body[0], self.body[1], self.body[2], self.body[3]])
    }

    fn number(&self, at: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.body[at..at + 8]);
        u64::from_le_bytes(bytes)
    }

    /// For how long a clock is waited for.
    fn duration(&self) -> Result<Duration, Errno> {
        let (clock, nanos) = (self.fd(), self.number(8));
        let absolute = self.body[24] & 1 != 0;
        let now = match (clock, absolute) {
            (0 | 1, false) => 0,
            (0, true) => u64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or_default(),
            // Where the guest's monotonic clock stands is wasmtime's to know.
            _ => return Err(INVAL),
        };
        Ok(Duration::from_nanos(nanos.saturating_sub(now)).min(SLEEP_MAX))
    }
}

pub(super) async fn poll_oneoff(
    mut caller: Caller<'_, Host>,
    subscriptions: i32,
    events: i32,
    count: i32,
    done: i32,
) -> wasmtime::Result<i32> {
    let read = match read(&mut caller, subscriptions.cast_unsigned(), count.cast_unsigned()) {
        Ok(read) => read,
        Err(errno) => return Ok(errno),
    };
    let is_socket =
        |s: &Subscription, caller: &mut Caller<'_, Host>| s.kind != Kind::Clock && entry(caller, s.fd()).is_some();
    if !read.iter().any(|subscription| is_socket(subscription, &mut caller)) {
        return inner!(caller, poll_oneoff(subscriptions, events, count, done), .await);
    }
    let happened = match wait(&mut caller, &read).await {
        Ok(happened) => happened,
        Err(errno) => return Ok(errno),
    };
    let written = write(&mut caller, events.cast_unsigned(), done.cast_unsigned(), &read, &happened);
    Ok(written.err().unwrap_or(SUCCESS))
}

fn read(caller: &mut Caller<'_, Host>, at: u32, count: u32) -> Result<Vec<Subscription>, Errno> {
    if count == 0 || count > SUBSCRIPTIONS_MAX {
        return Err(INVAL);
    }
    let one = |index: u32| {
        let at = at.checked_add(index * SUBSCRIPTION_BYTES).ok_or(FAULT)?;
        let bytes: [u8; SUBSCRIPTION_BYTES as usize] = memory::read(caller, at)?;
        let (mut userdata, mut body) = ([0; 8], [0; 32]);
        userdata.copy_from_slice(&bytes[..8]);
        body.copy_from_slice(&bytes[16..]);
        let kind = match bytes[8] {
            0 => Kind::Clock,
            1 => Kind::Read,
            2 => Kind::Write,
            _ => return Err(INVAL),
        };
        Ok(Subscription { userdata, kind, body })
    };
    (0..count).map(one).collect()
}

type Waiting = (usize, BoxFuture<'static, Errno>);

/// Waits until something happens; gives everything that has: the index of the subscription, and its error.
async fn wait(caller: &mut Caller<'_, Host>, subscriptions: &[Subscription]) -> Result<Vec<(usize, Errno)>, Errno> {
    let mut waiting: Vec<Waiting> = Vec::with_capacity(subscriptions.len());
    for (index, subscription) in subscriptions.iter().enumerate() {
        waiting.push((index, waits_for(caller, subscription)?));
    }
    Ok(poll_fn(|context| {
        let mut happened = Vec::new();
        for (index, future) in &mut waiting {
            if let Poll::Ready(errno) = future.as_mut().poll(context) {
                happened.push((*index, errno));
            }
        }
        if happened.is_empty() { Poll::Pending } else { Poll::Ready(happened) }
    })
    .await)
}

fn waits_for(caller: &mut Caller<'_, Host>, subscription: &Subscription) -> Result<BoxFuture<'static, Errno>, Errno> {
    let told = |result: std::io::Result<()>| result.map_or_else(|error| memory::errno(&error), |()| SUCCESS);
    Ok(match subscription.kind {
        Kind::Clock => {
            let until = Instant::now() + subscription.duration()?;
            Box::pin(async move {
                sleep_until(until).await;
                SUCCESS
            })
        }
        kind => match (entry(caller, subscription.fd()), kind) {
            (Some(Entry { socket: Socket::Listener(accepting), .. }), Kind::Read) => {
                Box::pin(async move { told(poll_fn(|context| accepting.poll_waiting(context)).await) })
            }
            (Some(Entry { socket: Socket::Stream(connected), .. }), Kind::Read) => {
                Box::pin(async move { told(connected.stream.readable().await) })
            }
            (Some(Entry { socket: Socket::Stream(connected), .. }), _) => {
                Box::pin(async move { told(connected.stream.writable().await) })
            }
            (None, Kind::Write) => Box::pin(async { SUCCESS }),
            _ => Box::pin(std::future::pending()),
        },
    })
}

fn write(
    caller: &mut Caller<'_, Host>,
    at: u32,
    done: u32,
    subscriptions: &[Subscription],
    happened: &[(usize, Errno)],
) -> Result<(), Errno> {
    for (place, (index, errno)) in (0_u32..).zip(happened) {
        let subscription = &subscriptions[*index];
        let mut event = [0; EVENT_BYTES as usize];
        event[..8].copy_from_slice(&subscription.userdata);
        event[8..10].copy_from_slice(&u16::try_from(*errno).unwrap_or_default().to_le_bytes());
        event[10] = subscription.kind as u8;
        // How many bytes there are is not known: one at least.
        event[16..24].copy_from_slice(&1_u64.to_le_bytes());
        memory::write(caller, at.checked_add(place * EVENT_BYTES).ok_or(FAULT)?, &event)?;
    }
    memory::write(caller, done, &u32::try_from(happened.len()).unwrap_or_default().to_le_bytes())
}
