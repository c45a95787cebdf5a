//! The node agent: sync loop, pod workers, volumes, images, status, the kubelet HTTP server
