//! Aligned columns under heads.

/// A table with two spaces between columns and none at the ends of lines. Columns whose head starts
/// with `>` are right-aligned.
pub fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let right: Vec<bool> = heads.iter().map(|head| head.starts_with('>')).collect();
    let heads: Vec<String> =
        heads.iter().map(|head| head.trim_start_matches('>').to_owned()).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.chain(heads.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let line = |cells: &[String]| {
        let mut line = String::new();
        for (column, cell) in cells.iter().enumerate() {
            let gap = widths.get(column).copied().unwrap_or(0).saturating_sub(cell.chars().count());
            let (before, after) =
                if right.get(column) == Some(&true) { (gap, 0) } else { (0, gap) };
            line.push_str(&" ".repeat(before));
            line.push_str(cell);
            line.push_str(&" ".repeat(after + 2));
        }
        line.truncate(line.trim_end().len());
        line.push('\n');
        line
    };
    std::iter::once(line(&heads)).chain(rows.iter().map(|row| line(row))).collect()
}
