//! A block of 127.0.0.0/8 that belongs to this process alone, for as long as it lives.
//!
//! Processes agree by a socket: who listens on the block's first address at [`CLAIM_PORT`] has the block. The system
//! gives it back however the process ends.

use std::{
    hash::{BuildHasher, RandomState},
    io,
    net::{Ipv4Addr, SocketAddrV4, TcpListener},
};

/// Addresses of one block: as many pods as a node of 10,000 containers can have, and some.
const SIZE_LOG2: u32 = 14;
const BLOCKS: u32 = 1 << (24 - SIZE_LOG2);
/// The discard service's port would need root; this one is nobody's.
const CLAIM_PORT: u16 = 20_514;

pub struct Block {
    first: u32,
    /// Held, never accepted from.
    _claim: TcpListener,
}

impl Block {
    /// Begins at a random one, so that processes that start together rarely meet.
    pub fn claim() -> io::Result<Self> {
        let start = RandomState::new().hash_one(std::process::id()) as u32;
        let mut last = None;
        for step in 0..BLOCKS {
            // The first block holds 127.0.0.1 and what else is in use by everyone.
            let index = (start.wrapping_add(step)) % (BLOCKS - 1) + 1;
            let first = u32::from(Ipv4Addr::new(127, 0, 0, 0)) + (index << SIZE_LOG2);
            match TcpListener::bind(SocketAddrV4::new(Ipv4Addr::from(first + 1), CLAIM_PORT)) {
                Ok(claim) => return Ok(Self { first, _claim: claim }),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
    }

    pub fn size(&self) -> u32 {
        1 << SIZE_LOG2
    }

    pub fn contains(&self, ip: Ipv4Addr) -> bool {
        u32::from(ip) >> SIZE_LOG2 == self.first >> SIZE_LOG2
    }

    pub fn offset(&self, ip: Ipv4Addr) -> u32 {
        u32::from(ip) - self.first
    }

    pub fn address(&self, offset: u32) -> Ipv4Addr {
        Ipv4Addr::from(self.first + offset)
    }
}
