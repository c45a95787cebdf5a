//! Text tables as kubectl prints them: three spaces between columns, no lines.

use std::fmt::Write;

/// The narrowest cell, without the space after it: kubectl's columns are six characters or more.
pub const CELL_CHARS_MIN: usize = 3;

/// Renders a header and rows; the last column is not padded.
pub fn render(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut all = vec![header.iter().map(ToString::to_string).collect::<Vec<_>>()];
    all.extend(rows);
    let columns = all.iter().map(Vec::len).max().unwrap_or(0).max(CELL_CHARS_MIN);
    let width = |c: usize| all.iter().filter_map(|r| r.get(c)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in &all {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}   ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".to_owned(), "1".to_owned()], vec!["long-µ".to_owned(), String::new()]];
        assert_eq!(super::render(&["NAME", "N"], rows.into_iter()), "NAME     N\na        1\nlong-µ\n");
    }
}
