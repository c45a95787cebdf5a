;; Prints each environment variable on a line of its own, as NAME=VALUE.
(module
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  ;; 32: a newline; 256: the addresses; 16384: the texts, each with a zero at its end.
  (memory (export "memory") 4)
  (data (i32.const 32) "\n")
  (func $print (param $text i32)
    (local $end i32)
    (local.set $end (local.get $text))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (i32.load8_u (local.get $end))))
        (local.set $end (i32.add (local.get $end) (i32.const 1)))
        (br $next)))
    ;; The text and the newline, each its own write: a write takes the first buffer only.
    (call $write (local.get $text) (i32.sub (local.get $end) (local.get $text)))
    (call $write (i32.const 32) (i32.const 1)))
  (func $write (param $address i32) (param $length i32)
    (i32.store (i32.const 8) (local.get $address))
    (i32.store (i32.const 12) (local.get $length))
    (drop (call $fd_write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 16))))
  (func (export "_start")
    (local $index i32)
    (drop (call $sizes_get (i32.const 0) (i32.const 4)))
    (drop (call $get (i32.const 256) (i32.const 16384)))
    (local.set $index (i32.const 0))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $index) (i32.load (i32.const 0))))
        (call $print (i32.load (i32.add (i32.const 256) (i32.mul (local.get $index) (i32.const 4)))))
        (local.set $index (i32.add (local.get $index) (i32.const 1)))
        (br $next)))))
