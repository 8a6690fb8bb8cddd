//! A set in BEIR layout on disk.

use std::collections::HashSet;
use std::io::Write;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use super::near::CHANGES;
use super::source::Source;
use super::stuffed::REPEATS;
use super::{Attack, Attacked, QUERIES, Written};
use crate::error::EvalError;

#[derive(Deserialize)]
struct Id {
    #[serde(rename = "_id")]
    id: String,
}

/// Refuses a directory that has something in it.
pub(super) fn require_empty(dir: &Path) -> Result<(), EvalError> {
    match std::fs::read_dir(dir).map(|mut entries| entries.next().is_some()) {
        Ok(true) => Err(EvalError::NotEmpty { path: dir.into() }),
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(EvalError::Read {
            path: dir.into(),
            source,
        }),
        _ => Ok(()),
    }
}

/// Writes the four files.
pub(super) fn set(
    source: &Source,
    attacked: &Attacked,
    written: &Written,
    out: &Path,
) -> Result<(), EvalError> {
    let queries = source.text("queries.jsonl")?;
    let qrels = source.text("qrels/test.tsv")?;
    let kept: Option<HashSet<&str>> = attacked
        .queries
        .as_ref()
        .map(|ids| ids.iter().map(String::as_str).collect());
    let keeps = |id: &str| kept.as_ref().is_none_or(|kept| kept.contains(id));

    let folder = out.join("qrels");
    std::fs::create_dir_all(&folder).map_err(|source| EvalError::Write {
        path: folder,
        source,
    })?;
    let corpus = attacked.corpus.iter().chain(&attacked.added).map(|entry| {
        json!({ "_id": entry.id, "title": entry.title, "text": entry.text }).to_string()
    });
    lines(&out.join("corpus.jsonl"), corpus)?;
    // Lines are copied as they are, with whatever metadata they hold, but for texts that were changed.
    let of_query = |line: &str| {
        let Id { id } = serde_json::from_str(line).ok()?;
        keeps(&id).then(|| match attacked.changed_queries.get(&id) {
            Some(text) => with_text(line, text),
            None => line.to_owned(),
        })
    };
    lines(
        &out.join("queries.jsonl"),
        queries.lines().filter_map(of_query),
    )?;
    let header = |line: &str| {
        line.rsplit('\t')
            .next()
            .is_some_and(|s| s.trim().parse::<f64>().is_err())
    };
    let judgements = qrels.lines().enumerate().filter(|(at, line)| {
        let query = line.split('\t').next().map_or("", str::trim);
        (*at == 0 && header(line)) || keeps(query)
    });
    lines(
        &out.join("qrels/test.tsv"),
        judgements.map(|(_, line)| line),
    )?;
    lines(&out.join("README.md"), [readme(written)])
}

/// A line of queries with another text.
fn with_text(line: &str, text: &str) -> String {
    match serde_json::from_str(line) {
        Ok(Value::Object(mut query)) => {
            query.insert("text".to_owned(), text.into());
            Value::Object(query).to_string()
        }
        _ => line.to_owned(),
    }
}

fn lines(path: &Path, lines: impl IntoIterator<Item = impl AsRef<str>>) -> Result<(), EvalError> {
    let write = || {
        let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
        for line in lines {
            writeln!(file, "{}", line.as_ref())?;
        }
        file.flush()
    };
    write().map_err(|source| EvalError::Write {
        path: path.into(),
        source,
    })
}

fn readme(written: &Written) -> String {
    let Written {
        from,
        seed,
        passages,
        changed,
        added,
        queries,
        changed_queries,
        left_out,
        attack,
    } = written;
    let scope = format!(
        "Only queries that were attacked are kept, at most {QUERIES} of them, with all their judgements."
    );
    let what = match attack {
        Attack::Buried => {
            "The text of every gold passage stands in the middle of a passage about three times as long. \
             The rest are sentences of passages that are gold of no query, or, where the set has too few \
             of these, of passages that are not gold of the same queries. Ids, queries and judgements are \
             those of the original."
                .to_owned()
        }
        Attack::NearDuplicates => format!(
            "Gold passages have copies under new ids (`near-…`) in which every number and every capitalised \
             name that the query does not mention is replaced by one of the same kind from elsewhere in \
             the corpus, where there is one. A copy with fewer than {CHANGES} changed facts, or one that \
             still holds an answer listed in the query's metadata, is left out; where no answers are \
             listed, a copy may by chance still answer. {scope}"
        ),
        Attack::Stuffed => format!(
            "Each query has a new passage (`stuffed-…`) that holds all its content words {REPEATS} times, \
             between sentences that share no word with it and do not come from its gold passages. {scope}"
        ),
        Attack::Misspelt => {
            "In every query with a word of five plain letters or more, one such word has a slip: a letter left \
             out, typed twice, taken for a neighbour on the keyboard or swapped with the next, never the first. \
             Passages and judgements are those of the original."
                .to_owned()
        }
    };
    format!(
        "# {from}, made harder: {name}\n\n{what}\n\n\
         | | |\n|---|---|\n| made from | {from} |\n| seed | {seed} |\n| passages | {passages} |\n\
         | changed | {changed} |\n| added | {added} |\n| judged queries | {queries} |\n| misspelt queries | {changed_queries} |\n\
         | judged queries left out | {left_out} |\n| made by | `moerag eval-set` {version} |\n\n\
         For evaluation only: its queries and judgements served to build it and must not be trained on. \
         The licence of the original applies.",
        name = attack.name(),
        version = env!("CARGO_PKG_VERSION"),
    )
}
