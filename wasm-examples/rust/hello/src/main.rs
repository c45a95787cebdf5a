//! Says hello, with its arguments and the pod it runs in when the manifest tells it (`POD_NAME`).

fn main() {
    let pod = std::env::var("POD_NAME").unwrap_or_else(|_| "somewhere".into());
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.is_empty() {
        true => println!("hello from {pod}"),
        false => println!("hello from {pod}: {}", args.join(" ")),
    }
}
