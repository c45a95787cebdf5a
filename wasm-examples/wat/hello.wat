;; Prints one line and ends with exit code 0: the smallest useful program (WASI preview 1).
;;   skiff image load wasm-examples/wat/hello.wat        then image: localhost/hello:latest
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 32) "Hello from WebAssembly!\n")
  (func (export "_start")
    ;; One buffer: its address and its length.
    (i32.store (i32.const 0) (i32.const 32))
    (i32.store (i32.const 4) (i32.const 24))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))
