;; Never finishes to initialise.
(module
  (memory (export "memory") 1)
  (func (export "wizer.initialize") (loop $ever (br $ever)))
  (func (export "_start")))
