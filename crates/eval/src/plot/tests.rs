//! What all plots have in common: a PNG of the planned size with a free edge, and no panic for odd
//! numbers.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use super::*;
use crate::error::EvalError;

const METHODS: [&str; 12] = [
    "bm25",
    "dense",
    "rrf",
    "token",
    "prior",
    "single_head",
    "single_head_anchored",
    "typed_heads",
    "random_routing",
    "hard_routing",
    "shuffled_gate",
    "moe",
];
const SETS: [&str; 9] = [
    "strategyqa_dev",
    "squad2_dev",
    "covid_qa",
    "lfrqa_technology",
    "fiqa",
    "scifact",
    "nfcorpus",
    "arguana",
    "hotpotqa_sample",
];

fn names(of: &[&str]) -> Vec<String> {
    of.iter().map(|name| (*name).to_owned()).collect()
}

/// A number in 0..1 that looks like a measurement.
fn some(a: usize, b: usize) -> f64 {
    let base = 0.55 + 0.3 * ((a * 7 + 3) as f64).sin().abs();
    base + 0.012 * b as f64 - 0.04 * ((a * 31 + b * 17) as f64).cos()
}

fn read(path: &Path) -> (u32, u32, Vec<u8>) {
    png::tests::read(&fs_err::read(path).unwrap())
}

/// Checks that something is drawn and that nothing touches the edge, where it would be cut.
fn check(path: &Path) -> (u32, u32) {
    let (width, height, pixels) = read(path);
    assert_eq!(pixels.len(), width as usize * height as usize * 3);
    let ink = |x: u32, y: u32| {
        let at = (y as usize * width as usize + x as usize) * 3;
        pixels[at..at + 3] != [255; 3]
    };
    let drawn = (0..height)
        .flat_map(|y| (0..width).map(move |x| (x, y)))
        .filter(|(x, y)| ink(*x, *y));
    assert!(drawn.clone().count() > 1_000, "{} is blank", path.display());
    for (x, y) in drawn {
        let inside = (4..width - 4).contains(&x) && (4..height - 4).contains(&y);
        assert!(
            inside,
            "{}: ink at {x}, {y} of {width} x {height}",
            path.display()
        );
    }
    (width, height)
}

/// Draws and checks; with `MOERAG_PLOT_DIR` the plot stays there, to be looked at.
fn plot(draw: impl FnOnce(&Path) -> Result<(), EvalError>) -> (u32, u32) {
    let dir = tempfile::tempdir().unwrap();
    let path = match std::env::var_os("MOERAG_PLOT_DIR") {
        Some(dir) => Path::new(&dir).join(format!(
            "{}.png",
            std::thread::current().name().unwrap().replace("::", "_")
        )),
        None => dir.path().join("plot.png"),
    };
    draw(&path).unwrap();
    check(&path)
}

fn refused(draw: impl FnOnce(&Path) -> Result<(), EvalError>) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("plot.png");
    let error = draw(&path).unwrap_err();
    assert!(matches!(error, EvalError::Plot { .. }), "{error}");
    assert!(!path.exists());
    error.to_string()
}

fn bars(groups: usize, methods: usize) -> (Vec<String>, Vec<(String, Vec<f64>)>) {
    let series = (0..methods)
        .map(|m| {
            (
                METHODS[m].to_owned(),
                (0..groups).map(|g| some(g, m)).collect(),
            )
        })
        .collect();
    (names(&SETS[..groups]), series)
}

#[test]
fn bars_of_nine_sets_and_twelve_methods() {
    let (groups, series) = bars(9, 12);
    let (width, height) = plot(|path| {
        grouped_bars(
            path,
            "nDCG@10 of each method on each set",
            "nDCG@10",
            &groups,
            &series,
        )
    });
    assert!(width <= 1_600 && height <= 1_400, "{width} x {height}");
}

#[test]
fn bars_few() {
    let (groups, series) = bars(3, 4);
    plot(|path| grouped_bars(path, "nDCG@10", "nDCG@10", &groups, &series));
}

#[test]
fn bars_with_gaps_and_negative_values() {
    let (groups, mut series) = bars(3, 3);
    series[0].1 = vec![f64::NAN, -0.2, f64::INFINITY];
    plot(|path| grouped_bars(path, "Difference", "difference", &groups, &series));
}

#[test]
fn bars_without_any_value() {
    let (groups, mut series) = bars(3, 3);
    series
        .iter_mut()
        .for_each(|(_, values)| values.fill(f64::NAN));
    plot(|path| grouped_bars(path, "Nothing", "nothing", &groups, &series));
}

#[test]
fn bars_that_are_ragged_missing_or_too_many_are_refused() {
    let (groups, mut series) = bars(3, 3);
    assert!(refused(|path| grouped_bars(path, "", "", &[], &series)).contains("nothing to draw"));
    assert!(refused(|path| grouped_bars(path, "", "", &groups, &[])).contains("nothing to draw"));
    series[1].1.pop();
    let error = refused(|path| grouped_bars(path, "", "", &groups, &series));
    assert!(error.contains("dense has 2 values for 3 groups"), "{error}");
    let many = vec![("m".to_owned(), vec![1.0]); 2_000];
    assert!(refused(|path| grouped_bars(path, "", "", &groups[..1], &many)).contains("too many"));
}

fn differences() -> Vec<(String, f64, f64, f64)> {
    (0..11)
        .map(|m| {
            let mean = 0.05 - 0.006 * m as f64;
            let half = 0.008 + 0.002 * (m % 3) as f64;
            (
                format!("moe - {}", METHODS[m]),
                mean - half,
                mean,
                mean + half,
            )
        })
        .collect()
}

#[test]
fn forest_of_differences() {
    let rows = differences();
    let title = "moe against every other method, mean of nine sets";
    let (width, height) =
        plot(|path| forest(path, title, "difference in nDCG@10, 95 % interval", &rows));
    assert!(width <= 1_300 && height <= 600, "{width} x {height}");
}

#[test]
fn forest_with_blank_rows() {
    let mut rows = differences();
    rows[0].1 = f64::NAN;
    rows[1].3 = f64::NEG_INFINITY;
    plot(|path| forest(path, "x", "x", &rows));
    plot(|path| forest(path, "x", "x", &rows[..1]));
    assert!(refused(|path| forest(path, "", "", &[])).contains("nothing to draw"));
}

fn cells(rows: usize, columns: usize, centre: f64) -> Vec<Vec<Option<f64>>> {
    let cell = |r, c| Some(some(r, c) - centre);
    (0..rows)
        .map(|r| (0..columns).map(|c| cell(r, c)).collect())
        .collect()
}

#[test]
fn heat_map_of_values() {
    let mut values = cells(9, 12, 0.0);
    values[2][3] = None;
    values[4][0] = Some(f64::NAN);
    plot(|path| {
        heat_map(
            path,
            "nDCG@10",
            &names(&SETS),
            &names(&METHODS),
            &values,
            false,
        )
    });
}

#[test]
fn heat_map_of_differences() {
    let columns = ["dense", "lexical", "token", "exact"];
    let values = cells(8, 4, 0.7);
    let rows = [
        "factual",
        "definitional",
        "procedural",
        "causal",
        "comparative",
        "temporal",
        "quantitative",
        "descriptive",
    ];
    plot(|path| {
        heat_map(
            path,
            "Gate weight by query type",
            &names(&rows),
            &names(&columns),
            &values,
            true,
        )
    });
}

#[test]
fn heat_map_of_blanks_and_of_one_cell() {
    let four = names(&["a", "b", "c", "d"]);
    let blank = vec![vec![None; 4]; 4];
    plot(|path| heat_map(path, "Blank", &four, &four, &blank, true));
    let one = vec![vec![Some(0.5)]];
    plot(|path| heat_map(path, "One", &four[..1], &four[..1], &one, false));
}

#[test]
fn heat_map_that_is_ragged_is_refused() {
    let mut values = cells(2, 2, 0.0);
    values[1].pop();
    let two = names(&["a", "b"]);
    let error = refused(|path| heat_map(path, "", &two, &two, &values, false));
    assert!(error.contains("2 rows of 2"), "{error}");
    assert!(refused(|path| heat_map(path, "", &two, &[], &[], false)).contains("nothing to draw"));
}

#[test]
fn curve_of_several_series() {
    let series: Vec<(String, Vec<(f64, f64)>)> = (0..5)
        .map(|m| {
            let points = (0..10).map(|i| (i as f64 * 100.0, some(m, i))).collect();
            (METHODS[m + 4].to_owned(), points)
        })
        .collect();
    plot(|path| {
        curve(
            path,
            "Quality by number of synthetic queries",
            "synthetic queries",
            "nDCG@10",
            &series,
        )
    });
}

#[test]
fn curve_with_odd_points() {
    let nan = vec![(0.0, f64::NAN), (f64::INFINITY, 1.0)];
    let mut series = vec![
        ("nothing".to_owned(), nan),
        ("one".to_owned(), vec![(1.0, 1.0)]),
    ];
    plot(|path| curve(path, "Odd", "x", "y", &series));
    series.truncate(1);
    plot(|path| curve(path, "Odd", "x", "y", &series));
    series[0].1.clear();
    assert!(refused(|path| curve(path, "", "", "", &series)).contains("nothing to draw"));
}

#[test]
fn the_same_numbers_give_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let [one, two] = ["one.png", "two.png"].map(|name| dir.path().join(name));
    for path in [&one, &two] {
        forest(path, "x", "x", &differences()).unwrap();
    }
    assert_eq!(fs_err::read(one).unwrap(), fs_err::read(two).unwrap());
}

#[test]
fn a_file_that_cannot_be_written_is_named() {
    let error = forest(Path::new("/nowhere/at/all.png"), "x", "x", &differences()).unwrap_err();
    assert!(matches!(error, EvalError::Write { .. }), "{error}");
    assert!(error.to_string().contains("all.png"), "{error}");
}
