//! Weights as horizontal bars.

use console::style;

const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];

/// A bar of `width` cells for a share in 0..=1, in steps of an eighth of a cell.
pub(crate) fn bar(share: f64, width: usize) -> String {
    let share = if share.is_finite() {
        share.clamp(0.0, 1.0)
    } else {
        0.0
    };
    let eighths = (share * width as f64 * 8.0).round() as usize;
    let mut bar = "█".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        bar.push(EIGHTHS[eighths % 8]);
    }
    bar
}

/// Lines `name  bar  0.31`, largest weight first, the bars scaled to the largest.
pub(crate) fn weights(rows: &[(String, f64)], width: usize) -> Vec<String> {
    let names = rows
        .iter()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or(0);
    let largest = rows
        .iter()
        .map(|(_, weight)| *weight)
        .fold(f64::MIN_POSITIVE, f64::max);
    let cells = width.saturating_sub(names + 10).clamp(8, 40);
    let mut sorted: Vec<&(String, f64)> = rows.iter().collect();
    sorted.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    sorted
        .into_iter()
        .map(|(name, weight)| {
            let bar = bar(weight / largest, cells);
            let gap = " ".repeat(cells - bar.chars().count());
            format!("{name:<names$}  {}{gap}  {weight:.3}", style(bar).cyan())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_filled_in_eighths_and_bounded() {
        assert_eq!(bar(0.0, 4), "");
        assert_eq!(bar(0.5, 4), "██");
        assert_eq!(bar(1.0, 4), "████");
        assert_eq!(bar(0.25 + 1.0 / 32.0, 4), "█▏");
        assert_eq!(bar(7.0, 2), "██");
        assert_eq!(bar(f64::NAN, 2), "");
    }

    #[test]
    fn the_largest_weight_comes_first_and_fills_the_line() {
        let rows = [("exact".to_owned(), 0.1), ("token".to_owned(), 0.4)];
        let lines: Vec<String> = weights(&rows, 30)
            .iter()
            .map(|l| console::strip_ansi_codes(l).into_owned())
            .collect();
        assert!(lines[0].starts_with("token  ███"), "{}", lines[0]);
        assert!(lines[0].ends_with("  0.400"), "{}", lines[0]);
        assert_eq!(lines[0].chars().count(), lines[1].chars().count());
    }
}
