//! `fuzz_loader SECONDS [SEED]`: hostile modules, image layouts and manifests for as long as asked. Writes the first input that
//! panics or takes too long to a file and exits with 1.

#![allow(clippy::print_stdout, reason = "a tool that prints")]

use std::time::{Duration, Instant};

use skiff_runtime_wasm::fuzzing;

fn main() -> std::process::ExitCode {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<u64>());
    let (Some(Ok(seconds)), seed) = (args.next(), args.next()) else {
        eprintln!("usage: fuzz_loader SECONDS [SEED]");
        return 2.into();
    };
    let seed = seed.and_then(Result::ok).unwrap_or_else(|| u64::from(std::process::id()));
    let begin = Instant::now();
    let mut said = begin;
    let result = fuzzing::run(seed, |totals| {
        if said.elapsed() > Duration::from_secs(10) {
            said = Instant::now();
            eprintln!(
                "{:>4} s  {} inputs, {} accepted, slowest {:?}",
                begin.elapsed().as_secs(),
                totals.inputs,
                totals.accepted,
                totals.slowest
            );
        }
        begin.elapsed().as_secs() < seconds
    });
    match result {
        Ok(totals) => {
            println!(
                "{} inputs, {} accepted, slowest {:?}, seed {seed}",
                totals.inputs, totals.accepted, totals.slowest
            );
            0.into()
        }
        Err(finding) => {
            let path = format!("fuzz-{:?}-{}.bin", finding.target, finding.seed);
            println!("{:?}, seed {}: {}; the input is in {path}", finding.target, finding.seed, finding.what);
            if let Err(error) = std::fs::write(&path, &finding.input) {
                eprintln!("{path} not written: {error}");
            }
            1.into()
        }
    }
}
