;; Reads a byte of a blob without end: each time a system call.
(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_pread" (func $fd_pread (param i32 i32 i32 i64 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\10\00\00\00\01\00\00\00blob")
  (func (export "_start")
    (drop (call $path_open (i32.const 3) (i32.const 0) (i32.const 8) (i32.const 4) (i32.const 0)
      (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 32)))
    (loop $more
      (drop (call $fd_pread (i32.load (i32.const 32)) (i32.const 0) (i32.const 1) (i64.const 3) (i32.const 40)))
      (br $more))))
