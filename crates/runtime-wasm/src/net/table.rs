//! Who has which address, and what listens where.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    io,
    net::SocketAddrV4,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
}

/// Addresses are offsets in the process's block; the first is the claim's, the last is no host's.
pub struct Table {
    /// Given back; which of them is free for longest is not worth the memory.
    free: BTreeSet<u32>,
    /// From here on none was ever given away.
    next: u32,
    /// Ports of pods that somebody bound.
    ports: HashMap<(Protocol, SocketAddrV4), Port>,
    /// Back from the host's sockets.
    actual: HashMap<(Protocol, SocketAddrV4), SocketAddrV4>,
}

struct Port {
    /// `None` while it is bound and nothing listens.
    actual: Option<SocketAddrV4>,
    /// Bound to the pod's loopback address: for the pod itself and the node (port-forward, probes), not for others.
    own: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct Found {
    pub actual: SocketAddrV4,
    pub own: bool,
}

impl Default for Table {
    fn default() -> Self {
        Self { free: BTreeSet::new(), next: 2, ports: HashMap::new(), actual: HashMap::new() }
    }
}

impl Table {
    pub fn take(&mut self, size: u32) -> io::Result<u32> {
        if let Some(offset) = self.free.pop_first() {
            return Ok(offset);
        }
        if self.next >= size - 1 {
            return Err(io::Error::other(format!("all {} pod addresses of this node are in use", size - 3)));
        }
        self.next += 1;
        Ok(self.next - 1)
    }

    /// Whether somebody has the address.
    pub fn has(&self, offset: u32) -> bool {
        (2..self.next).contains(&offset) && !self.free.contains(&offset)
    }

    pub fn give_back(&mut self, offset: u32) {
        self.free.insert(offset);
    }

    /// # Errors
    /// `AddrInUse` when somebody has it.
    pub fn bind(&mut self, protocol: Protocol, address: SocketAddrV4, own: bool) -> io::Result<()> {
        match self.ports.entry((protocol, address)) {
            Entry::Occupied(_) => Err(io::ErrorKind::AddrInUse.into()),
            Entry::Vacant(entry) => {
                entry.insert(Port { actual: None, own });
                Ok(())
            }
        }
    }

    /// From now on the bound port is reached at this socket of the host.
    pub fn listen(&mut self, protocol: Protocol, address: SocketAddrV4, actual: SocketAddrV4) {
        if let Some(port) = self.ports.get_mut(&(protocol, address)) {
            port.actual = Some(actual);
            self.actual.insert((protocol, actual), address);
        }
    }

    pub fn release(&mut self, protocol: Protocol, address: SocketAddrV4) {
        if let Some(Port { actual: Some(actual), .. }) = self.ports.remove(&(protocol, address)) {
            self.actual.remove(&(protocol, actual));
        }
    }

    pub fn find(&self, protocol: Protocol, address: SocketAddrV4) -> Option<Found> {
        let port = self.ports.get(&(protocol, address))?;
        Some(Found { actual: port.actual?, own: port.own })
    }

    /// The pod's address and port that a socket of the host serves, and whether it is the pod's own loopback.
    pub fn behind(&self, protocol: Protocol, actual: SocketAddrV4) -> Option<(SocketAddrV4, bool)> {
        let guest = *self.actual.get(&(protocol, actual))?;
        Some((guest, self.ports.get(&(protocol, guest))?.own))
    }
}
