//! Which addresses a guest may reach outside of the pods' own network: pure.
//!
//! What must stay true, whatever a pod's policy: no guest reaches the node itself (a loopback address or one of its
//! interfaces), a link-local address, a cloud's metadata service, or a group of machines. Pods and what the cluster
//! publishes are not asked about here: see [`PodNet::route`](super::PodNet::route).

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
    sync::Arc,
};

use skiff_runtime::annotations::NETWORK as ANNOTATION;

/// Metadata services of clouds that have no link-local address: Alibaba, Azure (it hands out certificates), Oracle; and
/// over IPv6 AWS and Google.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

/// What the guests of a pod may do with the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// No sockets and no names at all.
    None,
    /// They listen, and reach pods and the API server.
    Cluster,
    /// And addresses outside, as pods do in Kubernetes that no NetworkPolicy selects.
    #[default]
    All,
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "cluster" => Ok(Self::Cluster),
            "all" => Ok(Self::All),
            _ => Err(format!("annotation {ANNOTATION}: {text:?} is none of none, cluster, all")),
        }
    }
}

/// A pod's policy, as it stands now.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    pub mode: Mode,
    /// The addresses of the node's interfaces.
    pub node: Arc<[IpAddr]>,
    /// What every pod that has a network may reach, wherever it is: the API server. `0.0.0.0` is any of the node's.
    pub allowed: Arc<[SocketAddr]>,
}

/// Why a guest may not reach an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denied {
    pub address: SocketAddr,
    pub why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    NoNetwork,
    Node,
    Metadata,
    NotOneMachine,
    Outside,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, why } = self;
        match why {
            Why::NoNetwork => write!(f, "{address}: the pod has no network ({ANNOTATION}: none)"),
            Why::Node => write!(f, "{address} is the node's own: guests reach pods by their addresses, never the node"),
            Why::Metadata => write!(f, "{address} is link-local or a cloud's metadata service: no guest may reach it"),
            Why::NotOneMachine => write!(f, "{address} is not the address of one machine"),
            Why::Outside => write!(f, "{address} is outside of the cluster, which {ANNOTATION}: all would allow"),
        }
    }
}

impl std::error::Error for Denied {}

/// Whether a guest may reach an address that is no pod's.
///
/// # Errors
/// Why not.
pub fn egress(policy: &Policy, ip: IpAddr, port: u16) -> Result<(), Denied> {
    let address = SocketAddr::new(ip, port);
    let ip = embedded(ip);
    let denied = |why| Err(Denied { address, why });
    let of_node = ip.is_loopback() || policy.node.contains(&ip);
    let allowed = |a: &SocketAddr| a.port() == port && (a.ip() == ip || (a.ip().is_unspecified() && of_node));
    match ip {
        _ if policy.mode == Mode::None => denied(Why::NoNetwork),
        _ if policy.allowed.iter().any(allowed) => Ok(()),
        _ if of_node => denied(Why::Node),
        IpAddr::V4(ip) if ip.is_link_local() || METADATA_V4.contains(&ip) => denied(Why::Metadata),
        IpAddr::V6(ip) if ip.is_unicast_link_local() || METADATA_V6.contains(&ip) => denied(Why::Metadata),
        // 0.0.0.0/8 is "this host", 240.0.0.0/4 is reserved and ends with the broadcast address.
        IpAddr::V4(ip) if ip.is_multicast() || ip.octets()[0] == 0 || ip.octets()[0] >= 240 => {
            denied(Why::NotOneMachine)
        }
        IpAddr::V6(ip) if ip.is_multicast() || ip.is_unspecified() => denied(Why::NotOneMachine),
        _ if policy.mode == Mode::Cluster => denied(Why::Outside),
        _ => Ok(()),
    }
}

/// The IPv4 address that an IPv6 address leads to: mapped, compatible, or through the well-known NAT64 prefix.
fn embedded(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    let last = Ipv4Addr::from(u32::try_from(u128::from(v6) & 0xffff_ffff).unwrap_or_default());
    match v6.segments() {
        [0, 0, 0, 0, 0, 0xffff, _, _] | [0x64, 0xff9b, 0, 0, 0, 0, _, _] => last.into(),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 || low > 1 => last.into(),
        _ => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_reaches_what_its_policy_says_and_never_the_node() {
        let policy = |mode| Policy {
            mode,
            node: ["10.1.2.3", "2001:db8::3"].map(|ip| ip.parse().expect("an address")).into(),
            allowed: ["127.0.0.1:6443", "0.0.0.0:6444"].map(|a| a.parse().expect("an address")).into(),
        };
        // address, what all says, what cluster says
        let rows = [
            ("8.8.8.8:53", None, Some(Why::Outside)),
            ("10.1.2.4:80", None, Some(Why::Outside)),
            ("[2001:db8::4]:80", None, Some(Why::Outside)),
            ("127.0.0.1:6443", None, None),
            ("10.1.2.3:6444", None, None),
            ("10.1.2.4:6444", None, Some(Why::Outside)),
            ("127.0.0.1:6442", Some(Why::Node), Some(Why::Node)),
            ("127.9.9.9:80", Some(Why::Node), Some(Why::Node)),
            ("10.1.2.3:22", Some(Why::Node), Some(Why::Node)),
            ("[2001:db8::3]:22", Some(Why::Node), Some(Why::Node)),
            ("[::1]:22", Some(Why::Node), Some(Why::Node)),
            ("[::ffff:127.0.0.1]:22", Some(Why::Node), Some(Why::Node)),
            ("[::127.0.0.1]:22", Some(Why::Node), Some(Why::Node)),
            ("[64:ff9b::169.254.169.254]:80", Some(Why::Metadata), Some(Why::Metadata)),
            ("169.254.169.254:80", Some(Why::Metadata), Some(Why::Metadata)),
            ("[fe80::1]:80", Some(Why::Metadata), Some(Why::Metadata)),
            ("[fd00:ec2::254]:80", Some(Why::Metadata), Some(Why::Metadata)),
            ("100.100.100.200:80", Some(Why::Metadata), Some(Why::Metadata)),
            ("0.0.0.0:22", Some(Why::NotOneMachine), Some(Why::NotOneMachine)),
            ("[::]:22", Some(Why::NotOneMachine), Some(Why::NotOneMachine)),
            ("255.255.255.255:9", Some(Why::NotOneMachine), Some(Why::NotOneMachine)),
            ("224.0.0.1:9", Some(Why::NotOneMachine), Some(Why::NotOneMachine)),
            ("[ff02::1]:9", Some(Why::NotOneMachine), Some(Why::NotOneMachine)),
        ];
        for (address, all, cluster) in rows {
            let address: SocketAddr = address.parse().expect("an address");
            for (mode, expected) in [(Mode::All, all), (Mode::Cluster, cluster), (Mode::None, Some(Why::NoNetwork))] {
                let why = egress(&policy(mode), address.ip(), address.port()).err().map(|denied| denied.why);
                assert_eq!(why, expected, "{address} {mode:?}");
            }
        }
    }

    #[test]
    fn a_wrong_annotation_is_named() {
        let expected = "annotation skiff.dev/network: \"some\" is none of none, cluster, all";
        assert_eq!("some".parse::<Mode>(), Err(expected.to_owned()));
    }
}
