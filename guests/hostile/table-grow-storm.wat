;; Grows a table until it may grow no more, and goes on.
(module
  (memory (export "memory") 1)
  (table $t 0 funcref)
  (func (export "_start")
    (loop $more
      (drop (table.grow $t (ref.null func) (i32.const 100000)))
      (drop (table.grow $t (ref.null func) (i32.const -1)))
      (br $more))))
