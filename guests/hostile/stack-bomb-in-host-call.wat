;; Recurses through a table and calls the host at every depth: the host's own stack must not be what overflows.
(module
  (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 4)
  (type $step (func (param i32) (result i32)))
  (table 1 1 funcref)
  (elem (i32.const 0) $deep)
  (func $deep (type $step)
    (drop (call $random_get (i32.const 0) (i32.const 64)))
    (drop (call $poll_oneoff (i32.const 1024) (i32.const 65536) (i32.const 1) (i32.const 0)))
    (i32.add (local.get 0)
      (call_indirect (type $step) (i32.add (local.get 0) (i32.const 1)) (i32.const 0))))
  (func (export "_start") (drop (call $deep (i32.const 0)))))
