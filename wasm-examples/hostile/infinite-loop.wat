;; Computes for ever, without a call and without a look at the clock.
(module
  (func (export "_start")
    (loop $again
      (br $again))))
