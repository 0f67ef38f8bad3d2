//! Deterministic simulation of one node.
