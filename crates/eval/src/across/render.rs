//! What was found across the sets, as tables.

use std::collections::BTreeMap;

use super::AcrossReport;
use super::merged::NAMES;
use crate::metrics::Metrics;
use crate::render::{delta_lines, delta_table, markdown_rows, text_table};

const TOGETHER: &str = "All sets in one deployment, no collection named";
const TRANSFER: &str = "nDCG@10 of each set's queries on its own collection (rows) by the set whose documents were \
     trained on (columns)";

impl AcrossReport {
    /// For a terminal.
    pub(crate) fn tables(&self) -> String {
        let (header, rows) = self.together_rows();
        let (transfer_header, transfer_rows) = self.transfer_rows();
        format!(
            "\n{TOGETHER}, nDCG@10\n{}\n{}\n{TRANSFER}\n{}\n",
            text_table(&header, &rows),
            delta_lines(&self.together_deltas),
            text_table(&transfer_header, &transfer_rows),
        )
    }

    /// As Markdown.
    pub(crate) fn markdown(&self) -> String {
        let (header, rows) = self.together_rows();
        let (transfer_header, transfer_rows) = self.transfer_rows();
        format!(
            "\n## {TOGETHER}\n\nnDCG@10 by the set that the queries are of; `own_collection` is told where to \
             look, `own first` is the share of queries whose own collection weighs most.\n\n{}{}\n## Weights of \
             other sets\n\n{TRANSFER}:\n\n{}",
            markdown_rows(&header, &rows),
            delta_table(&self.together_deltas),
            markdown_rows(&transfer_header, &transfer_rows),
        )
    }

    fn together_rows(&self) -> (Vec<String>, Vec<Vec<String>>) {
        let cells = |methods: &BTreeMap<String, Metrics>| {
            let value = |name: &&str| methods.get(*name).map_or_else(String::new, ndcg);
            NAMES.iter().map(value).collect::<Vec<String>>()
        };
        let mut header = vec!["set".to_owned()];
        header.extend(NAMES.map(str::to_owned));
        header.push("own first".to_owned());
        let mut rows: Vec<Vec<String>> = Vec::new();
        for (name, set) in &self.together {
            let mut row = vec![name.clone()];
            row.extend(cells(&set.methods));
            row.push(format!("{:.3}", set.own_first));
            rows.push(row);
        }
        let mut mean = vec!["mean".to_owned()];
        mean.extend(cells(&self.together_macro));
        let own_first = self.together.values().map(|set| set.own_first).sum::<f64>();
        mean.push(format!(
            "{:.3}",
            own_first / self.together.len().max(1) as f64
        ));
        rows.push(mean);
        (header, rows)
    }

    fn transfer_rows(&self) -> (Vec<String>, Vec<Vec<String>>) {
        let mut header = vec!["set".to_owned()];
        header.extend(self.transfer.keys().cloned());
        let row = |(name, trained): (&String, &BTreeMap<String, Metrics>)| {
            let mut row = vec![name.clone()];
            row.extend(trained.values().map(ndcg));
            row
        };
        (header, self.transfer.iter().map(row).collect())
    }
}

fn ndcg(metrics: &Metrics) -> String {
    format!("{:.4}", metrics.ndcg_at_10)
}
