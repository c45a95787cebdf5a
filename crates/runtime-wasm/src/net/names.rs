//! Names as a pod's guests look them up: the pod's own, other pods', the API server's, and outside names by the system's
//! resolver when the pod may reach the outside. Names of Services belong in [`PodNet::known`].

use std::{
    io,
    net::{IpAddr, Ipv4Addr, ToSocketAddrs},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Semaphore, time::timeout};

use super::{PodNet, policy::Mode};

/// Look-ups of outside names at once, of all guests together: each takes a thread until the system's resolver gives up.
/// Further ones wait, and fail after [`LOOKUP_TIME_MAX`].
const LOOKUPS_MAX: usize = 16;
/// Look-ups that one pod may have under way; further ones fail at once.
const LOOKUPS_PER_POD_MAX: usize = 4;
const LOOKUP_TIME_MAX: Duration = Duration::from_secs(10);
/// Addresses that are kept of an answer.
const ADDRESSES_MAX: usize = 16;

const DOMAIN: &str = "cluster.local";

/// The API server, in full and as programs in any namespace name it.
const API_NAMES: [&str; 2] = ["kubernetes.default.svc", "kubernetes.default"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupError {
    /// No name.
    Invalid,
    Unknown,
    /// The pod has no network, or none outside.
    Denied,
    /// Too slow, or too many at once.
    Temporary,
}

impl From<LookupError> for io::Error {
    fn from(error: LookupError) -> Self {
        match error {
            LookupError::Invalid => io::ErrorKind::InvalidInput.into(),
            LookupError::Unknown => Self::new(io::ErrorKind::NotFound, "no such host"),
            LookupError::Denied => io::ErrorKind::PermissionDenied.into(),
            LookupError::Temporary => io::ErrorKind::TimedOut.into(),
        }
    }
}

/// What look-ups of outside names share.
pub struct Resolver(Arc<Semaphore>);

impl Default for Resolver {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LOOKUPS_MAX)))
    }
}

/// Counts a look-up of a pod while it lives.
struct UnderWay(Arc<AtomicUsize>);

impl UnderWay {
    fn new(count: &Arc<AtomicUsize>) -> Option<Self> {
        let under_way = Self(count.clone());
        (count.fetch_add(1, Ordering::Relaxed) < LOOKUPS_PER_POD_MAX).then_some(under_way)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl PodNet {
    /// The addresses of a name, or of an address written as one.
    ///
    /// # Errors
    /// Why there are none.
    pub async fn lookup(&self, name: &str) -> Result<Vec<IpAddr>, LookupError> {
        if let Some(known) = self.known(name) {
            return known;
        }
        let name = canonical(name)?;
        let under_way = UnderWay::new(&self.lookups).ok_or(LookupError::Temporary)?;
        let resolver = self.network().resolver.0.clone();
        let asked = async {
            let permit = resolver.acquire_owned().await.map_err(|_| LookupError::Temporary)?;
            // Nobody can interrupt the system's resolver: what counts it stays with it.
            let ask = move || {
                let _counted = (permit, under_way);
                let found = (name.as_str(), 0).to_socket_addrs();
                found.map(|all| all.map(|a| a.ip().to_canonical()).take(ADDRESSES_MAX).collect())
            };
            let found = tokio::task::spawn_blocking(ask).await.map_err(|_| LookupError::Temporary)?;
            found.map_err(|_| LookupError::Unknown)
        };
        timeout(LOOKUP_TIME_MAX, asked).await.unwrap_or(Err(LookupError::Temporary))
    }

    /// What is known without asking anybody. `None`: the system's resolver has to be asked.
    pub fn known(&self, name: &str) -> Option<Result<Vec<IpAddr>, LookupError>> {
        let facts = self.facts();
        if facts.mode == Mode::None {
            return Some(Err(LookupError::Denied));
        }
        if let Ok(ip) = name.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Some(Ok(vec![ip]));
        }
        let name = match canonical(name) {
            Ok(name) => name,
            Err(error) => return Some(Err(error)),
        };
        let inside = name.strip_suffix(DOMAIN).and_then(|name| name.strip_suffix('.'));
        let short = inside.unwrap_or(&name);
        let found = |ip: Ipv4Addr| Some(Ok(vec![IpAddr::V4(ip)]));
        if name == "localhost" || name.ends_with(".localhost") {
            return found(Ipv4Addr::LOCALHOST);
        }
        if name == facts.hostname.to_ascii_lowercase() {
            return found(self.ip());
        }
        if let Some(ip) = pod_name(short) {
            return if self.network().has(ip) { found(ip) } else { Some(Err(LookupError::Unknown)) };
        }
        if API_NAMES.contains(&short) || (short == "kubernetes" && facts.namespace == "default") {
            let service = self.network().api_service();
            return Some(service.map(|ip| vec![ip]).ok_or(LookupError::Unknown));
        }
        // Other names of the cluster, and what has no dot, are nobody's outside.
        if inside.is_some() || name == DOMAIN || name.ends_with(".svc") || !name.contains('.') {
            return Some(Err(LookupError::Unknown));
        }
        (facts.mode != Mode::All).then_some(Err(LookupError::Denied))
    }
}

/// In lower case and ASCII, without the dot at the end.
fn canonical(name: &str) -> Result<String, LookupError> {
    match url::Host::parse(name.strip_suffix('.').unwrap_or(name)) {
        Ok(url::Host::Domain(name)) if !name.is_empty() && name.len() <= 253 => Ok(name),
        // `1.2` and the like, which URLs take for addresses.
        _ => Err(LookupError::Invalid),
    }
}

/// `127-1-0-5.NAMESPACE.pod` → 127.1.0.5
fn pod_name(name: &str) -> Option<Ipv4Addr> {
    let (address, rest) = name.split_once('.')?;
    let namespace = rest.strip_suffix(".pod")?;
    if namespace.is_empty() || namespace.contains('.') {
        return None;
    }
    address.replace('-', ".").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Network, PodFacts},
        *,
    };

    #[tokio::test]
    async fn names_of_the_cluster_are_known_and_others_asked_for_only_when_the_pod_may() {
        let network = Network::open().expect("a block is free");
        network.publish_api("10.96.0.1:443".parse().expect("one"), "127.0.0.1:6443".parse().expect("one"));
        let join = |mode| {
            let facts = PodFacts { namespace: "default".to_owned(), hostname: "web-1".to_owned(), mode };
            network.join(facts).expect("free")
        };
        let pod = join(Mode::Cluster);
        let dashed = pod.ip().to_string().replace('.', "-");
        let ip = |text: &str| Ok(vec![text.parse::<IpAddr>().expect("an address")]);
        let own = Ok(vec![IpAddr::V4(pod.ip())]);
        let rows = [
            ("localhost", ip("127.0.0.1")),
            ("LocalHost.", ip("127.0.0.1")),
            ("web-1", own.clone()),
            (&format!("{dashed}.ns.pod"), own.clone()),
            (&format!("{dashed}.ns.pod.cluster.local"), own),
            ("10-1-2-3.ns.pod.cluster.local", Err(LookupError::Unknown)),
            ("kubernetes.default.svc.cluster.local", ip("10.96.0.1")),
            ("kubernetes", ip("10.96.0.1")),
            ("db.prod.svc.cluster.local", Err(LookupError::Unknown)),
            ("db", Err(LookupError::Unknown)),
            ("192.0.2.7", ip("192.0.2.7")),
            ("2001:db8::1", ip("2001:db8::1")),
            ("", Err(LookupError::Invalid)),
            ("a b", Err(LookupError::Invalid)),
            ("example.com", Err(LookupError::Denied)),
        ];
        for (name, expected) in rows {
            assert_eq!(pod.lookup(name).await, expected, "{name:?}");
        }
        assert_eq!(join(Mode::None).lookup("localhost").await, Err(LookupError::Denied));
        assert_eq!(join(Mode::All).known("example.com"), None);
    }
}
