;; Does what its arguments say, for exec: `read PATH`, `write PATH TEXT`, `sleep`, `input` (copies stdin to stdout),
;; `quit CODE`, `args` (prints those after it), `variables` (prints the environment), `flood`, `loop`, `grow`, `trap`,
;; `both` (`out` to stdout, `err` to stderr). The first letter counts. Exits with 1 on failure, with 2 without a command.
(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_get" (func $fd_prestat_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_dir_name" (func $fd_prestat_dir_name (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $environ_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  ;; 0: results; 16: a buffer's address and length; 24: a preopen's kind and length; 32: the opened file;
  ;; 256: the arguments' addresses; 1024: a preopen's name; 2048: the arguments; 8192: what is read;
  ;; 65536: the variables' addresses; 81920: the variables; 48: texts.
  (memory (export "memory") 4)
  (data (i32.const 48) "\nout\nerr\n")
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
    (func $print (param $fd i32) (param $address i32) (param $length i32)
    (call $buffer (local.get $address) (local.get $length))
    (drop (call $fd_write (local.get $fd) (i32.const 16) (i32.const 1) (i32.const 4))))
  (func $print_line (param $text i32)
    (call $print (i32.const 1) (local.get $text) (call $length (local.get $text)))
    (call $print (i32.const 1) (i32.const 48) (i32.const 1)))
  (func $print_args
    (local $index i32)
    (local.set $index (i32.const 2))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $index) (i32.load (i32.const 0))))
        (call $print_line (call $argument (local.get $index)))
        ;; The results of the print are at 4: the count at 0 is still there.
        (local.set $index (i32.add (local.get $index) (i32.const 1)))
        (br $next))))
  (func $print_variables
    (local $at i32) (local $end i32)
    (drop (call $environ_sizes_get (i32.const 8) (i32.const 12)))
    (drop (call $environ_get (i32.const 65536) (i32.const 81920)))
    (local.set $at (i32.const 65536))
    (local.set $end (i32.add (i32.const 65536) (i32.mul (i32.load (i32.const 8)) (i32.const 4))))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
        (call $print_line (i32.load (local.get $at)))
        (local.set $at (i32.add (local.get $at) (i32.const 4)))
        (br $next))))
  (func $copy_input
    (block $done
      (loop $next
        (call $buffer (i32.const 8192) (i32.const 4096))
        (br_if $done (call $fd_read (i32.const 0) (i32.const 16) (i32.const 1) (i32.const 0)))
        (br_if $done (i32.eqz (i32.load (i32.const 0))))
        (call $print (i32.const 1) (i32.const 8192) (i32.load (i32.const 0)))
        (br $next))))
  (func $flood
    (memory.fill (i32.const 8192) (i32.const 120) (i32.const 4096))
    (i32.store8 (i32.const 12287) (i32.const 10))
    (loop $again
      (call $print (i32.const 1) (i32.const 8192) (i32.const 4096))
      (br $again)))
  ;; One subscription at 8192: a monotonic clock, relative, an hour.
  (func $sleep
    (memory.fill (i32.const 8192) (i32.const 0) (i32.const 128))
    (i32.store (i32.const 8208) (i32.const 1))
    (i64.store (i32.const 8216) (i64.const 3600000000000))
    (loop $again
      (drop (call $poll_oneoff (i32.const 8192) (i32.const 8448) (i32.const 1) (i32.const 8)))
      (br $again)))
  (func $grow
    (local $page i32)
    (loop $again
      (local.set $page (memory.grow (i32.const 1)))
      (if (i32.eq (local.get $page) (i32.const -1)) (then (unreachable)))
      (i32.store (i32.mul (local.get $page) (i32.const 65536)) (i32.const 1))
      (br $again)))
  ;; The second argument as a decimal number.
  (func $number (result i32)
    (local $at i32) (local $value i32) (local $digit i32)
    (local.set $at (call $argument (i32.const 2)))
    (loop $next
      (local.set $digit (i32.sub (i32.load8_u (local.get $at)) (i32.const 48)))
      (if (i32.lt_u (local.get $digit) (i32.const 10))
        (then
          (local.set $value (i32.add (i32.mul (local.get $value) (i32.const 10)) (local.get $digit)))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (br $next))))
    (local.get $value))
  (func (export "_start")
    (local $command i32)
    (drop (call $args_sizes_get (i32.const 0) (i32.const 4)))
    (if (i32.lt_u (i32.load (i32.const 0)) (i32.const 2)) (then (call $proc_exit (i32.const 2))))
    (drop (call $args_get (i32.const 256) (i32.const 2048)))
    (local.set $command (i32.load8_u (call $argument (i32.const 1))))
    (if (i32.eq (local.get $command) (i32.const 114)) (then (call $read)))
    (if (i32.eq (local.get $command) (i32.const 119)) (then (call $write)))
    (if (i32.eq (local.get $command) (i32.const 115)) (then (call $sleep)))
    (if (i32.eq (local.get $command) (i32.const 105)) (then (call $copy_input)))
    (if (i32.eq (local.get $command) (i32.const 113)) (then (call $proc_exit (call $number))))
    (if (i32.eq (local.get $command) (i32.const 97)) (then (call $print_args)))
    (if (i32.eq (local.get $command) (i32.const 118)) (then (call $print_variables)))
    (if (i32.eq (local.get $command) (i32.const 102)) (then (call $flood)))
    (if (i32.eq (local.get $command) (i32.const 108)) (then (loop $again (br $again))))
    (if (i32.eq (local.get $command) (i32.const 103)) (then (call $grow)))
    (if (i32.eq (local.get $command) (i32.const 116)) (then (unreachable)))
    (if (i32.eq (local.get $command) (i32.const 98))
      (then
        (call $print (i32.const 1) (i32.const 49) (i32.const 4))
        (call $print (i32.const 2) (i32.const 53) (i32.const 4))))))
