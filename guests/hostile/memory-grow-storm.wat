;; Asks for all the memory that there can be, again and again.
(module
  (memory (export "memory") 1)
  (func (export "_start")
    (loop $more
      (drop (memory.grow (i32.const 65535)))
      (drop (memory.grow (i32.const -1)))
      (br $more))))
