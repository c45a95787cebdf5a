;; Bulk operations that cannot be interrupted, as large as its memory, one after another.
(module
  (memory (export "memory") 1024)
  (func (export "_start")
    (loop $again
      (memory.fill (i32.const 0) (i32.const 120) (i32.const 67108864))
      (memory.copy (i32.const 33554432) (i32.const 0) (i32.const 33554432))
      (br $again))))
