;; Sleeps for as many milliseconds as the first argument says, or for ever without one, using no processor time.
(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  ;; The first argument as a decimal number, 0 if there is none.
  (func $number (result i32)
    (local $at i32) (local $value i32) (local $digit i32)
    (drop (call $args_sizes_get (i32.const 0) (i32.const 4)))
    (if (i32.lt_u (i32.load (i32.const 0)) (i32.const 2)) (then (return (i32.const 0))))
    (drop (call $args_get (i32.const 256) (i32.const 2048)))
    (local.set $at (i32.load (i32.const 260)))
    (loop $next
      (local.set $digit (i32.sub (i32.load8_u (local.get $at)) (i32.const 48)))
      (if (i32.lt_u (local.get $digit) (i32.const 10))
        (then
          (local.set $value (i32.add (i32.mul (local.get $value) (i32.const 10)) (local.get $digit)))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (br $next))))
    (local.get $value))
  ;; One subscription at 0 (48 bytes, zero but for these): a monotonic clock, relative, in nanoseconds.
  (func $sleep (param $millis i32)
    (memory.fill (i32.const 0) (i32.const 0) (i32.const 128))
    (i32.store (i32.const 16) (i32.const 1))
    (i64.store (i32.const 24) (i64.mul (i64.extend_i32_u (local.get $millis)) (i64.const 1000000)))
    (drop (call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 100))))
  (func (export "_start")
    (local $millis i32)
    (local.set $millis (call $number))
    (if (local.get $millis) (then (call $sleep (local.get $millis)) (return)))
    (loop $again
      (call $sleep (i32.const 3600000))
      (br $again))))
