;; Tries to leave the last directory that it was given: by "..", by absolute paths, through links that it makes itself or that
;; it finds there (named "planted"), and by renaming a link while it is walked through. Exits with 0 if every way is shut;
;; otherwise it prints the way that was open and exits with 1.
(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_symlink" (func $path_symlink (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_link" (func $path_link (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_rename" (func $path_rename (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_create_directory" (func $path_create_directory (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_get" (func $fd_prestat_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (global $directory (mut i32) (i32.const 2))
  ;; Paths, each ended by a zero; the list by another.
  (data (i32.const 1024)
    "..\00../\00../..\00./..\00d/../..\00../../../../../../etc/passwd\00/\00/etc/passwd\00/proc/self/environ\00"
    "d/../../etc/passwd\00//etc/passwd\00planted/passwd\00planted/../..\00"
    "out\00out/passwd\00up\00up/..\00up/../..\00d/up\00proc\00proc/root\00proc/self/root/etc/passwd\00loop/x\00\00")
  (data (i32.const 512) "/etc\00..\00/proc\00loop\00/etc/passwd\00../../../../../etc\00")
  (data (i32.const 640) "out\00up\00proc\00loop\00d\00d/up\00hard\00a\00")
  (data (i32.const 760) "\0a")
  (func $length (param $text i32) (result i32)
    (local $end i32)
    (local.set $end (local.get $text))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (i32.load8_u (local.get $end))))
        (local.set $end (i32.add (local.get $end) (i32.const 1)))
        (br $next)))
    (i32.sub (local.get $end) (local.get $text)))
  (func $open_way (param $path i32)
    (i32.store (i32.const 16) (local.get $path))
    (i32.store (i32.const 20) (call $length (local.get $path)))
    (i32.store (i32.const 24) (i32.const 760))
    (i32.store (i32.const 28) (i32.const 1))
    (drop (call $fd_write (i32.const 1) (i32.const 16) (i32.const 2) (i32.const 4)))
    (drop (call $fd_write (i32.const 1) (i32.const 24) (i32.const 1) (i32.const 4)))
    (call $proc_exit (i32.const 1)))
  ;; Opens it, following links and not; neither may work.
  (func $try (param $path i32)
    (local $follow i32)
    (loop $again
      (if (i32.eqz (call $path_open (global.get $directory) (local.get $follow) (local.get $path) (call $length (local.get $path))
            (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 32)))
        (then (call $open_way (local.get $path))))
      (local.set $follow (i32.add (local.get $follow) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $follow) (i32.const 2)))))
  (func $try_all
    (local $path i32)
    (local.set $path (i32.const 1024))
    (loop $next
      (call $try (local.get $path))
      (local.set $path (i32.add (i32.add (local.get $path) (call $length (local.get $path))) (i32.const 1)))
      (br_if $next (i32.load8_u (local.get $path)))))
  (func $symlink (param $to i32) (param $at i32)
    (drop (call $path_symlink (local.get $to) (call $length (local.get $to)) (global.get $directory)
      (local.get $at) (call $length (local.get $at)))))
  (func (export "_start")
    (local $round i32)
    (loop $next
      (global.set $directory (i32.add (global.get $directory) (i32.const 1)))
      (br_if $next (i32.eqz (call $fd_prestat_get (global.get $directory) (i32.const 40)))))
    (global.set $directory (i32.sub (global.get $directory) (i32.const 1)))
    (call $try_all)
    (drop (call $path_create_directory (global.get $directory) (i32.const 657) (i32.const 1)))
    ;; out → /etc, up → .., proc → /proc, loop → loop, d/up → ../../../../../etc
    (call $symlink (i32.const 512) (i32.const 640))
    (call $symlink (i32.const 517) (i32.const 644))
    (call $symlink (i32.const 520) (i32.const 647))
    (call $symlink (i32.const 526) (i32.const 652))
    (call $symlink (i32.const 543) (i32.const 659))
    (call $try_all)
    ;; A hard link to what is outside.
    (if (i32.eqz (call $path_link (global.get $directory) (i32.const 1) (i32.const 531) (i32.const 11) (global.get $directory)
          (i32.const 664) (i32.const 4)))
      (then (call $open_way (i32.const 664))))
    ;; A directory that is renamed while it is walked through.
    (loop $again
      (drop (call $path_rename (global.get $directory) (i32.const 657) (i32.const 1) (global.get $directory) (i32.const 669) (i32.const 1)))
      (call $try_all)
      (drop (call $path_rename (global.get $directory) (i32.const 669) (i32.const 1) (global.get $directory) (i32.const 657) (i32.const 1)))
      (call $try_all)
      (local.set $round (i32.add (local.get $round) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $round) (i32.const 20))))))
