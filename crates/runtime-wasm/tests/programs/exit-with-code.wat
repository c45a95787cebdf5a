;; A component that exits with 7 (`wasi:cli/exit.exit-with-code`).
(component
  (import "wasi:cli/exit@0.2.6" (instance $exit
    (export "exit-with-code" (func (param "status-code" u8)))))
  (core func $exit-with-code (canon lower (func $exit "exit-with-code")))
  (core module $program
    (import "host" "exit" (func $exit (param i32)))
    (func (export "run") (result i32) (call $exit (i32.const 7)) (i32.const 0)))
  (core instance $program (instantiate $program (with "host" (instance (export "exit" (func $exit-with-code))))))
  (func $run (result (result)) (canon lift (core func $program "run")))
  (instance $exports (export "run" (func $run)))
  (export "wasi:cli/run@0.2.6" (instance $exports)))
