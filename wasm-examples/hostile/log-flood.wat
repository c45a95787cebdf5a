;; Prints lines of 1 KiB, 64 KiB at a time, for ever.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (func (export "_start")
    (local $at i32)
    (memory.fill (i32.const 1024) (i32.const 120) (i32.const 65536))
    (local.set $at (i32.const 2047))
    (loop $line
      (i32.store8 (local.get $at) (i32.const 10))
      (local.set $at (i32.add (local.get $at) (i32.const 1024)))
      (br_if $line (i32.lt_u (local.get $at) (i32.const 66560))))
    (i32.store (i32.const 0) (i32.const 1024))
    (i32.store (i32.const 4) (i32.const 65536))
    (loop $again
      (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
      (br $again))))
