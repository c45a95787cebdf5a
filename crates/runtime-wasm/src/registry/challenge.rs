//! `WWW-Authenticate: Bearer realm="…",service="…"`: what a registry wants to know of who asks (RFC 9110, 11.3).

/// Parameters that are read; further ones are not.
const PARAMETERS_MAX: usize = 16;

/// One challenge.
#[derive(Debug, PartialEq, Eq)]
pub struct Challenge {
    scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, mut rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        let mut parameters = Vec::new();
        while parameters.len() < PARAMETERS_MAX {
            let Some((name, value)) = rest.split_once('=') else { break };
            let name = name.trim_matches([' ', ',']).to_ascii_lowercase();
            let value = value.trim_start();
            let (value, after) = match value.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => value.split_once(',').unwrap_or((value, "")),
            };
            parameters.push((name, value.trim().to_owned()));
            rest = after;
        }
        (!scheme.is_empty()).then(|| Self { scheme: scheme.to_ascii_lowercase(), parameters })
    }

    pub fn is(&self, scheme: &str) -> bool {
        self.scheme == scheme
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="a:b,c""#;
        for (text, scheme, realm, service) in [
            (hub, "bearer", Some("https://auth.docker.io/token"), Some("registry.docker.io")),
            ("BASIC Realm=test", "basic", Some("test"), None),
            ("Bearer realm = \"x\" , service=y", "bearer", Some("x"), Some("y")),
            ("Negotiate", "negotiate", None, None),
        ] {
            let challenge = Challenge::parse(text).expect(text);
            assert!(challenge.is(scheme), "{challenge:?}");
            assert_eq!((challenge.get("realm"), challenge.get("service")), (realm, service), "{text}");
        }
        for wrong in ["", "  ", "Bearer realm=\"never closed"] {
            assert_eq!(Challenge::parse(wrong), None, "{wrong}");
        }
        assert!(Challenge::parse(&format!("Bearer {}", "a=b,".repeat(1000))).is_some());
    }
}
