//! What the machine has and how it is doing, as the operating system tells it. What it does not tell is left out.

use std::path::Path;

use k8s_openapi::api::core::v1::NodeSystemInfo;

/// Less available memory than this is memory pressure: the kubelet's default.
const MEMORY_BYTES_MIN: u64 = 100 << 20;
/// Less free disk than this share is disk pressure: the kubelet's default.
const DISK_FREE_PERCENT_MIN: u64 = 10;

pub fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// `MemTotal` or `MemAvailable`, in bytes.
fn memory(field: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|l| l.starts_with(field))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

pub fn memory_bytes() -> Option<u64> {
    memory("MemTotal:")
}

/// Total and free bytes of the file system that a path is on.
pub fn disk_bytes(path: &Path) -> Option<(u64, u64)> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some((stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize))
}

/// What the node is short of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    pub memory: bool,
    pub disk: bool,
    pub pids: bool,
}

pub fn pressure(data_dir: &Path) -> Pressure {
    let disk = disk_bytes(data_dir);
    Pressure {
        memory: memory("MemAvailable:").is_some_and(|m| m < MEMORY_BYTES_MIN),
        disk: disk.is_some_and(|(total, free)| free < total / 100 * DISK_FREE_PERCENT_MIN),
        pids: pids_short().unwrap_or(false),
    }
}

/// Fewer than a tenth of the process ids are left.
fn pids_short() -> Option<bool> {
    let max: u64 = read("/proc/sys/kernel/pid_max")?.parse().ok()?;
    let load = read("/proc/loadavg")?;
    let tasks: u64 = load.split_whitespace().nth(3)?.split('/').nth(1)?.parse().ok()?;
    Some(tasks > max / 10 * 9)
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|s| s.trim().to_owned())
}

/// As Kubernetes names architectures and operating systems.
pub fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

pub fn os() -> &'static str {
    match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    }
}

pub fn info(runtime_version: String) -> NodeSystemInfo {
    let release = read("/etc/os-release").unwrap_or_default();
    let pretty = release.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="));
    let machine_id = read("/etc/machine-id").unwrap_or_default();
    NodeSystemInfo {
        architecture: arch().to_owned(),
        boot_id: read("/proc/sys/kernel/random/boot_id").unwrap_or_default(),
        container_runtime_version: runtime_version,
        kernel_version: read("/proc/sys/kernel/osrelease").unwrap_or_default(),
        kube_proxy_version: String::new(),
        kubelet_version: skiff_api::GIT_VERSION.to_owned(),
        operating_system: os().to_owned(),
        os_image: pretty.map_or_else(String::new, |p| p.trim_matches('"').to_owned()),
        system_uuid: machine_id.clone(),
        machine_id,
        ..NodeSystemInfo::default()
    }
}
