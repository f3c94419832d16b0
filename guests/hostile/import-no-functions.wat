;; Wants a memory, a table and a global of the host under the names of functions.
(module
  (import "wasi_snapshot_preview1" "fd_write" (memory 1))
  (import "wasi_snapshot_preview1" "fd_read" (table 1 funcref))
  (import "wasi_snapshot_preview1" "fd_close" (global (mut i32)))
  (export "memory" (memory 0))
  (func (export "_start")))
