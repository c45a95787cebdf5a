;; Asks for as many random bytes as it has memory, in one call, again and again.
(module
  (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
  (memory (export "memory") 1024)
  (func (export "_start")
    (loop $again
      (br_if $again (i32.eqz (call $random_get (i32.const 0) (i32.const 67108864)))))
    unreachable))
