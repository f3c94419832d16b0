;; Exports no `_start`, so it is no command: refused when it is submitted.
(module (memory (export "memory") 1) (func (export "run")))
