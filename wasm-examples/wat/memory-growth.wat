;; Takes 64 KiB of memory after the other and writes to each, until it gets no more: OOMKilled at its limit.
(module
  (memory (export "memory") 1)
  (func (export "_start")
    (local $page i32)
    (loop $again
      (local.set $page (memory.grow (i32.const 1)))
      ;; -1: refused, by the module's own maximum or the address space.
      (if (i32.eq (local.get $page) (i32.const -1)) (then (unreachable)))
      (i32.store (i32.mul (local.get $page) (i32.const 65536)) (i32.const 1))
      (br $again))))
