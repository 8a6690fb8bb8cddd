//! Order statistics of measured times.

/// The `p` quantile, 0 to 1, of measured values: the nearest one, so that it was measured. `None`
/// without any.
pub(crate) fn quantile(values: &[f64], p: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let at = (last as f64 * p.clamp(0.0, 1.0)).round() as usize;
    sorted.get(at).copied()
}

/// The middle value.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_measured_values_in_any_order() {
        let values: Vec<f64> = (1..=101).rev().map(f64::from).collect();
        assert_eq!(median(&values), Some(51.0));
        assert_eq!(quantile(&values, 0.99), Some(100.0));
        assert_eq!(quantile(&values, 0.0), Some(1.0));
        assert_eq!(quantile(&values, 1.0), Some(101.0));
        assert_eq!(quantile(&values, 7.0), Some(101.0));
        assert_eq!(quantile(&[3.5], 0.99), Some(3.5));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
