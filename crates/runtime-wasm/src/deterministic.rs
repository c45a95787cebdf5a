//! Runs that are the same every time: virtual clocks, seeded randomness, and the declared environment only.
//!
//! Time begins at [`EPOCH_SECONDS`] and passes only by being looked at ([`STEP_NANOS`] each) and by sleeping, which takes
//! no real time: the clock jumps to the earliest of the deadlines that the program waits for. What a program reads from
//! outside (files, the network, other processes) is not made the same; descriptors are always ready.

use std::{
    collections::BTreeMap,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use parking_lot::Mutex;
use rand::{SeedableRng as _, rngs::StdRng};
use sha2::{Digest as _, Sha256};
use wasmtime::{Caller, Extern, Linker, StoreContextMut, component};
use wasmtime_wasi::{
    HostMonotonicClock, HostWallClock, WasiCtxBuilder, WasiView as _,
    p2::{DynPollable, Pollable, subscribe},
};

use crate::guest::Host;

/// 2026-01-01T00:00:00Z
const EPOCH_SECONDS: u64 = 1_767_225_600;
/// What passes each time a program looks at a clock: programs that wait by looking come to an end.
const STEP_NANOS: u64 = 1_000;
/// Subscriptions in one `poll_oneoff`; a program with more gets `EINVAL`.
const SUBSCRIPTIONS_MAX: u32 = 4096;

/// What an annotation gave: any text.
#[derive(Clone, Debug)]
pub struct Seed([u8; 32]);

impl Seed {
    pub fn of(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }

    fn rng(&self, use_: u8) -> StdRng {
        let mut seed = self.0;
        seed[0] ^= use_;
        StdRng::from_seed(seed)
    }

    /// Gives a program its virtual world. The clock is for [`Host`].
    pub fn apply(&self, wasi: &mut WasiCtxBuilder) -> Arc<Clock> {
        let clock = Arc::new(Clock::default());
        let mut number = [0; 16];
        number.copy_from_slice(&self.0[16..]);
        wasi.wall_clock(Wall(clock.clone()))
            .monotonic_clock(Monotonic(clock.clone()))
            .secure_random(self.rng(0))
            .insecure_random(self.rng(1))
            .insecure_random_seed(u128::from_le_bytes(number));
        clock
    }
}

/// One program's time.
#[derive(Default)]
pub struct Clock {
    nanos: AtomicU64,
    /// Who sleeps until when.
    sleepers: Mutex<Sleepers>,
}

#[derive(Default)]
struct Sleepers {
    next: u64,
    deadlines: BTreeMap<u64, u64>,
}

impl Clock {
    fn look(&self) -> u64 {
        self.nanos.fetch_add(STEP_NANOS, Ordering::Relaxed) + STEP_NANOS
    }

    fn at(&self) -> u64 {
        self.nanos.load(Ordering::Relaxed)
    }

    fn reach(&self, deadline: u64) {
        self.nanos.fetch_max(deadline, Ordering::Relaxed);
    }
}

struct Wall(Arc<Clock>);

impl HostWallClock for Wall {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(STEP_NANOS)
    }

    fn now(&self) -> Duration {
        Duration::from_secs(EPOCH_SECONDS) + Duration::from_nanos(self.0.look())
    }
}

struct Monotonic(Arc<Clock>);

impl HostMonotonicClock for Monotonic {
    fn resolution(&self) -> u64 {
        STEP_NANOS
    }

    fn now(&self) -> u64 {
        self.0.look()
    }
}

/// Ready once the clock is there; brings it there when nobody else's turn comes before.
struct Sleep {
    clock: Arc<Clock>,
    deadline: u64,
}

struct Place<'a>(&'a Clock, u64);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.sleepers.lock().deadlines.remove(&self.1);
    }
}

#[async_trait::async_trait]
impl Pollable for Sleep {
    async fn ready(&mut self) {
        if self.clock.at() >= self.deadline {
            return;
        }
        let place = {
            let mut sleepers = self.clock.sleepers.lock();
            let id = sleepers.next;
            sleepers.next += 1;
            sleepers.deadlines.insert(id, self.deadline);
            Place(&self.clock, id)
        };
        // Everything that is polled together has its say first: what is ready, and who sleeps for less.
        let mut rounds = 0;
        poll_fn(|context| {
            let earliest = self.clock.sleepers.lock().deadlines.values().min().copied();
            if rounds > 0 && earliest.is_none_or(|earliest| self.deadline <= earliest) {
                self.clock.reach(self.deadline);
            }
            rounds += 1;
            if self.clock.at() >= self.deadline {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        drop(place);
    }
}

/// Replaces what waits for real time.
pub fn link(modules: &mut Linker<Host>, components: &mut component::Linker<Host>) -> wasmtime::Result<()> {
    modules.allow_shadowing(true);
    modules.func_wrap_async(
        "wasi_snapshot_preview1",
        "poll_oneoff",
        |mut caller: Caller<'_, Host>, (subscriptions, events, count, stored): (u32, u32, u32, u32)| {
            let done = poll_oneoff(&mut caller, subscriptions, events, count, stored);
            // Somebody else's turn: a program may wait as often as it likes.
            let turn: Pin<Box<dyn Future<Output = wasmtime::Result<u32>> + Send>> = Box::pin(async move {
                tokio::task::yield_now().await;
                done
            });
            Box::new(turn)
        },
    )?;
    modules.allow_shadowing(false);
    components.allow_shadowing(true);
    let mut clock = components.instance("wasi:clocks/monotonic-clock@0.2.12")?;
    clock.func_wrap("subscribe-instant", |store: StoreContextMut<'_, Host>, (when,): (u64,)| {
        sleep_until(store, |_| when)
    })?;
    clock.func_wrap("subscribe-duration", |store: StoreContextMut<'_, Host>, (span,): (u64,)| {
        sleep_until(store, |now| now.saturating_add(span))
    })?;
    components.allow_shadowing(false);
    Ok(())
}

fn sleep_until(
    mut store: StoreContextMut<'_, Host>,
    when: impl FnOnce(u64) -> u64,
) -> wasmtime::Result<(component::Resource<DynPollable>,)> {
    let host = store.data_mut();
    let clock = host.clock()?;
    let deadline = when(clock.at());
    let table = host.ctx().table;
    let sleep = table.push(Sleep { clock, deadline })?;
    Ok((subscribe(table, sleep)?,))
}

const ERRNO_SUCCESS: u32 = 0;
const ERRNO_FAULT: u32 = 21;
const ERRNO_INVAL: u32 = 28;
const SUBSCRIPTION_BYTES: usize = 48;
const EVENT_BYTES: usize = 32;
const EVENT_CLOCK: u8 = 0;
const CLOCK_REALTIME: u32 = 0;
const CLOCK_ABSOLUTE: u16 = 1;

/// Preview 1's only way to wait: descriptors are ready at once, and only where there are none the clock jumps.
fn poll_oneoff(
    caller: &mut Caller<'_, Host>,
    subscriptions: u32,
    events: u32,
    count: u32,
    stored: u32,
) -> wasmtime::Result<u32> {
    if count == 0 || count > SUBSCRIPTIONS_MAX {
        return Ok(ERRNO_INVAL);
    }
    let clock = caller.data().clock()?;
    let Some(Extern::Memory(memory)) = caller.get_export("memory") else { return Ok(ERRNO_FAULT) };
    let memory = memory.data_mut(caller);
    let at = subscriptions as usize;
    let Some(asked) = memory.get(at..at + count as usize * SUBSCRIPTION_BYTES).map(<[u8]>::to_vec) else {
        return Ok(ERRNO_FAULT);
    };
    let asked: Vec<Asked> =
        asked.chunks_exact(SUBSCRIPTION_BYTES).map(|bytes| Asked::read(bytes, clock.at())).collect();
    let descriptors = asked.iter().any(|one| one.deadline.is_none());
    if !descriptors && let Some(earliest) = asked.iter().filter_map(|one| one.deadline).min() {
        clock.reach(earliest);
    }
    let mut happened = 0u32;
    for one in asked.iter().filter(|one| one.deadline.is_none_or(|deadline| deadline <= clock.at())) {
        let start = events as usize + happened as usize * EVENT_BYTES;
        let Some(event) = memory.get_mut(start..start + EVENT_BYTES) else { return Ok(ERRNO_FAULT) };
        event.fill(0);
        event[..8].copy_from_slice(&one.userdata);
        event[10] = one.kind;
        // A descriptor has something to read or room to write; how much is not known here.
        event[16] = u8::from(one.kind != EVENT_CLOCK);
        happened += 1;
    }
    let Some(slot) = memory.get_mut(stored as usize..stored as usize + 4) else { return Ok(ERRNO_FAULT) };
    slot.copy_from_slice(&happened.to_le_bytes());
    Ok(ERRNO_SUCCESS)
}

struct Asked {
    userdata: [u8; 8],
    kind: u8,
    /// Of a clock.
    deadline: Option<u64>,
}

impl Asked {
    /// `bytes` is one subscription, of [`SUBSCRIPTION_BYTES`].
    fn read(bytes: &[u8], now: u64) -> Self {
        let array = |from: usize| -> [u8; 8] {
            let mut value = [0; 8];
            value.copy_from_slice(&bytes[from..from + 8]);
            value
        };
        let kind = bytes[8];
        let deadline = (kind == EVENT_CLOCK).then(|| {
            let (id, span) = (array(16)[0], u64::from_le_bytes(array(24)));
            let absolute = u16::from_le_bytes([bytes[40], bytes[41]]) & CLOCK_ABSOLUTE != 0;
            match (absolute, u32::from(id) == CLOCK_REALTIME) {
                (false, _) => now.saturating_add(span),
                (true, true) => span.saturating_sub(EPOCH_SECONDS * 1_000_000_000),
                (true, false) => span,
            }
        });
        Self { userdata: array(0), kind, deadline }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(clock: &Arc<Clock>, deadline: u64) -> Sleep {
        Sleep { clock: clock.clone(), deadline }
    }

    #[tokio::test]
    async fn the_earliest_sleeper_moves_the_clock() {
        let clock = Arc::new(Clock::default());
        let (mut long, mut short) = (sleeper(&clock, 5_000), sleeper(&clock, 1_000));
        tokio::select! {
            biased;
            () = long.ready() => panic!("the longer sleep ended first"),
            () = short.ready() => {}
        }
        assert_eq!(clock.at(), 1_000);
        long.ready().await;
        assert_eq!(clock.at(), 5_000);
        assert!(clock.sleepers.lock().deadlines.is_empty());
    }

    #[test]
    fn looking_takes_time() {
        let clock = Arc::new(Clock::default());
        let wall = Wall(clock.clone());
        assert!(wall.now() < wall.now());
        assert_eq!(wall.now().as_secs(), EPOCH_SECONDS);
    }
}
