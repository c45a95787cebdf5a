//! The syntax of names, labels, ports and keys. Each function returns what is wrong with a value, in the words that
//! clients know from upstream; no message means that it is right.
//!
//! These run on every write, so they look at bytes and allocate only when something is wrong.

pub const DNS_LABEL_MAX: usize = 63;
pub const DNS_SUBDOMAIN_MAX: usize = 253;

const DNS_LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const DNS_SUBDOMAIN: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const QUALIFIED: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

/// `text (e.g. 'a',  or 'b', regex used for validation is '…')`.
fn pattern(text: &str, regex: &str, examples: &[&str]) -> String {
    let examples: Vec<String> = examples.iter().map(|e| format!("'{e}', ")).collect();
    format!("{text} (e.g. {}regex used for validation is '{regex}')", examples.join(" or "))
}

pub fn too_long(max: usize) -> String {
    format!("must be no more than {max} characters")
}

pub fn in_range(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

fn lower(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

/// Starts and ends with `edge`, and only `inner` between; not empty.
fn shaped(s: &[u8], edge: fn(u8) -> bool, inner: fn(u8) -> bool) -> bool {
    match s {
        [] => false,
        [only] => edge(*only),
        [first, middle @ .., last] => edge(*first) && edge(*last) && middle.iter().all(|b| inner(*b)),
    }
}

fn is_label_shape(s: &str) -> bool {
    shaped(s.as_bytes(), lower, |b| lower(b) || b == b'-')
}

fn is_subdomain_shape(s: &str) -> bool {
    !s.is_empty() && s.split('.').all(is_label_shape)
}

/// RFC 1123 label: a pod's container, a volume, a namespace.
pub fn dns_label(s: &str) -> Vec<String> {
    let mut out = Vec::new();
    if s.len() > DNS_LABEL_MAX {
        out.push(too_long(DNS_LABEL_MAX));
    }
    if !is_label_shape(s) {
        if is_subdomain_shape(s) {
            out.push("must not contain dots".to_owned());
        } else {
            out.push(pattern(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
                 and end with an alphanumeric character",
                DNS_LABEL,
                &["my-name", "123-abc"],
            ));
        }
    }
    out
}

/// RFC 1123 subdomain: the name of most objects.
pub fn dns_subdomain(s: &str) -> Vec<String> {
    let mut out = Vec::new();
    if s.len() > DNS_SUBDOMAIN_MAX {
        out.push(too_long(DNS_SUBDOMAIN_MAX));
    }
    if !is_subdomain_shape(s) {
        out.push(pattern(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
             start and end with an alphanumeric character",
            DNS_SUBDOMAIN,
            &["example.com"],
        ));
    }
    out
}

/// RFC 1035 label: starts with a letter.
pub fn dns_1035_label(s: &str) -> Vec<String> {
    let mut out = Vec::new();
    if s.len() > DNS_LABEL_MAX {
        out.push(too_long(DNS_LABEL_MAX));
    }
    if !(is_label_shape(s) && s.as_bytes()[0].is_ascii_lowercase()) {
        out.push(pattern(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
             character, and end with an alphanumeric character",
            "[a-z]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "abc-123"],
        ));
    }
    out
}

/// `*.example.com`.
pub fn wildcard_subdomain(s: &str) -> Vec<String> {
    let mut out = Vec::new();
    if s.len() > DNS_SUBDOMAIN_MAX {
        out.push(too_long(DNS_SUBDOMAIN_MAX));
    }
    if !s.strip_prefix("*.").is_some_and(is_subdomain_shape) {
        out.push(pattern(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist \
             of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
            &format!(r"\*\.{DNS_SUBDOMAIN}"),
            &["*.example.com"],
        ));
    }
    out
}

fn qualified_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')
}

fn is_qualified_shape(s: &str) -> bool {
    shaped(s.as_bytes(), |b| b.is_ascii_alphanumeric(), qualified_byte)
}

const QUALIFIED_TEXT: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                              alphanumeric character";

/// A key of a label or an annotation, a resource name, a finalizer: `[prefix/]name`.
pub fn qualified_name(s: &str) -> Vec<String> {
    let mut out = Vec::new();
    let (prefix, name) = match s.split_once('/') {
        None => (None, s),
        Some((_, name)) if name.contains('/') => {
            let text =
                pattern(&format!("a valid label key {QUALIFIED_TEXT}"), QUALIFIED, &["MyName", "my.name", "123-abc"]);
            return vec![format!("{text} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')")];
        }
        Some((prefix, name)) => (Some(prefix), name),
    };
    match prefix {
        Some("") => out.push("prefix part must be non-empty".to_owned()),
        Some(prefix) => out.extend(dns_subdomain(prefix).into_iter().map(|m| format!("prefix part {m}"))),
        None => {}
    }
    if name.is_empty() {
        out.push("name part must be non-empty".to_owned());
    } else if name.len() > DNS_LABEL_MAX {
        out.push(format!("name part {}", too_long(DNS_LABEL_MAX)));
    }
    if !is_qualified_shape(name) {
        out.push(pattern(&format!("name part {QUALIFIED_TEXT}"), QUALIFIED, &["MyName", "my.name", "123-abc"]));
    }
    out
}

pub fn label_value(s: &str) -> Vec<String> {
    let mut out = Vec::new();
    if s.len() > DNS_LABEL_MAX {
        out.push(too_long(DNS_LABEL_MAX));
    }
    if !s.is_empty() && !is_qualified_shape(s) {
        out.push(pattern(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
             start and end with an alphanumeric character",
            &format!("({QUALIFIED})?"),
            &["MyValue", "my_value", "12345"],
        ));
    }
    out
}

/// An IANA service name: the name of a container's port.
pub fn port_name(s: &str) -> Vec<String> {
    let mut out = Vec::new();
    if s.len() > 15 {
        out.push(too_long(15));
    }
    if s.is_empty() || !s.bytes().all(|b| lower(b) || b == b'-') {
        out.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !s.bytes().any(|b| b.is_ascii_lowercase()) {
        out.push("must contain at least one letter (a-z)".to_owned());
    }
    if s.contains("--") {
        out.push("must not contain consecutive hyphens".to_owned());
    }
    if s.starts_with('-') || s.ends_with('-') {
        out.push("must not begin or end with a hyphen".to_owned());
    }
    out
}

pub fn port_number(n: i64) -> Vec<String> {
    if (1..=65535).contains(&n) { Vec::new() } else { vec![in_range(1, 65535)] }
}

/// Any printable ASCII but `=`.
pub fn env_name(s: &str) -> Vec<String> {
    if s.is_empty() {
        return vec!["environment variable name must be non-empty".to_owned()];
    }
    if s.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=') {
        return Vec::new();
    }
    vec!["a valid environment variable name must consist only of printable ASCII characters other than '='".to_owned()]
}

/// A key of a ConfigMap or a Secret, which becomes a file name.
pub fn config_key(s: &str) -> Vec<String> {
    let mut out = Vec::new();
    if s.len() > DNS_SUBDOMAIN_MAX {
        out.push(too_long(DNS_SUBDOMAIN_MAX));
    }
    if s.is_empty() || !s.bytes().all(qualified_byte) {
        out.push(pattern(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    match s {
        "." => out.push("must not be '.'".to_owned()),
        ".." => out.push("must not be '..'".to_owned()),
        _ if s.starts_with("..") => out.push("must not start with '..'".to_owned()),
        _ => {}
    }
    out
}

pub fn http_header_name(s: &str) -> Vec<String> {
    if !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Vec::new();
    }
    vec![pattern(
        "a valid HTTP header must consist of alphanumeric characters or '-'",
        "[-A-Za-z0-9]+",
        &["X-Header-Name"],
    )]
}

/// `25%`.
pub fn percent(s: &str) -> Vec<String> {
    match s.strip_suffix('%') {
        Some(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => Vec::new(),
        _ => vec![pattern(
            "a valid percent string must be a numeric string followed by an ending '%'",
            "[0-9]+%",
            &["1%", "93%"],
        )],
    }
}

/// A name that becomes a segment of a path (RBAC objects): anything without `/` and `%`.
pub fn path_segment(s: &str) -> Vec<String> {
    if s == "." || s == ".." {
        return vec![format!("may not be '{s}'")];
    }
    ["/", "%"].iter().filter(|bad| s.contains(**bad)).map(|bad| format!("may not contain '{bad}'")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long(n: usize) -> String {
        "a".repeat(n)
    }

    #[test]
    fn names_that_are_right_and_wrong() {
        type Rule = fn(&str) -> Vec<String>;
        let table: &[(&str, Rule, &[&str], &[&str])] = &[
            ("label", dns_label, &["a", "0a", "a-b"], &["", "A", "-a", "a-", "a.b", "a_b", "ü"]),
            ("subdomain", dns_subdomain, &["a", "a.b", "1.2"], &["", ".", "a..b", "a.", "A.b", "a_b"]),
            ("1035", dns_1035_label, &["a", "a1"], &["", "1a", "a.b"]),
            ("wildcard", wildcard_subdomain, &["*.a"], &["a", "*", "*.", "*.*.a"]),
            ("qualified", qualified_name, &["a", "A_b.c", "x.y/Z"], &["", "/a", "a/", "a/b/c", "X/a", "-a", "a "]),
            ("value", label_value, &["", "a", "A_1.b"], &["-", "a b", "a/b", "é"]),
            ("port", port_name, &["http", "h2-c"], &["", "1", "a--b", "-a", "HTTP", "sixteen-letters-"]),
            ("env", env_name, &["A", "1 b-c.d"], &["", "a=b", "ä", "a\n"]),
            ("key", config_key, &["a", ".a", "a..b"], &["", ".", "..", "..a", "a/b"]),
            ("percent", percent, &["0%", "100%"], &["", "%", "5", "-5%", "5.5%"]),
        ];
        for (name, rule, right, wrong) in table {
            for s in *right {
                assert_eq!(rule(s), Vec::<String>::new(), "{name} {s:?}");
            }
            for s in *wrong {
                assert!(!rule(s).is_empty(), "{name} {s:?}");
            }
        }
    }

    #[test]
    fn lengths_are_limited() {
        assert!(dns_label(&long(63)).is_empty());
        assert_eq!(dns_label(&long(64)), ["must be no more than 63 characters"]);
        assert_eq!(dns_subdomain(&long(254)), ["must be no more than 253 characters"]);
        assert_eq!(qualified_name(&long(64)), ["name part must be no more than 63 characters"]);
    }

    #[test]
    fn the_words_are_upstreams() {
        assert_eq!(
            label_value("a b"),
            ["a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
              start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for \
              validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"]
        );
        assert_eq!(dns_label("a.b"), ["must not contain dots"]);
    }
}
