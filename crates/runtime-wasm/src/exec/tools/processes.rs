//! `@env`, `@ps` and `@top`.

use std::{
    collections::HashMap,
    io::{self, Write as _},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::Job;
use crate::{exec::table::PID_MAIN, limits::Usage};

/// What one look at the processor's use covers where `@top` looks once.
const LOOK: Duration = Duration::from_millis(500);
/// Between two looks on a terminal.
const REFRESH: Duration = Duration::from_secs(2);
/// Of a line of output without a terminal's width.
const WIDTH: usize = 200;

pub fn env(job: &mut Job) -> io::Result<i32> {
    let container = job.container.clone();
    for (name, value) in &container.extra.env {
        writeln!(job.out, "{name}={value}")?;
    }
    Ok(0)
}

struct Row {
    pid: u32,
    command: String,
    started: Option<Timestamp>,
    usage: Arc<Usage>,
}

fn rows(job: &Job) -> Vec<Row> {
    let process = &job.container.extra;
    let main = Row {
        pid: PID_MAIN,
        command: command(&process.args),
        started: job.container.status().started,
        usage: process.usage_main.clone(),
    };
    let others = process.processes.list().into_iter().map(|entry| Row {
        pid: entry.pid,
        command: command(&entry.args),
        started: Some(entry.started),
        usage: entry.usage.clone(),
    });
    std::iter::once(main).chain(others).collect()
}

fn command(args: &[String]) -> String {
    let text = args.join(" ");
    text.chars().map(|c| if c.is_control() { '?' } else { c }).take(WIDTH).collect()
}

/// `1:02.34`, minutes and seconds.
fn cpu(nanos: u64) -> String {
    let hundredths = nanos / 10_000_000;
    format!("{}:{:02}.{:02}", hundredths / 6000, hundredths / 100 % 60, hundredths % 100)
}

fn memory(bytes: u64) -> String {
    match bytes {
        0..0x2_8000 => format!("{bytes}"),
        0x2_8000..0xA00_0000 => format!("{}Ki", bytes >> 10),
        _ => format!("{}Mi", bytes >> 20),
    }
}

fn print(job: &mut Job, lines: &[String]) -> io::Result<()> {
    let width = job.entry.size.get().map_or(usize::MAX, |size| usize::from(size.width));
    let mut text = String::new();
    for line in lines {
        text.extend(line.chars().take(width));
        text.push('\n');
    }
    job.out.write_all(text.as_bytes())
}

pub fn ps(job: &mut Job) -> io::Result<i32> {
    let mut lines = vec![format!("{:>5} {:19} {:>9} {:>8} COMMAND", "PID", "STARTED", "CPU", "MEMORY")];
    for row in rows(job) {
        let started = row.started.map_or_else(String::new, |time| time.strftime("%F %T").to_string());
        let nanos = row.usage.cpu_nanos.load(Ordering::Relaxed);
        let bytes = row.usage.memory_bytes.load(Ordering::Relaxed);
        let (cpu, memory) = (cpu(nanos), memory(bytes));
        lines.push(format!("{:>5} {started:19} {cpu:>9} {memory:>8} {}", row.pid, row.command));
    }
    print(job, &lines)?;
    Ok(0)
}

pub fn top(job: &mut Job) -> io::Result<i32> {
    loop {
        let before: HashMap<u32, u64> =
            rows(job).iter().map(|row| (row.pid, row.usage.cpu_nanos.load(Ordering::Relaxed))).collect();
        let start = Instant::now();
        let ended = job.cancel.wait(if job.tty { REFRESH } else { LOOK });
        if ended {
            return Ok(0);
        }
        let lines = look(job, &before, start.elapsed());
        if job.tty {
            // To the upper left corner, and the rest of the screen empty.
            job.out.write_all(b"\x1b[H\x1b[J")?;
        }
        print(job, &lines)?;
        if !job.tty {
            return Ok(0);
        }
    }
}

fn look(job: &Job, before: &HashMap<u32, u64>, time: Duration) -> Vec<String> {
    let process = &job.container.extra;
    let resources = &job.container.config.resources;
    let limit =
        |text: Option<String>| text.map_or_else(|| "no limit of its own".to_owned(), |text| format!("of {text}"));
    let used = process.usage.memory_bytes.load(Ordering::Relaxed);
    let peak = process.usage.memory_bytes_peak.load(Ordering::Relaxed);
    let total = process.usage.cpu_nanos.load(Ordering::Relaxed);
    let mut lines = vec![
        format!("memory {} ({}), peak {}", memory(used), limit(resources.memory_bytes_max.map(memory)), memory(peak)),
        format!("cpu    {} ({})", cpu(total), limit(resources.cpu_millis_max.map(|millis| format!("{millis}m")))),
        String::new(),
        format!("{:>5} {:>6} {:>9} {:>8} COMMAND", "PID", "CPU(m)", "TIME", "MEMORY"),
    ];
    for row in rows(job) {
        let nanos = row.usage.cpu_nanos.load(Ordering::Relaxed);
        let since = nanos - before.get(&row.pid).copied().unwrap_or(nanos).min(nanos);
        let millis = u128::from(since) * 1000 / time.as_nanos().max(1);
        let bytes = memory(row.usage.memory_bytes.load(Ordering::Relaxed));
        lines.push(format!("{:>5} {millis:>6} {:>9} {bytes:>8} {}", row.pid, cpu(nanos), row.command));
    }
    lines
}
