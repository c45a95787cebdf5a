//! The rootless network: an address in 127.0.0.0/8 for every pod of this process.
//!
//! What must stay true: an address belongs to one pod at a time; a guest reaches only what the table of listeners names
//! or what its policy allows, never a port of the host that happens to listen on every address; and a process that
//! ends gives its addresses back.
//!
//! A guest's port may not be the one that the host could take (below 1024 without root): the table leads from the pod's
//! address and port to the socket that listens for it.

mod block;

use std::{
    collections::{BTreeSet, HashMap},
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};

use block::Block;

/// The addresses of this process, shared by all its nodes, and who listens on them.
pub struct Network {
    block: Block,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// Offsets in the block that were given back, the one that is free for longest first is not worth the memory.
    free: BTreeSet<u32>,
    /// Offsets from here on were never given away.
    next: u32,
    /// Pod address and port → where the host listens for it.
    listeners: HashMap<SocketAddrV4, SocketAddrV4>,
}

impl Network {
    /// Takes a block of addresses that no other process on this machine has.
    ///
    /// # Errors
    /// When every block is taken, or the system has no addresses in 127.0.0.0/8.
    pub fn open() -> io::Result<Arc<Self>> {
        let table = Table { next: 2, ..Table::default() };
        Ok(Arc::new(Self { block: Block::claim()?, table: Mutex::new(table) }))
    }

    /// Gives a pod its address, until the last of its [`PodNet`] is dropped.
    ///
    /// # Errors
    /// When all addresses of the block are in use.
    pub fn join(self: &Arc<Self>) -> io::Result<Arc<PodNet>> {
        let mut table = self.table.lock();
        let offset = match table.free.pop_first() {
            Some(offset) => offset,
            None if table.next < self.block.size() - 1 => {
                table.next += 1;
                table.next - 1
            }
            None => {
                let all = self.block.size() - 3;
                return Err(io::Error::other(format!("all {all} pod addresses of this node are in use")));
            }
        };
        Ok(Arc::new(PodNet { network: self.clone(), ip: self.block.address(offset), offset }))
    }

    /// Where the host listens for a pod's port, if anything does.
    pub fn listener(&self, address: SocketAddrV4) -> Option<SocketAddrV4> {
        self.table.lock().listeners.get(&address).copied()
    }
}

/// One pod's place in the network.
pub struct PodNet {
    network: Arc<Network>,
    ip: Ipv4Addr,
    offset: u32,
}

impl PodNet {
    pub fn ip(&self) -> Ipv4Addr {
        self.ip
    }

    pub fn network(&self) -> &Arc<Network> {
        &self.network
    }

    /// Listens on a port of the pod, for as long as the listener lives. Port 0 takes a free one.
    ///
    /// # Errors
    /// `AddrInUse` when the pod listens there already.
    pub async fn listen(self: &Arc<Self>, port: u16) -> io::Result<Listener> {
        let wanted = SocketAddrV4::new(self.ip, port);
        if port != 0 && self.network.listener(wanted).is_some() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let socket = match TcpListener::bind(wanted).await {
            // A port that only root may take: another, which the table leads to.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                TcpListener::bind(SocketAddrV4::new(self.ip, 0)).await?
            }
            bound => bound?,
        };
        let SocketAddr::V4(actual) = socket.local_addr()? else {
            return Err(io::Error::other("an IPv4 socket has no IPv4 address"));
        };
        let address = if port == 0 { actual } else { wanted };
        self.network.table.lock().listeners.insert(address, actual);
        Ok(Listener { socket, address, pod: self.clone() })
    }

    /// Connects to a port of this pod.
    ///
    /// # Errors
    /// `ConnectionRefused` when nothing listens there.
    pub async fn dial(&self, port: u16) -> io::Result<TcpStream> {
        let Some(actual) = self.network.listener(SocketAddrV4::new(self.ip, port)) else {
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        TcpStream::connect(actual).await
    }
}

impl Drop for PodNet {
    fn drop(&mut self) {
        self.network.table.lock().free.insert(self.offset);
    }
}

/// A listening port of a pod, in the table while it lives.
pub struct Listener {
    pub socket: TcpListener,
    /// As the guest and its peers name it.
    pub address: SocketAddrV4,
    pod: Arc<PodNet>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.pod.network.table.lock().listeners.remove(&self.address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn two_pods_listen_on_one_port() {
        let network = Network::open().expect("a block is free");
        let (a, b) = (network.join().expect("free"), network.join().expect("free"));
        assert_ne!(a.ip(), b.ip());
        let first = a.listen(80).await.expect("listens");
        let _second = b.listen(80).await.expect("listens");
        assert_eq!(a.listen(80).await.err().map(|e| e.kind()), Some(io::ErrorKind::AddrInUse));
        a.dial(80).await.expect("connects");
        drop(first);
        assert_eq!(a.dial(80).await.err().map(|e| e.kind()), Some(io::ErrorKind::ConnectionRefused));
    }

    #[test]
    fn an_address_is_given_again_only_after_it_was_given_back() {
        let network = Network::open().expect("a block is free");
        let (a, b) = (network.join().expect("free"), network.join().expect("free"));
        let ip = a.ip();
        drop(a);
        assert_eq!(network.join().expect("free").ip(), ip);
        assert_ne!(b.ip(), ip);
    }

    #[test]
    fn two_processes_have_different_blocks() {
        let (a, b) = (Network::open().expect("free"), Network::open().expect("free"));
        assert_ne!(a.join().expect("free").ip(), b.join().expect("free").ip());
    }
}
