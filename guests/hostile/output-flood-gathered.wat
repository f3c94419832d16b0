;; Writes all of its memory a thousand times in one call.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 64)
  (func (export "_start") (local $at i32)
    (loop $more
      (i32.store (local.get $at) (i32.const 0))
      (i32.store offset=4 (local.get $at) (i32.const 4194304))
      (br_if $more (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const 8000))))
    (loop $again
      (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1000) (i32.const 8000)))
      (br $again))))
