;; Reads or writes a file of a volume: `read PATH` prints it, `write PATH TEXT` makes it anew, `follow PATH` prints it
;; whenever it has changed ("gone" while it cannot be opened), for ever. Exits with 1 on failure.
(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_get" (func $fd_prestat_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_dir_name" (func $fd_prestat_dir_name (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  ;; 0: results; 16: a buffer's address and length; 24: a preopen's kind and length; 32: the opened file;
  ;; 64: what a sleep waits for; 160: "gone"; 256: the arguments' addresses; 1024: a preopen's name; 2048: the arguments;
  ;; 8192: what is read; 16384: what was printed last.
  (memory (export "memory") 1)
  (func $argument (param $index i32) (result i32)
    (i32.load (i32.add (i32.const 256) (i32.mul (local.get $index) (i32.const 4)))))
  (func $length (param $text i32) (result i32)
    (local $end i32)
    (local.set $end (local.get $text))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (i32.load8_u (local.get $end))))
        (local.set $end (i32.add (local.get $end) (i32.const 1)))
        (br $next)))
    (i32.sub (local.get $end) (local.get $text)))
  ;; How many bytes of the path the directory at 1024 covers, with the slash after it; 0 if the path is not in it.
  (func $covers (param $path i32) (param $name_length i32) (result i32)
    (local $index i32)
    (block $matches
      (loop $next
        (br_if $matches (i32.ge_u (local.get $index) (local.get $name_length)))
        (if (i32.ne
              (i32.load8_u (i32.add (i32.const 1024) (local.get $index)))
              (i32.load8_u (i32.add (local.get $path) (local.get $index))))
          (then (return (i32.const 0))))
        (local.set $index (i32.add (local.get $index) (i32.const 1)))
        (br $next)))
    (if (i32.eq (local.get $name_length) (i32.const 1)) (then (return (i32.const 1))))
    (if (i32.ne (i32.load8_u (i32.add (local.get $path) (local.get $name_length))) (i32.const 47))
      (then (return (i32.const 0))))
    (i32.add (local.get $name_length) (i32.const 1)))
  ;; Opens the path below the preopened directory that covers most of it; gives the error number.
  (func $open (param $path i32) (param $flags i32) (param $rights i64) (result i32)
    (local $fd i32) (local $best i32) (local $best_fd i32) (local $covered i32)
    (local.set $fd (i32.const 3))
    (block $done
      (loop $next
        (br_if $done (call $fd_prestat_get (local.get $fd) (i32.const 24)))
        (drop (call $fd_prestat_dir_name (local.get $fd) (i32.const 1024) (i32.load (i32.const 28))))
        (local.set $covered (call $covers (local.get $path) (i32.load (i32.const 28))))
        (if (i32.gt_u (local.get $covered) (local.get $best))
          (then
            (local.set $best (local.get $covered))
            (local.set $best_fd (local.get $fd))))
        (local.set $fd (i32.add (local.get $fd) (i32.const 1)))
        (br $next)))
    (if (i32.eqz (local.get $best)) (then (return (i32.const 44))))
    (local.set $path (i32.add (local.get $path) (local.get $best)))
    (call $path_open (local.get $best_fd) (i32.const 1) (local.get $path) (call $length (local.get $path))
      (local.get $flags) (local.get $rights) (i64.const 0) (i32.const 0) (i32.const 32)))
  (func $buffer (param $address i32) (param $length i32)
    (i32.store (i32.const 16) (local.get $address))
    (i32.store (i32.const 20) (local.get $length)))
  (func $read
    (if (call $open (call $argument (i32.const 2)) (i32.const 0) (i64.const 2)) (then (call $proc_exit (i32.const 1))))
    (block $done
      (loop $next
        (call $buffer (i32.const 8192) (i32.const 4096))
        (br_if $done (call $fd_read (i32.load (i32.const 32)) (i32.const 16) (i32.const 1) (i32.const 0)))
        (br_if $done (i32.eqz (i32.load (i32.const 0))))
        (call $buffer (i32.const 8192) (i32.load (i32.const 0)))
        (drop (call $fd_write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 4)))
        (br $next))))
  ;; Created if it is not there (1), emptied if it is (8).
  (func $write
    (local $text i32)
    (if (call $open (call $argument (i32.const 2)) (i32.const 9) (i64.const 64)) (then (call $proc_exit (i32.const 1))))
    (local.set $text (call $argument (i32.const 3)))
    (call $buffer (local.get $text) (call $length (local.get $text)))
    (if (call $fd_write (i32.load (i32.const 32)) (i32.const 16) (i32.const 1) (i32.const 4))
      (then (call $proc_exit (i32.const 1)))))
  (data (i32.const 160) "gone\0a")
  (func $same (param $length i32) (result i32)
    (local $index i32)
    (block $differs
      (loop $next
        (if (i32.ge_u (local.get $index) (local.get $length)) (then (return (i32.const 1))))
        (br_if $differs (i32.ne
          (i32.load8_u (i32.add (i32.const 8192) (local.get $index)))
          (i32.load8_u (i32.add (i32.const 16384) (local.get $index)))))
        (local.set $index (i32.add (local.get $index) (i32.const 1)))
        (br $next)))
    (i32.const 0))
  ;; One subscription: a monotonic clock, relative, 20 ms.
  (func $sleep
    (memory.fill (i32.const 64) (i32.const 0) (i32.const 96))
    (i32.store (i32.const 80) (i32.const 1))
    (i64.store (i32.const 88) (i64.const 20000000))
    (drop (call $poll_oneoff (i32.const 64) (i32.const 112) (i32.const 1) (i32.const 144))))
  (func $follow
    (local $length i32) (local $last i32)
    (local.set $last (i32.const -1))
    (loop $again
      (if (call $open (call $argument (i32.const 2)) (i32.const 0) (i64.const 2))
        (then
          (memory.copy (i32.const 8192) (i32.const 160) (i32.const 5))
          (local.set $length (i32.const 5)))
        (else
          (call $buffer (i32.const 8192) (i32.const 4096))
          (if (call $fd_read (i32.load (i32.const 32)) (i32.const 16) (i32.const 1) (i32.const 0))
            (then (call $proc_exit (i32.const 1))))
          (local.set $length (i32.load (i32.const 0)))
          (drop (call $fd_close (i32.load (i32.const 32))))))
      (if (i32.or (i32.ne (local.get $length) (local.get $last)) (i32.eqz (call $same (local.get $length))))
        (then
          (local.set $last (local.get $length))
          (memory.copy (i32.const 16384) (i32.const 8192) (local.get $length))
          (call $buffer (i32.const 8192) (local.get $length))
          (drop (call $fd_write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 4)))
          ;; A line that is not ended would not be in the log.
          (call $buffer (i32.const 164) (i32.const 1))
          (if (i32.and (i32.ne (local.get $length) (i32.const 0))
                (i32.ne (i32.load8_u (i32.add (i32.const 8191) (local.get $length))) (i32.const 10)))
            (then (drop (call $fd_write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 4)))))))
      (call $sleep)
      (br $again)))
  (func (export "_start")
    (drop (call $args_sizes_get (i32.const 0) (i32.const 4)))
    (if (i32.lt_u (i32.load (i32.const 0)) (i32.const 3)) (then (call $proc_exit (i32.const 2))))
    (drop (call $args_get (i32.const 256) (i32.const 2048)))
    (if (i32.eq (i32.load8_u (call $argument (i32.const 1))) (i32.const 102)) (then (call $follow)))
    (if (i32.eq (i32.load8_u (call $argument (i32.const 1))) (i32.const 114))
      (then (call $read))
      (else (call $write)))))
