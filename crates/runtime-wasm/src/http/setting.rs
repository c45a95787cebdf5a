//! What a container says about the HTTP server that it is: its port, by the conventions of the systems that run such
//! components, and its limits, by annotations.

use std::{collections::BTreeMap, time::Duration};

/// Requests of one container at a time, unless `skiff.dev/http-concurrency` says otherwise.
pub const CONCURRENCY_DEFAULT: u32 = 256;
pub const CONCURRENCY_MAX: u32 = 10_000;
/// A request from its headers to the end of its response, unless `skiff.dev/http-timeout` says otherwise.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(300);
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);
/// Connections that wait to be accepted, unless a variable says otherwise.
pub const BACKLOG_DEFAULT: u16 = 1024;

const CONCURRENCY: &str = "skiff.dev/http-concurrency";
const TIMEOUT: &str = "skiff.dev/http-timeout";
const REUSE: &str = "skiff.dev/http-reuse";

const WASMTIME_ADDRESS: &str = "WASMTIME_HTTP_PROXY_SOCKET_ADDR";
const WASMTIME_BACKLOGS: [&str; 2] = ["WASMTIME_HTTP_PROXY_BACKLOG", "WASMTIME_HTTP_BACKLOG"];
const SPIN_ADDRESS: &str = "SPIN_HTTP_LISTEN_ADDR";
const SPIN_MEMORY: &str = "SPIN_MAX_INSTANCE_MEMORY";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub port: u16,
    pub backlog: u16,
    pub concurrency: u32,
    pub timeout: Duration,
    /// Requests that one instance answers, one after the other. With 1 every request has an instance of its own.
    pub reuse: u32,
    /// Of one instance; all together have the container's limit.
    pub instance_memory_bytes_max: Option<u64>,
}

/// Where the words come from.
pub struct Words<'a> {
    pub env: &'a [(String, String)],
    /// The container's, then the pod's.
    pub annotations: [&'a BTreeMap<String, String>; 2],
    pub ports: &'a [u16],
    /// The RuntimeClass's.
    pub handler: &'a str,
}

impl Words<'_> {
    fn variable(&self, name: &str) -> Option<&str> {
        self.env.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.trim())
    }

    fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.iter().find_map(|annotations| annotations.get(name)).map(|value| value.trim())
    }
}

impl Setting {
    /// # Errors
    /// What cannot be read, in words for the user.
    pub fn read(words: &Words<'_>) -> Result<Self, String> {
        let reuse = words.annotation(REUSE).map(|value| number(REUSE, value, 1, u32::MAX)).transpose()?.unwrap_or(1);
        let concurrency = words.annotation(CONCURRENCY).map(|value| number(CONCURRENCY, value, 1, CONCURRENCY_MAX));
        let timeout = words.annotation(TIMEOUT).map(|value| duration(TIMEOUT, value)).transpose()?;
        let memory = words.variable(SPIN_MEMORY).map(|value| number(SPIN_MEMORY, value, 1, u64::MAX)).transpose()?;
        Ok(Self {
            port: port(words)?,
            backlog: backlog(words)?,
            concurrency: concurrency.transpose()?.unwrap_or(CONCURRENCY_DEFAULT),
            timeout: timeout.unwrap_or(TIMEOUT_DEFAULT),
            reuse,
            instance_memory_bytes_max: memory,
        })
    }
}

/// Whether a variable is for the host alone, and not passed on to the guest.
pub fn for_host(name: &str) -> bool {
    name == WASMTIME_ADDRESS || WASMTIME_BACKLOGS.contains(&name)
}

/// The variables' first, then the only port that the container declares, then what its kind of server takes. The address
/// before the port is the pod's, whatever is written there.
fn port(words: &Words<'_>) -> Result<u16, String> {
    for name in [WASMTIME_ADDRESS, SPIN_ADDRESS] {
        if let Some(value) = words.variable(name) {
            let port = value.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).filter(|&port| port != 0);
            return port
                .ok_or_else(|| format!("its variable {name} is {value:?}, not ADDRESS:PORT (\"0.0.0.0:8080\")"));
        }
    }
    Ok(match words.ports {
        [port] => *port,
        _ if words.handler.contains("spin") => 80,
        _ => 8080,
    })
}

fn backlog(words: &Words<'_>) -> Result<u16, String> {
    for name in WASMTIME_BACKLOGS {
        if let Some(value) = words.variable(name) {
            return number(name, value, 1, u16::MAX);
        }
    }
    Ok(BACKLOG_DEFAULT)
}

fn number<N>(name: &str, value: &str, least: N, most: N) -> Result<N, String>
where
    N: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    let within = |number: &N| *number >= least && *number <= most;
    let read = value.parse().ok().filter(within);
    read.ok_or_else(|| format!("{name} is {value:?}, not a whole number from {least} to {most}"))
}

/// `250ms`, `30s`, `5m`, `2h`; a number alone is seconds.
fn duration(name: &str, value: &str) -> Result<Duration, String> {
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let (count, unit) = value.split_at(digits);
    let millis = match unit {
        "ms" => Some(1),
        "" | "s" => Some(1000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let read = count.parse::<u64>().ok().zip(millis).and_then(|(count, millis)| count.checked_mul(millis));
    let read = read.map(Duration::from_millis).filter(|time| !time.is_zero() && *time <= TIMEOUT_MAX);
    read.ok_or_else(|| format!("the annotation {name} is {value:?}, not a time such as \"30s\" or \"5m\", at most 24h"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(
        env: &[(&str, &str)],
        annotations: &[(&str, &str)],
        ports: &[u16],
        handler: &str,
    ) -> Result<Setting, String> {
        let own = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let annotations = own(annotations).into_iter().collect();
        let words = Words { env: &own(env), annotations: [&BTreeMap::new(), &annotations], ports, handler };
        Setting::read(&words)
    }

    #[test]
    fn the_port_is_the_variables_then_the_only_declared_one_then_the_kinds() {
        let wasmtime = (WASMTIME_ADDRESS, "0.0.0.0:3000");
        let spin = (SPIN_ADDRESS, "[::]:3001");
        type Row<'a> = (&'a [(&'a str, &'a str)], &'a [u16], &'a str, u16);
        let rows: [Row<'_>; 9] = [
            (&[], &[], "wasm", 8080),
            (&[], &[], "wasmtime", 8080),
            (&[], &[], "wasmtime-spin-v2", 80),
            (&[], &[9000], "spin", 9000),
            (&[], &[9000, 9001], "spin", 80),
            (&[], &[9000, 9001], "wasm", 8080),
            (&[wasmtime], &[9000], "wasm", 3000),
            (&[spin], &[9000], "spin", 3001),
            (&[spin, wasmtime], &[], "spin", 3000),
        ];
        for (env, ports, handler, expected) in rows {
            let setting = read(env, &[], ports, handler).expect("it is correct");
            assert_eq!(setting.port, expected, "{env:?} {ports:?} {handler}");
        }
    }

    #[test]
    fn limits_are_read_and_mistakes_are_named() {
        let annotations = [(CONCURRENCY, "7"), (TIMEOUT, "250ms"), (REUSE, "1000")];
        let setting = read(&[(SPIN_MEMORY, "1000000"), (WASMTIME_BACKLOGS[1], "5")], &annotations, &[], "");
        let setting = setting.expect("it is correct");
        assert_eq!((setting.concurrency, setting.timeout, setting.reuse), (7, Duration::from_millis(250), 1000));
        assert_eq!((setting.backlog, setting.instance_memory_bytes_max), (5, Some(1_000_000)));
        type Pairs<'a> = &'a [(&'a str, &'a str)];
        let rows: [(Pairs<'_>, Pairs<'_>); 7] = [
            (&[(WASMTIME_ADDRESS, "8080")], &[]),
            (&[(SPIN_ADDRESS, "0.0.0.0:0")], &[]),
            (&[(WASMTIME_BACKLOGS[0], "-1")], &[]),
            (&[], &[(CONCURRENCY, "0")]),
            (&[], &[(CONCURRENCY, "10001")]),
            (&[], &[(TIMEOUT, "5 minutes")]),
            (&[], &[(REUSE, "yes")]),
        ];
        for (env, annotations) in rows {
            let (name, _) = env.iter().chain(annotations).next().expect("each row has one");
            let error = read(env, annotations, &[], "").expect_err("it is not correct");
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn times_have_units() {
        let rows =
            [("30s", Some(30_000)), ("5m", Some(300_000)), ("1h", Some(3_600_000)), ("2", Some(2000)), ("", None)];
        for (text, expected) in
            rows.into_iter().chain([("0s", None), ("25h", None), ("s", None), ("99999999999h", None)])
        {
            assert_eq!(duration("x", text).ok(), expected.map(Duration::from_millis), "{text}");
        }
    }
}
