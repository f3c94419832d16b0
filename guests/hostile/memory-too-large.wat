;; Starts with all the memory that there can be.
(module
  (memory (export "memory") 65536)
  (func (export "_start")))
