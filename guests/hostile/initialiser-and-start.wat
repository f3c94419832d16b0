;; Its start function and its initialiser both count; the start function must not run again in every item.
;; Exits with 1 unless each ran once.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (global $count (mut i32) (i32.const 0))
  (func $first (global.set $count (i32.add (global.get $count) (i32.const 1))))
  (start $first)
  (func (export "wizer.initialize") (global.set $count (i32.add (global.get $count) (i32.const 10))))
  (func (export "_start")
    (if (i32.ne (global.get $count) (i32.const 11)) (then (call $proc_exit (i32.const 1))))))
