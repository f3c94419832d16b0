;; Opens paths of four thousand slashes, dots and names without end.
(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (memory.fill (i32.const 0) (i32.const 47) (i32.const 4096))
    (i32.store8 (i32.const 0) (i32.const 46))
    (loop $more
      (drop (call $path_open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 4096) (i32.const 0)
        (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 8192)))
      (br $more))))
