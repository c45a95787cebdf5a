;; Waits for a million things at once, again and again.
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2048)
  (func (export "_start")
    (local $at i32)
    ;; A clock, relative, an hour from now: 48 bytes each.
    (loop $next
      (i32.store (i32.add (local.get $at) (i32.const 16)) (i32.const 1))
      (i64.store (i32.add (local.get $at) (i32.const 24)) (i64.const 3600000000000))
      (local.set $at (i32.add (local.get $at) (i32.const 48)))
      (br_if $next (i32.lt_u (local.get $at) (i32.const 48000000))))
    (loop $again
      (drop (call $poll_oneoff (i32.const 0) (i32.const 64000000) (i32.const 1000000) (i32.const 127000000)))
      (br $again))))
