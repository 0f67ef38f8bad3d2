//! Medians, ratios, verdicts; the table and the JSON file.

use std::fmt::{self, Write as _};

use serde::Serialize;

use super::costs::Costs;
use super::machine::Machine;
use super::shapes::{Promise, Shape};
use crate::sample::Sample;

/// Ceiling and Forebay, taken one after the other.
#[derive(Clone, Debug, Serialize)]
pub struct Pair {
    /// The ceiling.
    pub ceiling: Sample,
    /// Forebay.
    pub forebay: Sample,
}

/// A row of the table.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Operation, payload, depth, connections.
    pub name: String,
    /// What was promised.
    pub promise: Promise,
    /// SPDK's ratio, where it is known.
    pub peer: Option<f64>,
    /// Every pair taken.
    pub pairs: Vec<Pair>,
    /// Median of the ratios of the pairs.
    pub ratio: f64,
    /// Whether it keeps the promise.
    pub kept: bool,
}

impl Row {
    /// The row of `shape`; `None` where no pair was taken.
    #[must_use]
    pub fn of(shape: &Shape, pairs: &[Pair]) -> Option<Self> {
        let ratios = pairs.iter().map(|pair| shape.promise.ratio(&pair.forebay, &pair.ceiling));
        let ratio = median(ratios)?;
        Some(Self {
            name: shape.name(),
            promise: shape.promise,
            peer: shape.peer,
            pairs: pairs.to_vec(),
            ratio,
            kept: shape.promise.is_kept(ratio),
        })
    }

    fn medians(&self) -> Option<(f64, f64, &'static str)> {
        let figure = |sample: &Sample| self.promise.figure(sample).0;
        let unit = self.promise.figure(&self.pairs.first()?.forebay).1;
        let ceiling = median(self.pairs.iter().map(|pair| figure(&pair.ceiling)))?;
        let forebay = median(self.pairs.iter().map(|pair| figure(&pair.forebay)))?;
        Some((ceiling, forebay, unit))
    }
}

/// Four connections against one: both of Forebay, of the same round of the run.
#[derive(Debug, Serialize)]
pub struct Spread {
    /// Operation, payload, depth.
    pub name: String,
    /// Median of the ratios of IOPS.
    pub ratio: f64,
    /// Whether four are at least as fast as one.
    pub kept: bool,
}

/// Least ratio of the IOPS of four connections to those of one.
pub const SPREAD_PROMISE: f64 = 1.0;

impl Spread {
    /// Compares round by round; `None` without a round that has both.
    #[must_use]
    pub fn of(name: &str, one: &[Pair], four: &[Pair]) -> Option<Self> {
        let ratios = one.iter().zip(four).map(|(one, four)| four.forebay.iops / one.forebay.iops);
        let ratio = median(ratios)?;
        Some(Self { name: name.to_owned(), ratio, kept: ratio >= SPREAD_PROMISE })
    }
}

/// Everything that a run found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The conditions.
    pub machine: Machine,
    /// Seconds counted in each sample.
    pub seconds: f64,
    /// The rows.
    pub rows: Vec<Row>,
    /// Four connections against one.
    pub spread: Vec<Spread>,
    /// What an I/O, an idle target and a connection cost.
    pub costs: Costs,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.machine)?;
        writeln!(
            f,
            "{:24} {:>10} {:>10} {:6} {:>6} {:>10} {:>8} {:>6}",
            "", "ceiling", "Forebay", "", "ratio", "lo..hi", "promise", "SPDK"
        )?;
        for row in &self.rows {
            let Some((ceiling, forebay, unit)) = row.medians() else { continue };
            let promise = row.promise.to_string();
            let peer = row.peer.map_or_else(|| "-".into(), |peer| format!("{peer:.2}"));
            let verdict = verdict(row.kept);
            let ratios: Vec<f64> =
                row.pairs.iter().map(|p| row.promise.ratio(&p.forebay, &p.ceiling)).collect();
            let low = ratios.iter().copied().fold(f64::INFINITY, f64::min);
            let high = ratios.iter().copied().fold(0.0, f64::max);
            let mut range = String::new();
            write!(range, "{low:.2}..{high:.2}")?;
            writeln!(
                f,
                "{:24} {ceiling:>10.1} {forebay:>10.1} {unit:6} {:>6.2} {range:>10} {promise:>8} \
                 {peer:>6}  {verdict}",
                row.name, row.ratio
            )?;
        }
        writeln!(f, "\nForebay, four connections against one on the same core (IOPS):")?;
        for spread in &self.spread {
            let verdict = verdict(spread.kept);
            writeln!(
                f,
                "{:24} {:>6.2}  promise >= {SPREAD_PROMISE:.2}  {verdict}",
                spread.name, spread.ratio
            )?;
        }
        write!(f, "\n{}", self.costs)
    }
}

pub(super) fn verdict(kept: bool) -> &'static str {
    if kept { "PASS" } else { "MISS" }
}

/// The median; the mean of the middle two of an even number; `None` of nothing.
#[must_use]
pub fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::{Pair, Row, Spread, median};
    use crate::run::shapes::{self, Promise};
    use crate::sample::Sample;

    fn sample(iops: f64, mean_us: f64) -> Sample {
        Sample {
            ios: 1,
            seconds: 1.0,
            iops,
            mib_s: iops / 256.0,
            mean_us,
            p50_us: mean_us,
            p99_us: mean_us,
            congestion: "reno".into(),
        }
    }

    fn pair(ceiling: f64, forebay: f64) -> Pair {
        let at = |iops: f64| sample(iops, 1e6 / iops);
        Pair { ceiling: at(ceiling), forebay: at(forebay) }
    }

    #[test]
    fn medians_of_few_and_many() {
        assert_eq!(median([].into_iter()), None);
        assert_eq!(median([3.0].into_iter()), Some(3.0));
        assert_eq!(median([9.0, 1.0, 3.0].into_iter()), Some(3.0));
        assert_eq!(median([9.0, 1.0, 3.0, 5.0].into_iter()), Some(4.0));
    }

    #[test]
    fn the_ratio_is_the_median_of_ratios_not_the_ratio_of_medians() {
        let shapes = shapes::all();
        let shape = shapes.iter().find(|s| s.name() == "4 KiB read QD 32 x1").expect("a row");
        let pairs = [pair(100.0, 90.0), pair(200.0, 100.0), pair(50.0, 60.0)];
        let row = Row::of(shape, &pairs).expect("three pairs");
        assert!((row.ratio - 0.90).abs() < 1e-9);
        assert!(row.kept);
        let worse = [pair(100.0, 89.0), pair(200.0, 100.0), pair(50.0, 60.0)];
        assert!(!Row::of(shape, &worse).expect("three pairs").kept);
        assert!(Row::of(shape, &[]).is_none());
    }

    #[test]
    fn depth_one_is_judged_by_its_round_trip() {
        let shapes = shapes::all();
        let shape = shapes.iter().find(|s| s.name() == "4 KiB write QD 1 x1").expect("a row");
        assert_eq!(shape.promise, Promise::RoundTrip(1.10));
        assert!(Row::of(shape, &[pair(110.0, 101.0)]).expect("a pair").kept);
        assert!(!Row::of(shape, &[pair(110.0, 99.0)]).expect("a pair").kept);
    }

    #[test]
    fn four_connections_are_compared_with_one_of_the_same_round() {
        let one = [pair(1.0, 100.0), pair(1.0, 50.0), pair(1.0, 10.0)];
        let four = [pair(1.0, 99.0), pair(1.0, 51.0), pair(1.0, 11.0)];
        let spread = Spread::of("row", &one, &four).expect("rounds");
        assert!((spread.ratio - 1.02).abs() < 1e-9);
        assert!(spread.kept);
        assert!(!Spread::of("row", &four, &one).expect("rounds").kept);
    }

    #[test]
    fn every_row_of_the_promises_is_there_once() {
        let mut names: Vec<String> = shapes::all().iter().map(|shape| shape.name()).collect();
        assert_eq!(names.len(), 16);
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 16);
        assert!(names.contains(&"128 KiB write QD 32 x4".to_owned()));
    }
}
