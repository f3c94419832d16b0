;; Reads nothing from standard input without end: no buffers, and buffers of no length.
(module
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (loop $more
      (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 16384)))
      (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1024) (i32.const 16384)))
      (br $more))))
