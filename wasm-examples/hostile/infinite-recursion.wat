;; Calls itself until there is no stack.
(module
  (func $deeper (export "_start")
    (call $deeper)
    (call $deeper)))
