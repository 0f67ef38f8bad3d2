//! Tables for people.

use nvme_spec::Shown;

/// Columns as wide as their widest cell.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub fn new(headings: &[&str]) -> Table {
        Table { rows: vec![headings.iter().map(|h| h.to_string()).collect()] }
    }

    /// Adds a row. Cells often hold names that others have chosen.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| Shown(&cell).to_string()).collect());
    }

    /// The lines of the table.
    pub fn lines(&self) -> Vec<String> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        self.rows.iter().map(line).collect()
    }

    /// Prints it, the headings also of an empty one.
    pub fn print_bare(&self) {
        self.lines().iter().for_each(|line| crate::line!("{line}"));
    }

    /// Prints it, with an empty line after it; of an empty one nothing.
    pub fn print(&self) {
        if self.rows.len() > 1 {
            crate::line!("{}\n", self.lines().join("\n"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["a", "bb"]);
        table.row(["long".to_owned(), "x".to_owned()]);
        assert_eq!(table.lines(), ["a     bb", "long  x"]);
    }

    #[test]
    fn a_cell_stays_in_its_place() {
        let mut table = Table::new(&["host", "status"]);
        table.row(["x\nall  ok\x1b[A".to_owned(), "degraded".to_owned()]);
        assert_eq!(table.lines()[1], "x\\nall  ok\\u{1b}[A  degraded");
        assert_eq!(table.lines().len(), 2);
    }
}
