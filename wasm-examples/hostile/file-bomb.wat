;; Makes empty files, each with a name of its own, until that is refused; then exits with the error number.
(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 32) "aaaaaa")
  (func (export "_start")
    (local $error i32) (local $count i32) (local $rest i32) (local $at i32)
    (loop $again
      ;; The count in letters, six of them.
      (local.set $rest (local.get $count))
      (local.set $at (i32.const 32))
      (loop $letter
        (i32.store8 (local.get $at) (i32.add (i32.const 97) (i32.rem_u (local.get $rest) (i32.const 26))))
        (local.set $rest (i32.div_u (local.get $rest) (i32.const 26)))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br_if $letter (i32.lt_u (local.get $at) (i32.const 38))))
      (local.set $count (i32.add (local.get $count) (i32.const 1)))
      (local.set $error (call $path_open (i32.const 3) (i32.const 0) (i32.const 32) (i32.const 6) (i32.const 1)
        (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 16)))
      (if (i32.eqz (local.get $error)) (then (drop (call $fd_close (i32.load (i32.const 16))))))
      (br_if $again (i32.eqz (local.get $error))))
    (call $proc_exit (local.get $error))))
