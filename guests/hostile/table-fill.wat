;; Starts with as large tables as its memory limit of 16 MiB allows, fills them, in every item, and then wants more: of
;; memory and of tables, which are counted together.
(module
  (memory (export "memory") 1)
  (table $t0 1000000 funcref)
  (table $t1 1000000 funcref)
  (elem declare func $f)
  (func $f)
  (func $refused (param i32)
    (if (i32.ne (local.get 0) (i32.const -1)) (then unreachable)))
  (func (export "_start")
    (table.fill $t0 (i32.const 0) (ref.func $f) (i32.const 1000000))
    (table.fill $t1 (i32.const 0) (ref.func $f) (i32.const 1000000))
    ;; 65,536 and 16,000,000 bytes are taken, so 711,680 are left: 10 pages.
    (call $refused (memory.grow (i32.const 11)))
    (if (i32.ne (memory.grow (i32.const 10)) (i32.const 1)) (then unreachable))
    (call $refused (memory.grow (i32.const 1)))))
