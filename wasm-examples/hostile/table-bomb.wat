;; Takes tables, which are the host's memory, until it is stopped.
(module
  (table $a 1 externref)
  (table $b 1 externref)
  (table $c 1 funcref)
  (table $d 1 funcref)
  (func (export "_start")
    (loop $again
      (drop (table.grow $a (ref.null extern) (i32.const 1000)))
      (drop (table.grow $b (ref.null extern) (i32.const 1000)))
      (drop (table.grow $c (ref.null func) (i32.const 1000)))
      (drop (table.grow $d (ref.null func) (i32.const 1000)))
      (br $again))))
