//! The figures as a file, as a table and as a picture.

use std::path::Path;

use anyhow::Result;
use comfy_table::{LineStyle, Table, TableStyle};
use moerag_eval::plot;

use super::Row;

/// The stages that are shown; scale.json has all of them.
const STAGES: [&str; 4] = ["encode", "candidates", "features", "views"];

/// Writes `scale.json` and `scale.png`.
pub(super) fn write(out: &Path, rows: &[Row]) -> Result<()> {
    let json = serde_json::to_string_pretty(&serde_json::json!({ "stores": rows }))?;
    fs_err::write(out.join("scale.json"), json + "\n")?;
    let line = |name: &str, value: &dyn Fn(&Row) -> Option<f64>| {
        let points = rows
            .iter()
            .filter_map(|row| Some((row.passages as f64 / 1e3, value(row)?)));
        (name.to_owned(), points.collect::<Vec<(f64, f64)>>())
    };
    let mut series = vec![
        line("p99", &|row| Some(row.p99_ms)),
        line("median", &|row| Some(row.p50_ms)),
    ];
    for stage in STAGES {
        series.push(line(stage, &|row| row.stages_ms.get(stage).copied()));
    }
    plot::curve(
        &out.join("scale.png"),
        "Time of a query",
        "thousand passages",
        "ms",
        &series,
    )?;
    Ok(())
}

/// The figures for people.
pub(super) fn table(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_style(TableStyle::new().header_separator(LineStyle::none().fill('─')));
    let mut header: Vec<String> = ["store", "passages", "start s", "p50 ms", "p99 ms"]
        .map(String::from)
        .to_vec();
    header.extend(STAGES.map(|stage| format!("{stage} ms")));
    header.extend(["anon MB", "RSS MB", "disk B", "text B", "dense", "union"].map(String::from));
    table.set_header(header);
    for row in rows {
        let stage = |name: &str| row.stages_ms.get(name).copied().unwrap_or(f64::NAN);
        let mut cells = vec![
            row.store.clone(),
            row.passages.to_string(),
            format!("{:.1}", row.start_s),
            format!("{:.1}", row.p50_ms),
            format!("{:.1}", row.p99_ms),
        ];
        cells.extend(STAGES.map(|name| format!("{:.2}", stage(name))));
        cells.extend([
            format!("{:.0}", row.rss_anon_mb),
            format!("{:.0}", row.rss_mb),
            format!("{:.0}", row.disk_bytes_per_passage),
            format!("{:.0}", row.text_bytes_per_passage),
            format!("{:.3}", row.recall.recall_dense),
            format!("{:.3}", row.recall.recall_union),
        ]);
        table.add_row(cells);
    }
    format!(
        "{table}\ndisk and text: bytes by passage; dense and union: share of the exact {} found",
        rows.first().map_or(0, |row| row.recall.recall_at)
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use super::*;
    use crate::scale::recall::Recall;

    fn row(passages: u64) -> Row {
        Row {
            store: format!("s{passages}"),
            passages,
            start_s: 0.5,
            queries: 300,
            p50_ms: 20.0,
            p99_ms: 40.0,
            stages_ms: BTreeMap::from([("candidates".to_owned(), 2.5)]),
            rss_mb: 300.0,
            rss_anon_mb: 200.0,
            disk_bytes_per_passage: 25_000.0,
            text_bytes_per_passage: 800.0,
            recall: Recall {
                recall_dense: 0.987,
                recall_union: 0.991,
                recall_at: 100,
            },
        }
    }

    #[test]
    fn the_figures_are_written_and_shown() {
        let dir = tempfile::tempdir().unwrap();
        let rows = [row(1000), row(20_000)];
        write(dir.path(), &rows).unwrap();
        let json = fs_err::read_to_string(dir.path().join("scale.json")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["stores"][1]["recall_dense"], 0.987);
        assert_eq!(json["stores"][0]["stages_ms"]["candidates"], 2.5);
        assert!(dir.path().join("scale.png").exists());
        let table = table(&rows);
        assert!(table.contains("20000") && table.contains("2.50") && table.contains("0.991"));
    }
}
