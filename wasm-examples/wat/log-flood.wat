;; Prints lines of 64 bytes as fast as it can, for ever: for the rotation of logs.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "The quick brown fox jumps over the lazy dog, again and again ..\n")
  (func (export "_start")
    (local $line i32)
    ;; 4096 bytes of lines for each call.
    (loop $fill
      (memory.copy (i32.add (i32.const 1024) (i32.mul (local.get $line) (i32.const 64))) (i32.const 64) (i32.const 64))
      (local.set $line (i32.add (local.get $line) (i32.const 1)))
      (br_if $fill (i32.lt_u (local.get $line) (i32.const 64))))
    (i32.store (i32.const 0) (i32.const 1024))
    (i32.store (i32.const 4) (i32.const 4096))
    (loop $again
      (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
      (br $again))))
