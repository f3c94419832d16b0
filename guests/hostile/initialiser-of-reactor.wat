;; It has what a reactor is initialised by, under a type that cannot be called.
(module
  (memory (export "memory") 1)
  (func (export "_initialize") (param i32))
  (func (export "wizer.initialize"))
  (func (export "_start")))
