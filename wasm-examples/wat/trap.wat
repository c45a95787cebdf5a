;; Ends by a fault, two calls deep: the termination message shows the trap and the names of the functions.
(module
  (func $innermost (unreachable))
  (func $middle (call $innermost))
  (func $start (export "_start") (call $middle)))
