;; Takes a name that the snapshot's own exports have.
(module
  (memory (export "memory") 1)
  (global (export "__wizer_global_0") (mut i32) (i32.const 7))
  (func (export "wizer.initialize"))
  (func (export "_start")))
