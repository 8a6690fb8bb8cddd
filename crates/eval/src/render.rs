//! The figures as tables: for a terminal and as Markdown.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};

use crate::bootstrap::Deltas;
use crate::methods::Method;
use crate::metrics::{COLUMNS, Metrics};
use crate::report::{Refusal, Report, SetReport, TypeReport};

impl Report {
    /// The figures as tables for a terminal.
    #[must_use]
    pub fn tables(&self) -> String {
        let mut out = self.corruption_line();
        for (name, set) in &self.sets {
            out.push_str(&format!("\n{name}: {}\n", set.summary()));
            out.push_str(&format!("{}\n", metrics_table(&set.methods)));
            out.push_str(&set.details());
            out.push_str(&delta_lines(&set.deltas));
        }
        if self.sets.len() > 1 {
            out.push_str(&format!(
                "\nmean of {} sets\n{}\n",
                self.sets.len(),
                metrics_table(&self.macro_mean)
            ));
            out.push_str(&delta_lines(&self.macro_deltas));
        }
        if let Some(across) = &self.across {
            out.push_str(&across.tables());
        }
        out
    }

    fn corruption_line(&self) -> String {
        self.corruption.map_or_else(String::new, |corruption| {
            format!(
                "\nThe {} side of every passage was corrupted.\n",
                corruption.name()
            )
        })
    }

    /// The same as Markdown, with what was measured and how.
    pub(crate) fn markdown(&self, pictures: &[(&str, &str)]) -> String {
        let mut out = format!(
            "# Evaluation\n\nSeed {}{}, device {} (precision {}), encoder `{}`, {} candidates per list, pruned to {}. Each set in a {}, \
             trained on its documents alone. Gain = (score > 0); gold outside the candidates counts as missed.\n",
            self.seed,
            match self.seeds {
                1 => String::new(),
                n => format!(" and the {} after it, means over them", n - 1),
            },
            self.device,
            self.precision,
            self.embedding_space_id,
            self.candidates_per_list,
            self.prune_to
                .map_or_else(|| "all".to_owned(), |n| n.to_string()),
            match self.kept_stores {
                true => "kept store, where only what changed was encoded again",
                false => "fresh store",
            },
        );
        out.push_str(&self.corruption_line());
        for (file, shows) in pictures {
            out.push_str(&format!("\n![{shows}]({file})\n"));
        }
        for (name, set) in &self.sets {
            out.push_str(&format!(
                "\n## {name}\n\n{}\n\n{}",
                set.summary(),
                markdown_table(&set.methods)
            ));
            out.push_str(&format!("\n```text\n{}```\n", set.details()));
            out.push_str(&delta_table(&set.deltas));
            out.push_str(&ablation_table(&set.ablations));
            out.push_str(&type_table("predicted query type", &set.per_type));
            out.push_str(&type_table(
                "the share of terms that queries have in common with their gold",
                &set.per_overlap,
            ));
        }
        if self.sets.len() > 1 {
            out.push_str(&format!(
                "\n## Mean of {} sets\n\n{}",
                self.sets.len(),
                markdown_table(&self.macro_mean)
            ));
            out.push_str(&delta_table(&self.macro_deltas));
            out.push_str(&ablation_table(&self.macro_ablations));
        }
        if let Some(across) = &self.across {
            out.push_str(&across.markdown());
        }
        out
    }
}

impl SetReport {
    fn summary(&self) -> String {
        let sample = match self.sampled_from {
            Some(all) => format!(" (a sample of {all})"),
            None => String::new(),
        };
        let mut parts = vec![format!(
            "{} passages, {} queries{sample}",
            self.n_passages, self.n_queries
        )];
        if self.n_queries_without_gold > 0 {
            parts.push(format!(
                "{} without gold left out",
                self.n_queries_without_gold
            ));
        }
        if self.n_gold_not_in_corpus > 0 {
            parts.push(format!(
                "{} gold passages not in the corpus",
                self.n_gold_not_in_corpus
            ));
        }
        if self.n_refused_passages > 0 {
            parts.push(format!("{} entries refused", self.n_refused_passages));
        }
        if self.n_truncated_passages > 0 {
            parts.push(format!(
                "{} passages longer than the encoder reads at once",
                self.n_truncated_passages
            ));
        }
        if self.n_respelled_queries > 0 {
            parts.push(format!(
                "{} queries searched for in another spelling",
                self.n_respelled_queries
            ));
        }
        parts.join(", ")
    }

    fn details(&self) -> String {
        let number = |value: Option<f64>| {
            value.map_or_else(|| "not measured".to_owned(), |value| format!("{value:.4}"))
        };
        let mut out = format!("served            {}", self.served);
        if let Some(reason) = &self.fallback_reason {
            out.push_str(&format!(": {reason}"));
        }
        if self.seed_sd.is_some() && self.n_fallback_seeds > 0 {
            out.push_str(&format!(
                "\nfell back         {} of the seeds",
                self.n_fallback_seeds
            ));
        }
        out.push_str(&format!(
            "\nheld-out loss     prior {}, trained {}\nrouting accuracy  {}\n",
            number(self.held_out_loss.prior),
            number(self.held_out_loss.trained),
            number(self.routing_accuracy)
        ));
        if let Some(diversity) = self.head_diversity {
            out.push_str(&format!(
                "head diversity    spearman {:.3}, attention {:.3}\n",
                diversity.spearman, diversity.attention
            ));
        }
        let mut heads: Vec<_> = self.head_utilization.iter().collect();
        heads.sort_by(|a, b| b.1.total_cmp(a.1));
        let heads: Vec<String> = heads
            .into_iter()
            .map(|(head, weight)| format!("{head} {weight:.3}"))
            .collect();
        out.push_str(&format!("head utilization  {}\n", heads.join(", ")));
        for (name, metrics) in &self.ceilings {
            out.push_str(&format!(
                "{name:<17} ndcg@10 {:.4}, mrr@10 {:.4} (needs the judgements)\n",
                metrics.ndcg_at_10, metrics.mrr_at_10
            ));
        }
        let s = &self.seconds;
        out.push_str(&format!(
            "seconds           ingest {:.1}, synth {:.1}, train {:.1}, eval {:.1}\n",
            s.ingest, s.synth, s.train, s.eval
        ));
        for Refusal { id, reason } in &self.refused {
            out.push_str(&format!("refused           {id:?}: {reason}\n"));
        }
        let unnamed = self.n_refused_passages.saturating_sub(self.refused.len());
        if unnamed > 0 {
            out.push_str(&format!("refused           and {unnamed} more\n"));
        }
        out
    }
}

/// Methods in the order of [`Method::ALL`].
fn ordered(methods: &BTreeMap<String, Metrics>) -> impl Iterator<Item = (&'static str, &Metrics)> {
    Method::ALL
        .into_iter()
        .filter_map(|method| Some((method.name(), methods.get(method.name())?)))
}

fn metrics_table(methods: &BTreeMap<String, Metrics>) -> Table {
    let (header, rows) = metrics_rows(methods);
    text_table(&header, &rows)
}

fn markdown_table(methods: &BTreeMap<String, Metrics>) -> String {
    let (header, rows) = metrics_rows(methods);
    markdown_rows(&header, &rows)
}

fn metrics_rows(methods: &BTreeMap<String, Metrics>) -> (Vec<String>, Vec<Vec<String>>) {
    let header = std::iter::once("method").chain(COLUMNS);
    let row = |(name, metrics): (&str, &Metrics)| {
        let values = metrics.values().map(|value| format!("{value:.4}"));
        std::iter::once(name.to_owned()).chain(values).collect()
    };
    (
        header.map(str::to_owned).collect(),
        ordered(methods).map(row).collect(),
    )
}

/// A table for a terminal: a name and numbers in each row.
pub(crate) fn text_table(header: &[String], rows: &[Vec<String>]) -> Table {
    let mut table = Table::new();
    table.load_style(TableStyle::new().header_separator(LineStyle::none().fill('─')));
    table.set_header(header);
    table.add_rows(rows);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// The same in Markdown.
pub(crate) fn markdown_rows(header: &[String], rows: &[Vec<String>]) -> String {
    let mut out = format!(
        "| {} |\n|---|{}\n",
        header.join(" | "),
        "---:|".repeat(header.len().saturating_sub(1))
    );
    for row in rows {
        out.push_str(&format!("| {} |\n", row.join(" | ")));
    }
    out
}

/// `moe - rrf  ndcg@10 +.0780 [+.05, +.10]`, a line a method.
pub(crate) fn delta_lines(deltas: &BTreeMap<String, Deltas>) -> String {
    let mut out = String::new();
    for (pair, metrics) in deltas {
        out.push_str(&format!("{pair:<22}"));
        for (metric, [low, mean, high]) in metrics {
            out.push_str(&format!("  {metric} {mean:+.4} [{low:+.4}, {high:+.4}]"));
        }
        out.push('\n');
    }
    out
}

pub(crate) fn delta_table(deltas: &BTreeMap<String, Deltas>) -> String {
    intervals_table("Differences", "difference", deltas)
}

fn ablation_table(deltas: &BTreeMap<String, Deltas>) -> String {
    intervals_table("Ablations minus `moe`", "ablation", deltas)
}

fn intervals_table(title: &str, column: &str, deltas: &BTreeMap<String, Deltas>) -> String {
    let Some(first) = deltas.values().next() else {
        return String::new();
    };
    let header: Vec<String> = std::iter::once(column.to_owned())
        .chain(first.keys().cloned())
        .collect();
    let row = |(pair, metrics): (&String, &Deltas)| {
        let cells = metrics
            .values()
            .map(|[low, mean, high]| format!("{mean:+.4} [{low:+.4}, {high:+.4}]"));
        std::iter::once(pair.clone()).chain(cells).collect()
    };
    let rows: Vec<Vec<String>> = deltas.iter().map(row).collect();
    format!(
        "\n{title} with 95 % paired bootstrap intervals over the queries:\n\n{}",
        markdown_rows(&header, &rows)
    )
}

/// nDCG@10 by kind of query.
fn type_table(by: &str, types: &BTreeMap<String, TypeReport>) -> String {
    let Some(first) = types.values().next() else {
        return String::new();
    };
    let methods: Vec<&str> = ordered(&first.methods).map(|(name, _)| name).collect();
    let mut out = format!(
        "\nnDCG@10 by {by}:\n\n| | queries | {} |\n|---|---:|{}\n",
        methods.join(" | "),
        "---:|".repeat(methods.len())
    );
    for (name, report) in types {
        let cells = ordered(&report.methods).map(|(_, m)| format!("{:.4}", m.ndcg_at_10));
        let cells: Vec<String> = cells.collect();
        out.push_str(&format!(
            "| {name} | {} | {} |\n",
            report.n_queries,
            cells.join(" | ")
        ));
    }
    out
}
