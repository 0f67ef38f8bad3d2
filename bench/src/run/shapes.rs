//! What is measured, and what was promised about it.

use serde::Serialize;

use crate::sample::{Op, Sample, Workload};

/// How a promise is kept.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "measure", content = "bound")]
pub enum Promise {
    /// Forebay's IOPS are at least this share of the ceiling's.
    IopsShare(f64),
    /// Forebay's mean round trip is at most this multiple of the ceiling's.
    RoundTrip(f64),
    /// Forebay's bandwidth is at least this share of the ceiling's.
    BandwidthShare(f64),
}

impl Promise {
    /// The ratio of Forebay to the ceiling that the promise is about.
    #[must_use]
    pub fn ratio(self, forebay: &Sample, ceiling: &Sample) -> f64 {
        match self {
            Promise::IopsShare(_) => forebay.iops / ceiling.iops,
            Promise::RoundTrip(_) => forebay.mean_us / ceiling.mean_us,
            Promise::BandwidthShare(_) => forebay.mib_s / ceiling.mib_s,
        }
    }

    /// Whether `ratio` keeps it.
    #[must_use]
    pub fn is_kept(self, ratio: f64) -> bool {
        match self {
            Promise::IopsShare(least) | Promise::BandwidthShare(least) => ratio >= least,
            Promise::RoundTrip(most) => ratio <= most,
        }
    }

    /// The figure of a sample that the promise is about, with its unit.
    #[must_use]
    pub fn figure(self, sample: &Sample) -> (f64, &'static str) {
        match self {
            Promise::IopsShare(_) => (sample.iops / 1e3, "k/s"),
            Promise::RoundTrip(_) => (sample.mean_us, "us"),
            Promise::BandwidthShare(_) => (sample.mib_s, "MiB/s"),
        }
    }
}

impl std::fmt::Display for Promise {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Promise::IopsShare(bound) | Promise::BandwidthShare(bound) => {
                write!(f, ">= {bound:.2}")
            }
            Promise::RoundTrip(bound) => write!(f, "<= {bound:.2}"),
        }
    }
}

/// One row of the table.
#[derive(Clone, Debug)]
pub struct Shape {
    /// What is asked of both sides.
    pub workload: Workload,
    /// What was promised.
    pub promise: Promise,
    /// SPDK's ratio to a bare program of the same shape on one connection, as far as it was
    /// measured (NVMe/TCP, v26.05, another machine of the same kind).
    pub peer: Option<f64>,
}

impl Shape {
    /// A name for the row: operation, payload, depth.
    #[must_use]
    pub fn name(&self) -> String {
        let Workload { op, payload, depth, connections } = &self.workload;
        let op = match op {
            Op::Read => "read",
            Op::Write => "write",
        };
        format!("{} KiB {op} QD {depth} x{connections}", payload >> 10)
    }
}

/// Every row: 4 KiB at depths 1, 32 and 128, 128 KiB at 32, reads and writes, on one connection
/// and on four. The depth is that of each connection.
#[must_use]
pub fn all() -> Vec<Shape> {
    let mut shapes = Vec::new();
    for connections in [1, 4] {
        for op in [Op::Read, Op::Write] {
            for (payload, depth) in [(4 << 10, 1), (4 << 10, 32), (4 << 10, 128), (128 << 10, 32)] {
                let workload = Workload { op, payload, depth, connections };
                let peer = if connections == 1 { peer(&workload) } else { None };
                shapes.push(Shape { promise: promise(&workload), peer, workload });
            }
        }
    }
    shapes
}

fn promise(workload: &Workload) -> Promise {
    match workload {
        Workload { depth: 1, .. } => Promise::RoundTrip(1.10),
        Workload { payload: 4096, .. } => Promise::IopsShare(0.90),
        _ => Promise::BandwidthShare(0.95),
    }
}

fn peer(workload: &Workload) -> Option<f64> {
    match (workload.op, workload.payload, workload.depth) {
        (_, 4096, 1) => Some(1.20),
        (Op::Read, 4096, _) => Some(0.70),
        (Op::Write, 4096, 32) => Some(0.60),
        (Op::Write, 4096, 128) => Some(0.48),
        (Op::Read, ..) => Some(1.00),
        (Op::Write, ..) => None,
    }
}
