//! The benchmark harness: the ceiling, Forebay, medians of ratios.
