;; Takes nearly all of its 16 MiB as memory, then the rest as a table, and then one element more.
(module
  (memory (export "memory") 255)
  (table $t 0 funcref)
  (func (export "_start")
    (if (i32.ne (table.grow $t (ref.null func) (i32.const 8192)) (i32.const 0)) (then unreachable))
    (if (i32.ne (table.grow $t (ref.null func) (i32.const 1)) (i32.const -1)) (then unreachable))
    (if (i32.ne (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))))
