//! NVMe over Fabrics target: subsystem, controller, namespace, queue pair, request, discovery.
