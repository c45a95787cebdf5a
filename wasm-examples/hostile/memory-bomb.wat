;; Takes memory, touching every page of it, until it is stopped.
(module
  (memory (export "memory") 1)
  (func (export "_start")
    (local $page i32)
    (loop $again
      (local.set $page (memory.grow (i32.const 16)))
      (br_if $again (i32.eq (local.get $page) (i32.const -1)))
      (memory.fill (i32.mul (local.get $page) (i32.const 65536)) (i32.const 120) (i32.const 1048576))
      (br $again))))
