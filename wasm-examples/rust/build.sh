#!/bin/sh
# Builds every example and copies the modules here: preview 1 for the commands, components of 0.2 and 0.3 for the others.
# Needs the targets:  rustup target add wasm32-wasip1 wasm32-wasip2
# With `--check` it only says whether the targets are there (exit 3 when they are not).
set -eu
cd "$(dirname "$0")"
rustc=${RUSTC:-rustc}
for target in wasm32-wasip1 wasm32-wasip2; do
    if ! [ -d "$($rustc --print sysroot)/lib/rustlib/$target/lib" ]; then
        echo "the Rust target $target is not installed: rustup target add $target" >&2
        exit 3
    fi
done
[ "${1:-}" = --check ] && exit 0
out=${OUT:-.}
target=${CARGO_TARGET_DIR:-target}
cargo build --release --locked --target wasm32-wasip1 --target-dir "$target" -p hello -p counter -p ticker -p exit-code -p word-count -p listener -p table
cargo build --release --locked --target wasm32-wasip2 --target-dir "$target" -p http-hello -p http-lab -p sockets -p wasi3-net -p wasi3-http
for name in hello counter ticker exit-code word-count listener table; do cp "$target/wasm32-wasip1/release/$name.wasm" "$out/$name.wasm"; done
cp "$target/wasm32-wasip2/release/http_hello.wasm" "$out/http-hello.wasm"
cp "$target/wasm32-wasip2/release/http_lab.wasm" "$out/http-lab.wasm"
cp "$target/wasm32-wasip2/release/sockets.wasm" "$out/sockets.wasm"
cp "$target/wasm32-wasip2/release/wasi3_net.wasm" "$out/wasi3-net.wasm"
cp "$target/wasm32-wasip2/release/wasi3_http.wasm" "$out/wasi3-http.wasm"
(cd "$out" && sha256sum hello.wasm counter.wasm ticker.wasm exit-code.wasm word-count.wasm listener.wasm table.wasm http-hello.wasm sockets.wasm http-lab.wasm wasi3-net.wasm wasi3-http.wasm >SHA256SUMS)
