;; Changes a table in its initialiser, which a snapshot does not hold.
(module
  (memory (export "memory") 1)
  (table 1 funcref)
  (func (export "wizer.initialize") (table.set (i32.const 0) (ref.null func)))
  (func (export "_start")))
