//! What the machine has and how it is doing, as the operating system tells it. What it does not tell is left out.

use std::path::Path;

use k8s_openapi::api::core::v1::NodeSystemInfo;

/// Less available memory than this is memory pressure: the kubelet's default.
const MEMORY_BYTES_MIN: u64 = 100 << 20;
/// Disk pressure: less free than this share, which is the kubelet's default, and less than this many bytes. A developer's
/// large disk that is nine tenths full has room enough for modules of a few megabytes.
const DISK_FREE_PERCENT_MIN: u64 = 10;
const DISK_FREE_BYTES_MIN: u64 = 512 << 20;

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

/// What is not available for more.
pub fn memory_bytes_used() -> Option<u64> {
    memory("MemTotal:")?.checked_sub(memory("MemAvailable:")?)
}

/// CPU time that all processors together were busy for since the start of the system.
pub fn cpu_nanos() -> Option<u64> {
    busy_nanos(&read("/proc/stat")?)
}

fn busy_nanos(stat: &str) -> Option<u64> {
    /// Linux counts these in hundredths of a second on every architecture that we run on.
    const NANOS_PER_TICK: u64 = 10_000_000;
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    // user nice system idle iowait irq softirq steal; guests are counted in user.
    let ticks: Vec<u64> = line.split_whitespace().take(8).map_while(|word| word.parse().ok()).collect();
    let idle: u64 = ticks.get(3..5)?.iter().sum();
    Some((ticks.iter().sum::<u64>() - idle) * NANOS_PER_TICK)
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
        disk: disk.is_some_and(|(total, free)| disk_short(total, free)),
        pids: pids_short().unwrap_or(false),
    }
}

fn disk_short(total: u64, free: u64) -> bool {
    free < total / 100 * DISK_FREE_PERCENT_MIN && free < DISK_FREE_BYTES_MIN
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

#[cfg(test)]
mod tests {
    #[test]
    fn idle_processors_are_not_busy() {
        let stat = "cpu  10 1 4 1000 50 0 5 2 7 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(super::busy_nanos(stat), Some(22 * 10_000_000));
        assert_eq!(super::busy_nanos("intr 1"), None);
    }

    #[test]
    fn a_disk_is_short_when_little_is_left_of_it() {
        const GIB: u64 = 1 << 30;
        for (total, free, expected) in [(100, 20, false), (100, 5, false), (1000, 1, false)] {
            assert_eq!(super::disk_short(total * GIB, free * GIB), expected, "{free} of {total} GiB");
        }
        assert!(super::disk_short(10 * GIB, GIB / 4));
        assert!(!super::disk_short(GIB, GIB / 4), "a small disk with a quarter free");
    }
}
