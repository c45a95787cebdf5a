//! What the guests of one container share of the network, and what each has for itself.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use super::{
    p1,
    pod::{Bound, PodNet},
    policy::{Denied, Mode, Why},
    sockets::{BUFFER_BYTES_MAX, loopback, shown},
};
use crate::{
    charge::{Account, Charge},
    process::Warn,
};

/// Sockets that the guests of one container may have at once (open, accepted or listening). What is beyond gets
/// `new-socket-limit`, as a process that is out of file descriptors, and so it is when all guests of the node
/// together have half of the descriptors that the node may have.
pub const SOCKETS_MAX: usize = 256;

/// What waits in one socket at most, and so what each counts as memory of its container: the system's two buffers, and one
/// datagram or write of the host's (64 KiB).
pub const SOCKET_BYTES: u64 = 2 * BUFFER_BYTES_MAX + (64 << 10);

/// One container's share: its own guest and what is exec'd in it.
pub struct ContainerNet {
    pub pod: Arc<PodNet>,
    account: Account,
    sockets: AtomicUsize,
    denied_told: AtomicBool,
    limit_told: AtomicBool,
}

impl ContainerNet {
    pub fn new(pod: Arc<PodNet>, account: Account) -> Arc<Self> {
        let (denied_told, limit_told) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { pod, account, sockets: AtomicUsize::new(0), denied_told, limit_told })
    }

    /// Room for one more socket and for what waits in it, for as long as the permit lives.
    pub fn socket(self: &Arc<Self>) -> Option<SocketPermit> {
        if self.sockets.fetch_add(1, Ordering::Relaxed) >= SOCKETS_MAX {
            self.sockets.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        if !self.pod.network().count_socket() {
            self.sockets.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let Ok(charge) = self.account.charge(SOCKET_BYTES) else {
            self.sockets.fetch_sub(1, Ordering::Relaxed);
            self.pod.network().uncount_socket();
            return None;
        };
        Some(SocketPermit { net: self.clone(), _charge: charge })
    }

    /// Tells the user of the first connection that was denied.
    pub fn denied(&self, warn: &Warn, denied: &Denied) {
        self.tell_denied(warn, &format!("reach {denied}"));
    }

    fn tell_denied(&self, warn: &Warn, what: &str) {
        if !self.denied_told.swap(true, Ordering::Relaxed) {
            warn("NetworkDenied", format!("denied to {what}; further ones are not told"));
        }
    }

    /// Tells the user that there was no room for a socket, once.
    pub fn full(&self, warn: &Warn) {
        if !self.limit_told.swap(true, Ordering::Relaxed) {
            let count = self.sockets.load(Ordering::Relaxed);
            let memory = match self.account.charge(SOCKET_BYTES) {
                Ok(_) => String::new(),
                Err(full) => format!("; what waits in one counts as memory: {full}"),
            };
            let text = format!("no room for another socket: it has {count}, and may have {SOCKETS_MAX}{memory}");
            warn("SocketLimit", text);
        }
    }
}

pub struct SocketPermit {
    net: Arc<ContainerNet>,
    _charge: Charge,
}

impl Drop for SocketPermit {
    fn drop(&mut self) {
        self.net.sockets.fetch_sub(1, Ordering::Relaxed);
        self.net.pod.network().uncount_socket();
    }
}

/// One guest's sockets, by their handles in its table of resources.
pub struct GuestNet {
    pub shared: Arc<ContainerNet>,
    pub warn: Warn,
    pub(super) tcp: HashMap<u32, Tcp>,
    pub(super) udp: HashMap<u32, Udp>,
    /// The UDP socket of each stream of datagrams.
    pub(super) streams: HashMap<u32, u32>,
    /// Of preview 1.
    pub(super) p1: p1::Sockets,
}

/// What a guest sees of a TCP socket, where that is not what the host has.
pub(super) struct Tcp {
    /// As it was made; the host's may be IPv4 for an IPv6 one.
    pub v6: bool,
    /// As the guest asked for, with the port that it got.
    pub local: Option<SocketAddr>,
    /// As the guest named it, or as it accepted it.
    pub remote: Option<SocketAddr>,
    pub bound: Option<Bound>,
    pub _permit: SocketPermit,
}

/// The same of a UDP socket.
pub(super) struct Udp {
    pub v6: bool,
    /// As the guest sees it now.
    pub local: Option<SocketAddr>,
    /// The address that it asked to be bound to.
    pub asked: IpAddr,
    pub remote: Option<SocketAddr>,
    pub bound: Option<Bound>,
    /// The host's is on every address, and reaches the outside.
    pub open: bool,
    /// Whom outside it has sent to.
    pub peers: HashSet<SocketAddr>,
    _permit: SocketPermit,
}

impl Udp {
    pub fn new(v6: bool, permit: SocketPermit) -> Self {
        let asked = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Self { v6, local: None, asked, remote: None, bound: None, open: false, peers: HashSet::new(), _permit: permit }
    }

    /// Bound as it asked for, to that address of the host.
    pub fn enter(&mut self, wanted: SocketAddr, bound: Bound, open: bool, actual: SocketAddr) {
        // What is on every address sends to pods from the host's loopback address.
        let reached = if open { SocketAddr::new([127, 0, 0, 1].into(), actual.port()) } else { actual };
        if let SocketAddr::V4(reached) = reached {
            bound.listens_at(reached);
        }
        self.local = Some(SocketAddr::new(wanted.ip(), bound.address.port()));
        self.asked = wanted.ip();
        self.bound = Some(bound);
        self.open = open;
    }

    /// Connected to a peer, or to none again. As the system does, a socket at any address takes the one that its peer
    /// sees for as long as it has one.
    pub fn connected(&mut self, pod: Ipv4Addr, remote: Option<SocketAddr>) {
        self.remote = remote;
        let Some(local) = self.local.filter(|_| self.asked.is_unspecified()) else { return };
        let ip = match remote {
            None => self.asked,
            Some(to) if to.ip().is_loopback() => loopback(self.v6),
            Some(_) => shown(self.v6, SocketAddr::new(pod.into(), 0)).ip(),
        };
        self.local = Some(SocketAddr::new(ip, local.port()));
    }
}

impl GuestNet {
    pub fn new(shared: Arc<ContainerNet>, warn: Warn) -> Self {
        Self {
            shared,
            warn,
            tcp: HashMap::new(),
            udp: HashMap::new(),
            streams: HashMap::new(),
            p1: p1::Sockets::default(),
        }
    }

    pub(super) fn denied(&self, denied: &Denied) {
        self.shared.denied(&self.warn, denied);
    }

    pub(super) fn denied_name(&self, name: &str) {
        let name: String = name.chars().take(100).collect();
        self.shared.tell_denied(&self.warn, &format!("look up {name:?}: the pod's network ends with the cluster"));
    }

    /// Whether the pod has no network; told as denied.
    pub(super) fn without_network(&self) -> bool {
        let none = self.shared.pod.facts().mode == Mode::None;
        if none {
            let address = SocketAddr::from(([0, 0, 0, 0], 0));
            self.denied(&Denied { address, why: Why::NoNetwork });
        }
        none
    }
}
