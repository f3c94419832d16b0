;; Never leaves its start function, which runs before `_start` of every item.
(module
  (memory (export "memory") 1)
  (func $ever (loop $ever (br $ever)))
  (start $ever)
  (func (export "_start")))
