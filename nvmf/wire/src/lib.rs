//! NVMe over Fabrics on the wire: PDUs, capsules, fabrics commands, discovery log, digests. Sans-I/O.
