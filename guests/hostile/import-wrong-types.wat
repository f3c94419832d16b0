;; Wants functions that exist, under types that they do not have; one of them twice, once rightly.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func (param i64 i64 i64 i64) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func (param i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")))
