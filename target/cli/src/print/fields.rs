//! One object, field by field.

use nvme_spec::Shown;

/// Names and values below each other.
#[derive(Default)]
pub struct Fields {
    lines: Vec<(&'static str, String)>,
}

impl Fields {
    /// Adds a field.
    pub fn add(&mut self, name: &'static str, value: impl ToString) {
        self.lines.push((name, Shown(&value.to_string()).to_string()));
    }

    /// Adds a field that may have no value.
    pub fn add_if(&mut self, name: &'static str, value: &Option<impl ToString>) {
        if let Some(value) = value {
            self.add(name, value.to_string());
        }
    }

    /// Adds a list: one name, a line for each.
    pub fn add_all<T: ToString>(&mut self, name: &'static str, values: &[T]) {
        for (place, value) in values.iter().enumerate() {
            self.add(if place == 0 { name } else { "" }, value.to_string());
        }
    }

    /// The lines.
    pub fn lines(&self) -> Vec<String> {
        let width = self.lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        self.lines.iter().map(|(name, value)| format!("{name:<width$}  {value}")).collect()
    }

    /// Prints them.
    pub fn print(&self) {
        for line in self.lines() {
            crate::line!("{}", line.trim_end());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_line_up() {
        let mut fields = Fields::default();
        fields.add("name", "tank");
        fields.add_if("origin", &None::<String>);
        fields.add_all("hosts", &["a", "b\nname   x"]);
        assert_eq!(fields.lines(), ["name   tank", "hosts  a", "       b\\nname   x"]);
    }
}
