;; Its initialiser takes all memory and writes to all of it what does not compress, so that the snapshot is as large
;; as can be.
(module
  (memory (export "memory") 1)
  (func (export "wizer.initialize") (local $at i32) (local $x i64)
    (drop (memory.grow (i32.const 255)))
    (local.set $x (i64.const 88172645463325252))
    (loop $more
      (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 13))))
      (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 7))))
      (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 17))))
      (i64.store (local.get $at) (local.get $x))
      (br_if $more (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const 16777216)))))
  (func (export "_start")))
