//! kube::Client over two transports, shared caches, events, leader election
