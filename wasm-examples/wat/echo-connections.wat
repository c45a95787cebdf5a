;; Accepts on the socket that it was given (descriptor 3), one connection after the other, and sends what it gets back, each to its
;; end. Ends with 1 if it cannot accept.
(module
  (import "wasi_snapshot_preview1" "sock_accept" (func $sock_accept (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_shutdown" (func $sock_shutdown (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  ;; 0: the connection; 8: a buffer's address and length; 16: how much was read or written; 1024: what was read.
  (memory (export "memory") 2)
  (func $buffer (param $address i32) (param $length i32)
    (i32.store (i32.const 8) (local.get $address))
    (i32.store (i32.const 12) (local.get $length)))
  ;; Whether all of it was sent.
  (func $send (param $length i32) (result i32)
    (local $at i32)
    (local.set $at (i32.const 1024))
    (loop $more
      (call $buffer (local.get $at) (local.get $length))
      (if (call $fd_write (i32.load (i32.const 0)) (i32.const 8) (i32.const 1) (i32.const 16))
        (then (return (i32.const 0))))
      (local.set $at (i32.add (local.get $at) (i32.load (i32.const 16))))
      (local.set $length (i32.sub (local.get $length) (i32.load (i32.const 16))))
      (br_if $more (local.get $length)))
    (i32.const 1))
  (func $serve
    (loop $next
      (call $buffer (i32.const 1024) (i32.const 65536))
      (if (call $fd_read (i32.load (i32.const 0)) (i32.const 8) (i32.const 1) (i32.const 16)) (then (return)))
      (if (i32.eqz (i32.load (i32.const 16))) (then (return)))
      (br_if $next (call $send (i32.load (i32.const 16))))))
  (func (export "_start")
    (loop $again
      (if (call $sock_accept (i32.const 3) (i32.const 0) (i32.const 0)) (then (call $proc_exit (i32.const 1))))
      (call $serve)
      (drop (call $sock_shutdown (i32.load (i32.const 0)) (i32.const 2)))
      (drop (call $fd_close (i32.load (i32.const 0))))
      (br $again))))
