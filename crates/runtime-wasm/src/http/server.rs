//! A server's life: it listens, takes connections, watches their times, and comes to an end in good order or at once.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use http::HeaderValue;
use parking_lot::Mutex;
use skiff_runtime::Exit;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Seat,
    call::{Call, Fault},
    components::Components,
    connection::{self, Connection},
    faults::Faults,
    request::Instance,
    service::Service,
    setting::Setting,
    slots::{Slot, Slots},
};
use crate::{
    charge::{Account, Charge},
    engine::Ticker,
    guest::{Launch, start_error},
    lanes::{Lanes, SharedBucket},
    log::Log,
    program::Runnable,
};

/// Connections of one server at a time; more wait to be accepted.
const CONNECTIONS_MAX: u32 = 1024;
/// Requests that wait for a place, and how long; what is more, or waits longer, is answered with 503.
const WAITING_MAX: usize = 1024;
const WAIT_MAX: Duration = Duration::from_secs(10);
/// How exact the limits of time are, at least.
const SWEEP: Duration = Duration::from_secs(1);
/// How long to wait after the system had no means to accept a connection.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
/// An instance kept warm for the next request is given up when none has come for so long.
const WARM_MAX: Duration = Duration::from_secs(30);

pub struct Server {
    pub program: Service,
    pub launch: Launch,
    /// Of a Spin application.
    pub components: Option<Components>,
    pub setting: Setting,
    pub lanes: Arc<Lanes>,
    pub ticker: Arc<Ticker>,
    pub bucket: Option<SharedBucket>,
    /// Counts the memory of what is no instance.
    account: Account,
    slots: Arc<Slots>,
    pub log: Log,
    /// The host of a request that names none.
    pub address: HeaderValue,
    /// Cancelled when the server is killed.
    pub closed: CancellationToken,
    /// The requests that have waited for something.
    pub calls: Mutex<HashMap<u64, Arc<Call>>>,
    pub connections: Mutex<HashMap<u64, Arc<Connection>>>,
    pub faults: Faults,
    places: Arc<Semaphore>,
    room: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// The one used last is the first to be used again.
    warm: Mutex<Vec<(Instant, Instance)>>,
    next_id: AtomicU64,
    begun: Instant,
}

/// Serves until it is asked to stop, or killed.
pub async fn serve(program: Service, launch: Launch, seat: Seat) -> Exit {
    let setting = seat.control.setting;
    let listener = match seat.net.listen(setting.port).await {
        Ok(listener) => listener,
        Err(error) => return start_error(format!("failed to listen on port {}: {error}", setting.port)),
    };
    if let Err(error) = rustix::net::listen(&listener.socket, i32::from(setting.backlog)) {
        tracing::debug!(error = %error, "backlog not set");
    }
    bound_buffers(&listener.socket);
    seat.control.listens.cancel();
    // An address is made of visible characters.
    let address = HeaderValue::try_from(listener.address.to_string()).unwrap_or(HeaderValue::from_static("localhost"));
    let closed = CancellationToken::new();
    let places = Arc::new(Semaphore::new(setting.concurrency as usize));
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX as usize));
    let make = |program, launch: Launch, components| {
        Arc::new(Server {
            program,
            account: launch.account(),
            launch,
            components,
            slots: seat.slots.clone(),
            lanes: seat.lanes.clone(),
            ticker: seat.ticker.clone(),
            bucket: seat.bucket.clone(),
            log: seat.log.clone(),
            address: address.clone(),
            closed: closed.clone(),
            calls: Mutex::default(),
            connections: Mutex::default(),
            faults: Faults::default(),
            places: places.clone(),
            room: room.clone(),
            waiting: AtomicUsize::new(0),
            warm: Mutex::default(),
            next_id: AtomicU64::new(0),
            begun: Instant::now(),
            setting: setting.clone(),
        })
    };
    let components = launch.app.clone().map(|app| {
        let served = app.parts.iter().filter_map(|part| match &part.program.runnable {
            Ok(Runnable::Server(program)) => Some(make(program.clone(), launch.of_part(part), None)),
            // Refused when the container was created.
            _ => None,
        });
        let servers = served.collect();
        Components { app, servers }
    });
    let server = make(program, launch, components);
    let exit = tokio::select! {
        biased;
        exit = killed(seat.kill) => exit,
        exit = server.live(listener, seat.control.drain) => exit,
    };
    server.close().await;
    exit
}

async fn killed(kill: oneshot::Receiver<Exit>) -> Exit {
    match kill.await {
        Ok(exit) => exit,
        // Nobody is left who could.
        Err(_) => std::future::pending().await,
    }
}

impl Server {
    async fn live(self: &Arc<Self>, listener: crate::net::pod::Listener, drain: CancellationToken) -> Exit {
        let mut sweep = interval(SWEEP.min(self.setting.timeout / 4).max(Duration::from_millis(10)));
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = drain.cancelled() => break,
                _ = sweep.tick(), if self.is_busy() => self.sweep(),
                (stream, room) = self.accept(&listener.socket) => self.connect(stream, room),
            }
        }
        drop(listener);
        for connection in self.connections() {
            connection.end();
        }
        loop {
            tokio::select! {
                () = self.ended() => return Exit::from_code(0),
                _ = sweep.tick() => self.sweep(),
            }
        }
    }

    async fn accept(&self, listener: &TcpListener) -> (TcpStream, OwnedSemaphorePermit) {
        // Never closed.
        let Ok(room) = self.room.clone().acquire_owned().await else { return std::future::pending().await };
        loop {
            match listener.accept().await {
                Ok((stream, _)) => return (stream, room),
                Err(error) => {
                    tracing::debug!(error = %error, "connection of an HTTP server not accepted");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    }

    fn connect(self: &Arc<Self>, stream: TcpStream, room: OwnedSemaphorePermit) {
        let connection = Connection::new(self.next_id(), self.clone());
        self.connections.lock().insert(connection.id, connection.clone());
        tokio::spawn(connection::run(self.clone(), connection, stream, room));
    }

    fn is_busy(&self) -> bool {
        let own = !self.connections.lock().is_empty() || !self.calls.lock().is_empty() || !self.warm.lock().is_empty();
        own || self.others().any(|server| server.is_busy())
    }

    fn connections(&self) -> Vec<Arc<Connection>> {
        self.connections.lock().values().cloned().collect()
    }

    /// Ends what is over its time.
    fn sweep(&self) {
        let now = Instant::now();
        let over: Vec<_> = self.calls.lock().values().filter(|call| call.deadline <= now).cloned().collect();
        for call in over {
            call.end(Fault::TimedOut);
        }
        let now_ms = self.age_ms();
        for connection in self.connections() {
            connection.sweep(now_ms);
        }
        let cold: Vec<_> = {
            let mut warm = self.warm.lock();
            let short = self.slots.are_short();
            let over = |used: &Instant| short || now.duration_since(*used) > WARM_MAX;
            let count = warm.iter().take_while(|(used, _)| over(used)).count();
            warm.drain(..count).collect()
        };
        drop(cold);
        self.others().for_each(|server| server.sweep());
    }

    /// Once nothing is left of connections and requests.
    async fn ended(&self) {
        // Connections first: a request of theirs that waits for a place must not wait behind this.
        let _connections = self.room.acquire_many(CONNECTIONS_MAX).await;
        let _requests = self.places.acquire_many(self.setting.concurrency).await;
    }

    /// Ends everything at once, and returns when it has ended.
    async fn close(&self) {
        self.closed.cancel();
        for connection in self.connections() {
            connection.kill();
        }
        self.end_calls();
        self.others().for_each(|server| server.end_calls());
        self.ended().await;
        self.warm.lock().clear();
        self.others().for_each(|server| server.warm.lock().clear());
    }

    fn end_calls(&self) {
        let calls: Vec<_> = self.calls.lock().values().cloned().collect();
        for call in calls {
            call.end(Fault::Closed);
        }
    }

    pub fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    pub fn age_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The right to run one request, and what to run it in; none when too many wait, or it takes too long.
    pub async fn place(&self) -> Option<Place> {
        let turn = self.places.clone().try_acquire_owned().ok();
        let turn = match turn {
            Some(turn) => match self.room() {
                Some(room) => return Some(Place { room, turn }),
                None => Some(turn),
            },
            None => None,
        };
        let waiting = Waiting(&self.waiting);
        if waiting.0.fetch_add(1, Ordering::SeqCst) >= WAITING_MAX {
            return None;
        }
        let wait = async {
            let turn = match turn {
                Some(turn) => turn,
                None => self.places.clone().acquire_owned().await.ok()?,
            };
            let room = match self.room() {
                Some(room) => room,
                None => Room::Fresh(self.slots.wait().await),
            };
            Some(Place { room, turn })
        };
        timeout(WAIT_MAX, wait).await.ok()?
    }

    fn room(&self) -> Option<Room> {
        self.warm().map(Room::Warm).or_else(|| self.slots.take().map(Room::Fresh))
    }

    /// Memory for one more connection. Where there is none it waits, and its client with it; none when it is closed meanwhile.
    pub async fn memory(&self, connection: &Connection) -> Option<Charge> {
        loop {
            if let Ok(charge) = self.account.charge(connection::BYTES) {
                return Some(charge);
            }
            tokio::select! {
                () = tokio::time::sleep(ACCEPT_BACKOFF) => {}
                () = self.closed.cancelled() => return None,
            }
            if connection.is_over() {
                return None;
            }
        }
    }

    /// Memory for as long as the charge lives.
    pub fn charge(&self, bytes: u64) -> Option<Charge> {
        self.account.charge(bytes).ok()
    }

    /// A container that has used up its processor time begins nothing.
    pub async fn await_processor(&self) {
        let Some(bucket) = &self.bucket else { return };
        loop {
            let debt = bucket.lock().debt();
            match debt {
                Some(debt) => tokio::time::sleep(debt).await,
                None => return,
            }
        }
    }

    fn warm(&self) -> Option<Instance> {
        if self.setting.reuse == 1 {
            return None;
        }
        self.warm.lock().pop().map(|(_, instance)| instance)
    }

    /// For the next request, if it may answer one more, and no other server's waits for the room that it takes.
    pub fn keep_warm(&self, instance: Instance) {
        if instance.served < self.setting.reuse && !self.closed.is_cancelled() && !self.slots.are_short() {
            self.warm.lock().push((Instant::now(), instance));
        }
    }
}

/// What is on its way over a connection waits in the system: as much as for other sockets of guests, for the listener's
/// connections have its sizes.
fn bound_buffers(listener: &TcpListener) {
    use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size};
    let size = crate::net::BUFFER_BYTES_MAX as usize;
    let set = set_socket_recv_buffer_size(listener, size).and_then(|()| set_socket_send_buffer_size(listener, size));
    if let Err(error) = set {
        tracing::debug!(error = %error, "sizes of socket buffers not set");
    }
}

/// The right to run one request.
pub struct Place {
    pub room: Room,
    /// Within its server's concurrency.
    pub turn: OwnedSemaphorePermit,
}

/// Where a request is run.
pub enum Room {
    Warm(Instance),
    Fresh(Slot),
}

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
