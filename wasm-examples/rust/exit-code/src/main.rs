//! Ends with the exit code that its first argument names (default 0), after saying so on stderr.

fn main() {
    let code = match std::env::args().nth(1).map(|text| text.parse::<i32>()) {
        None => 0,
        Some(Ok(code)) => code,
        Some(Err(e)) => {
            eprintln!("usage: exit-code [NUMBER]: {e}");
            2
        }
    };
    eprintln!("exiting with {code}");
    std::process::exit(code)
}
