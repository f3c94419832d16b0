;; Its data lie where an address wraps around.
(module
  (memory (export "memory") 1)
  (data (i32.const -1) "ab")
  (func (export "_start")))
