;; Calls the host as often as it can.
(module
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock_time_get (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sched_yield" (func $sched_yield (result i32)))
  (import "wasi_snapshot_preview1" "fd_filestat_get" (func $fd_filestat_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_filestat_get"
    (func $path_filestat_get (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) ".")
  (func (export "_start")
    (loop $again
      (drop (call $clock_time_get (i32.const 1) (i64.const 0) (i32.const 8)))
      (drop (call $sched_yield))
      (drop (call $fd_filestat_get (i32.const 3) (i32.const 64)))
      (drop (call $path_filestat_get (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 64)))
      (br $again))))
