//! Image references as Kubernetes users write them, made canonical: `docker.io/library/nginx:latest`.
//!
//! The grammar is the distribution specification's: `[HOST[:PORT]/]PATH[:TAG][@DIGEST]`. A first component is a
//! host only if it holds a dot or a colon or is `localhost`; otherwise the host is docker.io, and a lone name
//! is under `library/`. With neither tag nor digest the tag is `latest`.

use std::fmt;

use crate::{Error, Result};

/// A parsed, canonical reference.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    pub host: String,
    /// Under the host: `library/nginx`.
    pub path: String,
    pub tag: Option<String>,
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: Option<String>,
}

impl Reference {
    /// # Errors
    /// [`Error::InvalidImageName`], with the reason.
    pub fn parse(name: &str) -> Result<Self> {
        parse(name).map_err(|reason| Error::InvalidImageName { name: name.to_owned(), reason: reason.to_owned() })
    }

    /// `HOST/PATH`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.host, self.path)
    }

    /// `HOST/PATH:TAG`, if it has a tag.
    pub fn tagged(&self) -> Option<String> {
        self.tag.as_ref().map(|tag| format!("{}/{}:{tag}", self.host, self.path))
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

fn parse(name: &str) -> Result<Reference, &'static str> {
    if name.is_empty() {
        return Err("it is empty");
    }
    let (rest, digest) = match name.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (name, None),
    };
    if digest.is_some_and(|digest| !digest_valid(digest)) {
        return Err("the digest must be sha256: and 64 lower-case hexadecimal digits");
    }
    let (rest, tag) = match rest.rsplit_once(':') {
        Some((rest, tag)) if !tag.contains('/') => (rest, Some(tag)),
        _ => (rest, None),
    };
    if tag.is_some_and(|tag| !tag_valid(tag)) {
        return Err("the tag must be 1 to 128 letters, digits, '_', '.' or '-', and not begin with '.' or '-'");
    }
    let (host, path) = match rest.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (host, path.to_owned()),
        Some(_) => ("docker.io", rest.to_owned()),
        None => ("docker.io", format!("library/{rest}")),
    };
    let host = if host == "index.docker.io" { "docker.io" } else { host };
    let path = if host == "docker.io" && !path.contains('/') { format!("library/{path}") } else { path };
    if !host_valid(host) {
        return Err("the registry must be a host name with an optional port");
    }
    if path.len() + host.len() + 1 > 255 {
        return Err("the repository name must not be longer than 255 characters");
    }
    if !path.split('/').all(component_valid) {
        return Err("the repository must be lower-case letters and digits, with '.', '_' or '-' between them");
    }
    let tag = match (tag, digest) {
        (None, None) => Some("latest".to_owned()),
        (tag, _) => tag.map(str::to_owned),
    };
    Ok(Reference { host: host.to_owned(), path, tag, digest: digest.map(str::to_owned) })
}

/// Whether this is `sha256:` and 64 lower-case hexadecimal digits.
pub fn digest_valid(digest: &str) -> bool {
    digest
        .strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
}

fn tag_valid(tag: &str) -> bool {
    (1..=128).contains(&tag.len())
        && !tag.starts_with(['.', '-'])
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

fn host_valid(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (host, None),
    };
    let port_valid = port.is_none_or(|port| port.parse::<u16>().is_ok());
    port_valid
        && name.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn component_valid(component: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    if !word(*first) || !word(*last) {
        return false;
    }
    bytes
        .split(|b| word(*b))
        .all(|separator| matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_become_canonical() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        let rows = [
            ("nginx", "docker.io/library/nginx:latest".to_owned()),
            ("nginx:1.27", "docker.io/library/nginx:1.27".to_owned()),
            ("docker.io/nginx", "docker.io/library/nginx:latest".to_owned()),
            ("index.docker.io/a/b", "docker.io/a/b:latest".to_owned()),
            ("user/app", "docker.io/user/app:latest".to_owned()),
            ("localhost/hello:latest", "localhost/hello:latest".to_owned()),
            ("localhost:5000/hello", "localhost:5000/hello:latest".to_owned()),
            ("ghcr.io/a/b/c:v1.0_x-y", "ghcr.io/a/b/c:v1.0_x-y".to_owned()),
            ("a__b/c--d.e", "docker.io/a__b/c--d.e:latest".to_owned()),
            (&format!("nginx@{digest}"), format!("docker.io/library/nginx@{digest}")),
            (&format!("nginx:1@{digest}"), format!("docker.io/library/nginx:1@{digest}")),
        ];
        for (given, canonical) in rows {
            let parsed = Reference::parse(given).unwrap_or_else(|error| panic!("{given}: {error}"));
            assert_eq!(parsed.to_string(), canonical, "{given}");
            assert_eq!(Reference::parse(&canonical).unwrap(), parsed, "canonical forms parse to themselves");
        }
    }

    #[test]
    fn wrong_references_are_refused() {
        let rows = [
            "",
            "UPPER",
            "a b",
            "a/",
            "/a",
            "a//b",
            "a:",
            ":tag",
            "a:-x",
            "a..b",
            "a___b",
            "-a",
            "a-",
            "a@sha256:12",
            "a@md5:00",
            "ex ample.com/a",
            "example.com:99999999/a",
            "a:tag:tag",
            "http://example.com/a",
            "a\u{e9}",
        ];
        for given in rows {
            let result = Reference::parse(given);
            assert!(matches!(result, Err(Error::InvalidImageName { .. })), "{given:?} gave {result:?}");
        }
    }
}
