;; Writes one file in the last directory that it was given, 64 KiB at a time, until that is refused; then exits with the error number.
(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_get" (func $fd_prestat_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 2)
  (data (i32.const 32) "bomb")
  (func (export "_start")
    (local $error i32) (local $directory i32)
    (local.set $directory (i32.const 2))
    (loop $next
      (local.set $directory (i32.add (local.get $directory) (i32.const 1)))
      (br_if $next (i32.eqz (call $fd_prestat_get (local.get $directory) (i32.const 40)))))
    (local.set $directory (i32.sub (local.get $directory) (i32.const 1)))
    (memory.fill (i32.const 1024) (i32.const 120) (i32.const 65536))
    (local.set $error (call $path_open (local.get $directory) (i32.const 0) (i32.const 32) (i32.const 4) (i32.const 9)
      (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 16)))
    (if (local.get $error) (then (call $proc_exit (local.get $error))))
    (i32.store (i32.const 0) (i32.const 1024))
    (i32.store (i32.const 4) (i32.const 65536))
    (loop $again
      (local.set $error (call $fd_write (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 8)))
      (br_if $again (i32.eqz (local.get $error))))
    (call $proc_exit (local.get $error))))
