//! Numbers as people say them.

/// A number of things: `1 volume`, `2 volumes`.
pub fn count(number: usize, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!((count(1, "host"), count(0, "host")), ("1 host".into(), "0 hosts".into()));
    }
}
