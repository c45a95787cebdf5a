;; Computes for ever and never calls the host: what a node must survive.
(module
  (func (export "_start")
    (loop $again (br $again))))
