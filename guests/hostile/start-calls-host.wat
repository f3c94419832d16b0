;; Calls the host from its start function, before anything of the instance was used.
(module
  (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (func $first
    (drop (call $random_get (i32.const -1) (i32.const 100)))
    (call $proc_exit (i32.const 9)))
  (start $first)
  (func (export "_start") unreachable))
