//! The rootless network: an address in 127.0.0.0/8 for every pod of this process.
//!
//! What must stay true: an address belongs to one pod at a time; a guest reaches only what the table of listeners names
//! or what its policy allows, never a port of the host that happens to listen on every address; and a process that
//! ends gives its addresses back.
//!
//! A guest's port may not be the one that the host could take (below 1024 without root, or taken by a process of the
//! host that listens on every address): the table leads from the pod's address and port to the socket that listens
//! for it. Guests, `kubectl port-forward` and probes go by the table; a process of the host that connects to a pod's
//! address itself reaches it where both ports are the same.

mod block;
mod container;
mod lookup;
pub mod names;
pub mod p1;
pub mod p3;
pub mod pod;
pub mod policy;
mod sockets;
mod table;
mod tcp;
mod udp;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use block::Block;
use table::Table;

pub use container::{ContainerNet, GuestNet};
pub use pod::{PodFacts, PodNet};
pub use policy::{Mode, Policy};
pub use sockets::{BUFFER_BYTES_MAX, PodSockets, add_to_linker};
pub use table::Protocol;

/// How old the list of the node's own addresses may be when a guest connects to the outside.
const NODE_ADDRESSES_AGE_MAX: Duration = Duration::from_secs(5);
/// File descriptors that guests' sockets leave to everything else in this process.
const DESCRIPTORS_LEFT: u64 = 1024;

/// Of the discard protocol (RFC 863).
const DISCARD_PORT: u16 = 9;

/// The addresses of this process, shared by all its nodes, and who listens on them.
pub struct Network {
    block: Block,
    nowhere: UdpSocket,
    table: Mutex<Table>,
    node: Mutex<(Instant, Arc<[IpAddr]>)>,
    published: Mutex<Published>,
    resolver: names::Resolver,
    /// Sockets of all guests, and how many there may be: half of the descriptors that this process may have.
    sockets: AtomicUsize,
    sockets_max: usize,
}

/// What the cluster offers beside pods. Services get their place here: an address leads to where it is served.
#[derive(Default)]
struct Published {
    services: Vec<(SocketAddr, SocketAddr)>,
    allowed: Arc<[SocketAddr]>,
}

impl Network {
    /// Takes a block of addresses that no other process on this machine has.
    ///
    /// # Errors
    /// When every block is taken, or the system has no addresses in 127.0.0.0/8.
    pub fn open() -> io::Result<Arc<Self>> {
        use rustix::process::{Resource, getrlimit};
        let descriptors = getrlimit(Resource::Nofile).maximum.unwrap_or(1 << 20);
        let sockets_max = (descriptors / 2).max(descriptors.saturating_sub(DESCRIPTORS_LEFT).min(128));
        let block = Block::claim()?;
        let nowhere = UdpSocket::bind((block.address(1), 0))?;
        nowhere.connect((block.address(1), DISCARD_PORT))?;
        Ok(Arc::new(Self {
            block,
            nowhere,
            table: Mutex::new(Table::default()),
            node: Mutex::new((Instant::now(), node_addresses())),
            published: Mutex::default(),
            resolver: names::Resolver::default(),
            sockets: AtomicUsize::new(0),
            sockets_max: usize::try_from(sockets_max).unwrap_or(usize::MAX),
        }))
    }

    /// Lets every pod that has a network reach the API server: at its own address, and at that of its Service.
    pub fn publish_api(&self, service: SocketAddr, actual: SocketAddr) {
        let mut published = self.published.lock();
        published.allowed = published.allowed.iter().copied().chain([actual]).collect();
        // Who listens on every address is reached at any.
        let reached =
            if actual.ip().is_unspecified() { SocketAddr::new([127, 0, 0, 1].into(), actual.port()) } else { actual };
        published.services.push((service, reached));
    }

    /// Where a Service's address and port lead.
    fn service(&self, address: SocketAddr) -> Option<SocketAddr> {
        let published = self.published.lock();
        published.services.iter().find(|(service, _)| *service == address).map(|(_, actual)| *actual)
    }

    /// The address of the API server's Service.
    fn api_service(&self) -> Option<IpAddr> {
        self.published.lock().services.first().map(|(service, _)| service.ip())
    }

    /// Whether a pod has this address.
    fn has(&self, ip: Ipv4Addr) -> bool {
        let offset = self.block.contains(ip).then(|| self.block.offset(ip));
        offset.is_some_and(|offset| self.table.lock().has(offset))
    }

    /// An address that refuses every datagram, for those to a port that nobody has: its socket takes from one peer only,
    /// which never sends.
    fn nowhere(&self) -> io::Result<SocketAddr> {
        self.nowhere.local_addr()
    }

    /// The pod's address and port that a socket of the host serves, and whether it is the pod's own loopback.
    fn behind(&self, protocol: Protocol, actual: SocketAddrV4) -> Option<(SocketAddrV4, bool)> {
        self.table.lock().behind(protocol, actual)
    }

    /// What a pod of this mode may reach outside, as it stands now.
    pub fn policy(&self, mode: Mode) -> Policy {
        let mut node = self.node.lock();
        if node.0.elapsed() > NODE_ADDRESSES_AGE_MAX {
            *node = (Instant::now(), node_addresses());
        }
        Policy { mode, node: node.1.clone(), allowed: self.published.lock().allowed.clone() }
    }

    /// Gives a pod its address, until the last holder of its place is gone.
    ///
    /// # Errors
    /// When all addresses of the block are in use.
    pub fn join(self: &Arc<Self>, facts: PodFacts) -> io::Result<Arc<PodNet>> {
        let offset = self.table.lock().take(self.block.size())?;
        Ok(Arc::new(PodNet::new(self.clone(), facts, offset)))
    }

    /// Where the host listens for a pod's port, if anything does.
    pub fn listener(&self, protocol: Protocol, address: SocketAddrV4) -> Option<SocketAddrV4> {
        self.table.lock().find(protocol, address).map(|found| found.actual)
    }

    /// Counts a socket, if there is room for it.
    fn count_socket(&self) -> bool {
        let counted = self.sockets.fetch_add(1, Ordering::Relaxed) < self.sockets_max;
        if !counted {
            self.sockets.fetch_sub(1, Ordering::Relaxed);
        }
        counted
    }

    fn uncount_socket(&self) {
        self.sockets.fetch_sub(1, Ordering::Relaxed);
    }
}

/// None of them is not an error: loopback is refused in any case.
fn node_addresses() -> Arc<[IpAddr]> {
    match if_addrs::get_if_addrs() {
        Ok(interfaces) => interfaces.iter().map(|interface| interface.ip()).collect(),
        Err(error) => {
            tracing::warn!(error = %error, "the node's own addresses are not known");
            Arc::default()
        }
    }
}

#[cfg(test)]
mod tests;
