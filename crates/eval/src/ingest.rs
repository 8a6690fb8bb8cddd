//! Taking a set's corpus in, and what of it the router did not take.

use std::collections::BTreeMap;
use std::time::Instant;

use moerag_store::{Document, Format};
use router_service::{DocumentOutcome, DocumentStatus, RouterEngine};

use crate::dataset::Dataset;
use crate::report::Refusal;
use crate::run::{BoxError, EvalProgress};

/// Refusals of a set whose reasons are kept.
const REFUSALS: usize = 10;

/// What became of the corpus.
#[derive(Default)]
pub(crate) struct Ingested {
    pub(crate) truncated: usize,
    pub(crate) refused: usize,
    /// The first of the refused.
    pub(crate) refusals: Vec<Refusal>,
}

impl Ingested {
    fn take(&mut self, outcomes: Vec<DocumentOutcome>) {
        for outcome in outcomes {
            match outcome.status {
                DocumentStatus::Written { truncated, .. } => self.truncated += truncated,
                DocumentStatus::Unchanged => {}
                DocumentStatus::Refused { reason } => {
                    self.refused += 1;
                    if self.refusals.len() < REFUSALS {
                        self.refusals.push(Refusal {
                            id: outcome.document_id,
                            reason,
                        });
                    }
                }
            }
        }
    }
}

/// Makes `collection` hold the set's corpus and nothing else.
pub(crate) async fn ingest(
    engine: &RouterEngine,
    collection: &str,
    set: &Dataset,
    progress: &dyn EvalProgress,
) -> Result<Ingested, BoxError> {
    let started = Instant::now();
    let total = set.corpus.len();
    let documents = set.corpus.iter().map(|entry| Document {
        id: entry.id.clone(),
        title: entry.title.clone(),
        text: entry.text.clone(),
        format: Format::Plain,
        metadata: BTreeMap::new(),
        whole: true,
    });
    let mut session = engine.ingest_session(collection, None).await?;
    let mut ingested = Ingested::default();
    for document in documents {
        ingested.take(session.push(document).await?);
        let p = session.progress();
        let done = (p.written + p.unchanged + p.refused) as usize;
        let rate = p.passages_encoded as f64 / started.elapsed().as_secs_f64().max(1e-3);
        let detail = format!("{rate:.0} passages/s");
        progress.update(&set.name, "ingest", done, total, &detail);
    }
    ingested.take(session.flush().await?);
    // A kept store may hold what the set had when it was made.
    session.prune(&[]).await?;
    Ok(ingested)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_refusals_are_counted_and_the_first_ten_keep_their_reasons() {
        let refused = |index: u64| DocumentOutcome {
            index,
            document_id: format!("p{index}"),
            status: DocumentStatus::Refused {
                reason: "text: is empty".to_owned(),
            },
        };
        let written = DocumentOutcome {
            index: 12,
            document_id: "p12".to_owned(),
            status: DocumentStatus::Written {
                passages: 1,
                truncated: 1,
            },
        };
        let mut ingested = Ingested::default();
        ingested.take((0..7).map(refused).collect());
        ingested.take((7..12).map(refused).chain([written]).collect());
        assert_eq!((ingested.refused, ingested.truncated), (12, 1));
        let ids: Vec<&str> = ingested.refusals.iter().map(|r| r.id.as_str()).collect();
        assert_eq!(
            ids,
            ["p0", "p1", "p2", "p3", "p4", "p5", "p6", "p7", "p8", "p9"]
        );
        assert_eq!(ingested.refusals[0].reason, "text: is empty");
    }
}
