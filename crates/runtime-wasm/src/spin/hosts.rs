//! Whom a Spin component may send requests to: its `allowed_outbound_hosts`. What the list does not name is denied, whatever
//! the pod's own policy would allow; what it names, the pod's policy is asked about as well.

use std::net::Ipv4Addr;

/// The rules of one component.
#[derive(Clone, Debug, Default)]
pub struct Hosts(Vec<Rule>);

#[derive(Clone, Debug)]
struct Rule {
    /// None: any.
    scheme: Option<String>,
    host: Host,
    /// First and last.
    ports: (u16, u16),
}

#[derive(Clone, Debug)]
enum Host {
    Any,
    /// A domain's subdomains: `.example.com`.
    Below(String),
    Name(String),
    Network(Ipv4Addr, u8),
}

impl Hosts {
    /// # Errors
    /// Which entry cannot be read.
    pub fn parse(entries: &[String]) -> Result<Self, String> {
        let wrong = |entry: &str| {
            format!(
                "allowed_outbound_hosts: {entry:?} is not SCHEME://HOST[:PORT] (\"https://*.example.com\", \"*://*:*\")"
            )
        };
        let rules = entries.iter().map(|entry| Rule::parse(entry).ok_or_else(|| wrong(entry)));
        rules.collect::<Result<_, _>>().map(Self)
    }

    /// As it was written before Spin 2: a host without a scheme, or everything.
    pub fn of_http(host: &str) -> Vec<String> {
        if host == "insecure:allow-all" {
            return vec!["*://*:*".to_owned()];
        }
        if host.contains("://") {
            return vec![host.to_owned()];
        }
        vec![format!("http://{host}"), format!("https://{host}")]
    }

    pub fn allow(&self, scheme: &str, host: &str, port: u16) -> bool {
        self.0.iter().any(|rule| rule.allows(scheme, host, port))
    }

    /// Whether it may use sockets of its own, which no scheme tells apart.
    pub fn allow_sockets(&self) -> bool {
        self.0.iter().any(|rule| rule.scheme.is_none() && matches!(rule.host, Host::Any) && rule.ports == (0, u16::MAX))
    }
}

impl Rule {
    fn parse(entry: &str) -> Option<Self> {
        let (scheme, rest) = entry.trim().trim_end_matches('/').split_once("://")?;
        let (host, port) = rest.rsplit_once(':').map_or((rest, None), |(host, port)| (host, Some(port)));
        let ports = match (port, scheme) {
            (Some("*"), _) => (0, u16::MAX),
            (Some(range), _) if range.contains("..") => {
                let (first, last) = range.split_once("..")?;
                (first.parse().ok()?, last.parse().ok()?)
            }
            (Some(port), _) => port.parse().map(|port| (port, port)).ok()?,
            (None, "http") => (80, 80),
            (None, "https") => (443, 443),
            (None, "postgres" | "mysql" | "redis" | "mqtt" | "rediss" | "mqtts") => (0, u16::MAX),
            (None, _) => return None,
        };
        let host = match host {
            "" => return None,
            "*" => Host::Any,
            host => match (host.strip_prefix('*'), host.split_once('/')) {
                (Some(below), _) if below.starts_with('.') => Host::Below(below.to_ascii_lowercase()),
                (Some(_), _) => return None,
                (None, Some((network, bits))) => {
                    Host::Network(network.parse().ok()?, bits.parse().ok().filter(|bits| *bits <= 32)?)
                }
                (None, None) if host.chars().all(|c| c.is_ascii_alphanumeric() || "-._[]:".contains(c)) => {
                    Host::Name(host.trim_matches(['[', ']']).to_ascii_lowercase())
                }
                (None, None) => return None,
            },
        };
        Some(Self { scheme: (scheme != "*").then(|| scheme.to_ascii_lowercase()), host, ports })
    }

    fn allows(&self, scheme: &str, host: &str, port: u16) -> bool {
        let host = host.to_ascii_lowercase();
        let named = match &self.host {
            Host::Any => true,
            Host::Below(domain) => host.ends_with(domain.as_str()) && host.len() > domain.len(),
            Host::Name(name) => *name == host,
            Host::Network(network, bits) => host.parse::<Ipv4Addr>().is_ok_and(|address| {
                let mask = u32::MAX.checked_shl(32 - u32::from(*bits)).unwrap_or(0);
                u32::from(address) & mask == u32::from(*network) & mask
            }),
        };
        named && self.scheme.as_deref().is_none_or(|own| own == scheme) && (self.ports.0..=self.ports.1).contains(&port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_is_denied() {
        let hosts = |list: &[&str]| Hosts::parse(&list.iter().map(|&e| e.to_owned()).collect::<Vec<_>>());
        let some = hosts(&[
            "https://a.test",
            "http://*.b.test:8080",
            "*://c.test:*",
            "http://10.1.0.0/16:80",
            "http://d.test:8000..8010",
        ]);
        let some = some.expect("is correct");
        for (scheme, host, port, expected) in [
            ("https", "a.test", 443, true),
            ("https", "A.test", 443, true),
            ("http", "a.test", 443, false),
            ("https", "a.test", 8443, false),
            ("https", "x.a.test", 443, false),
            ("http", "x.b.test", 8080, true),
            ("http", "b.test", 8080, false),
            ("http", "c.test", 1, true),
            ("http", "10.1.200.3", 80, true),
            ("http", "10.2.0.1", 80, false),
            ("http", "d.test", 8005, true),
            ("http", "d.test", 8011, false),
        ] {
            assert_eq!(some.allow(scheme, host, port), expected, "{scheme}://{host}:{port}");
        }
        assert!(!some.allow_sockets() && !Hosts::default().allow("http", "a.test", 80));
        let all = hosts(&["*://*:*"]).expect("is correct");
        assert!(all.allow_sockets() && all.allow("http", "anything", 1));
        for wrong in
            ["a.test", "ftp://a", "https://", "https://a*.test", "https://a:x", "http://a b", "http://10.0.0.0/33"]
        {
            assert!(hosts(&[wrong]).is_err(), "{wrong}");
        }
    }
}
