//! Taking documents in: unchanged ones are skipped, the others are prepared in batches across
//! documents and acknowledged once the store says that they are durable.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use moerag_retrieve::Language;
use moerag_store::{CollectionSpec, Document, DocumentPut, revision};
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;
use tracing::info;

use super::engine::{Inner, KnownCollection, RouterEngine};
use super::prepare::{Prepared, prepare};
use crate::domain::RouterError;
use crate::domain::validate;
use crate::domain::violations::Violations;

/// How documents are gathered into batches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IngestConfig {
    /// Documents in one batch.
    pub batch_documents: usize,
    /// Bytes of text in one batch; a larger document makes a batch of its own.
    pub batch_bytes: usize,
}

impl Default for IngestConfig {
    fn default() -> Self {
        // About 64 passages: enough to fill the encoder's batches, a few seconds on two cores.
        Self {
            batch_documents: 64,
            batch_bytes: 64 << 10,
        }
    }
}

/// What became of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DocumentStatus {
    /// New or changed, durable and searchable now.
    Written {
        /// Number of its passages.
        passages: usize,
        /// Number of them that are longer than the encoder reads at once.
        truncated: usize,
    },
    /// The same revision was there already.
    Unchanged,
    /// Not taken.
    Refused {
        /// Why.
        reason: String,
    },
}

/// Acknowledges one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentOutcome {
    /// Position of the document in its session, from 0.
    pub index: u64,
    /// The document.
    pub document_id: String,
    /// What became of it.
    pub status: DocumentStatus,
}

/// Totals of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IngestProgress {
    /// Documents received.
    pub received: u64,
    /// Documents written.
    pub written: u64,
    /// Documents that were there already.
    pub unchanged: u64,
    /// Documents refused.
    pub refused: u64,
    /// Passages written.
    pub passages: u64,
    /// Documents deleted by pruning.
    pub pruned: u64,
    /// Passages encoded.
    pub passages_encoded: u64,
}

/// Documents on their way into one collection.
pub struct IngestSession {
    engine: Arc<Inner>,
    collection: String,
    known: Arc<KnownCollection>,
    batch: Vec<Waiting>,
    batch_bytes: usize,
    seen: HashSet<String>,
    totals: IngestProgress,
    encoded: Arc<AtomicU64>,
    _permit: OwnedSemaphorePermit,
}

/// A document that is not decided yet, or a refusal that waits for its turn.
enum Waiting {
    Document(u64, Document),
    Decided(DocumentOutcome),
}

impl RouterEngine {
    /// Opens a session, making the collection if need be.
    ///
    /// # Errors
    /// A bad name or language, a collection of another embedding space, no free stream.
    pub async fn ingest_session(
        &self,
        collection: &str,
        language: Option<&str>,
    ) -> Result<IngestSession, RouterError> {
        let mut violations = Violations::new();
        validate::collection(collection, &mut violations);
        let language = match language.map(str::parse::<Language>).transpose() {
            Ok(language) => language,
            Err(error) => {
                violations.add("language", error.to_string());
                None
            }
        };
        violations.finish()?;
        let permit = self.inner.admission.ingest_stream()?;
        let spec = self.spec_for(collection, language).await?;
        self.inner
            .store
            .ensure_collection(collection, &spec)
            .await?;
        self.inner.forget_servable();
        Ok(IngestSession {
            known: self.inner.known(collection).await?,
            engine: Arc::clone(&self.inner),
            collection: collection.to_owned(),
            batch: Vec::new(),
            batch_bytes: 0,
            seen: HashSet::new(),
            totals: IngestProgress::default(),
            encoded: Arc::default(),
            _permit: permit,
        })
    }

    /// Takes documents in and waits until all are decided; for callers in this process.
    ///
    /// # Errors
    /// As for [`RouterEngine::ingest_session`], or a store that fails.
    pub async fn ingest(
        &self,
        collection: &str,
        documents: impl IntoIterator<Item = Document>,
        mut progress: impl FnMut(&IngestProgress),
    ) -> Result<Vec<DocumentOutcome>, RouterError> {
        let mut session = self.ingest_session(collection, None).await?;
        let mut outcomes = Vec::new();
        for document in documents {
            outcomes.extend(session.push(document).await?);
            progress(&session.progress());
        }
        outcomes.extend(session.flush().await?);
        progress(&session.progress());
        Ok(outcomes)
    }

    /// An existing collection keeps its language unless another one is asked for, which the store
    /// then refuses.
    async fn spec_for(
        &self,
        collection: &str,
        language: Option<Language>,
    ) -> Result<CollectionSpec, RouterError> {
        let mut spec = self.inner.new_spec(language.unwrap_or_default());
        if language.is_none() {
            match self.inner.store.collection(collection).await {
                Ok(info) => spec.language = info.spec.language,
                Err(moerag_store::StoreError::UnknownCollection { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(spec)
    }
}

impl IngestSession {
    /// Totals so far. `passages_encoded` moves while a flush is under way, see
    /// [`IngestSession::encoded`].
    pub fn progress(&self) -> IngestProgress {
        IngestProgress {
            passages_encoded: self.encoded.load(Ordering::Relaxed),
            ..self.totals
        }
    }

    /// The counter of encoded passages, to be read while a flush runs.
    pub fn encoded(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.encoded)
    }

    /// Whether documents wait for a flush.
    pub fn has_waiting(&self) -> bool {
        !self.batch.is_empty()
    }

    /// Adds a document. Returns what has been decided, in the order of the documents; that is
    /// nothing until a batch is full.
    ///
    /// # Errors
    /// The store fails; documents that were not acknowledged may or may not be durable.
    pub async fn push(&mut self, document: Document) -> Result<Vec<DocumentOutcome>, RouterError> {
        // Of two documents with one id the later one counts, so the earlier one is settled first.
        let again = self
            .batch
            .iter()
            .any(|w| matches!(w, Waiting::Document(_, d) if d.id == document.id));
        let mut outcomes = if again {
            self.flush().await?
        } else {
            Vec::new()
        };
        let index = self.totals.received;
        self.totals.received += 1;
        self.seen.insert(document.id.clone());
        match validate::document(&document, &self.engine.config.limits) {
            Ok(()) => {
                self.batch_bytes += document.text.len();
                self.batch.push(Waiting::Document(index, document));
            }
            Err(reason) => self.refused(index, document.id, reason.to_string()),
        }
        let config = &self.engine.config.ingest;
        if self.batch.len() >= config.batch_documents || self.batch_bytes >= config.batch_bytes {
            outcomes.extend(self.flush().await?);
        }
        Ok(outcomes)
    }

    /// Adds a document that cannot be taken at all, so that it is reported in its turn.
    pub fn refuse(&mut self, document_id: String, reason: String) {
        let index = self.totals.received;
        self.totals.received += 1;
        // Its older revision, if any, must survive pruning: the document itself is not gone.
        self.seen.insert(document_id.clone());
        self.refused(index, document_id, reason);
    }

    fn refused(&mut self, index: u64, document_id: String, reason: String) {
        self.totals.refused += 1;
        let status = DocumentStatus::Refused { reason };
        self.batch.push(Waiting::Decided(DocumentOutcome {
            index,
            document_id,
            status,
        }));
    }

    /// Decides everything that waits.
    ///
    /// # Errors
    /// As for [`IngestSession::push`].
    pub async fn flush(&mut self) -> Result<Vec<DocumentOutcome>, RouterError> {
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<String> = batch
            .iter()
            .filter_map(|waiting| match waiting {
                Waiting::Document(_, document) => Some(document.id.clone()),
                Waiting::Decided(_) => None,
            })
            .collect();
        let stored = self.engine.store.revisions(&self.collection, &ids).await?;
        let mut outcomes = Vec::with_capacity(batch.len());
        let mut changed = Vec::new();
        for waiting in batch {
            let (index, document) = match waiting {
                Waiting::Document(index, document) => (index, document),
                Waiting::Decided(outcome) => {
                    outcomes.push(outcome);
                    continue;
                }
            };
            let revision = revision(&document, &self.known.spec.key_spec);
            if stored.get(&document.id) == Some(&revision) {
                self.totals.unchanged += 1;
                outcomes.push(DocumentOutcome {
                    index,
                    document_id: document.id,
                    status: DocumentStatus::Unchanged,
                });
            } else {
                changed.push((index, document, revision));
            }
        }
        outcomes.extend(self.write(changed).await?);
        outcomes.sort_by_key(|outcome| outcome.index);
        Ok(outcomes)
    }

    /// Deletes the documents of the collection that were not in this session, except `keep`.
    ///
    /// # Errors
    /// The store fails.
    pub async fn prune(&mut self, keep: &[String]) -> Result<(), RouterError> {
        let keep: HashSet<&str> = keep.iter().map(String::as_str).collect();
        let gone: Vec<String> = self
            .engine
            .store
            .documents(&self.collection)
            .await?
            .into_iter()
            .map(|(id, _)| id)
            .filter(|id| !self.seen.contains(id) && !keep.contains(id.as_str()))
            .collect();
        if !gone.is_empty() {
            let deleted = self
                .engine
                .store
                .delete_documents(&self.collection, &gone)
                .await?;
            self.totals.pruned += deleted as u64;
            info!(collection = self.collection, deleted, "pruned documents");
        }
        Ok(())
    }

    async fn write(
        &mut self,
        changed: Vec<(u64, Document, String)>,
    ) -> Result<Vec<DocumentOutcome>, RouterError> {
        if changed.is_empty() {
            return Ok(Vec::new());
        }
        let indices: HashMap<String, u64> = changed
            .iter()
            .map(|(index, document, _)| (document.id.clone(), *index))
            .collect();
        let documents = changed
            .into_iter()
            .map(|(_, document, r)| (document, r))
            .collect();
        let prepared = prepare(&self.engine, &self.known, documents, &self.encoded).await?;
        let mut outcomes = Vec::with_capacity(prepared.len());
        let mut puts: Vec<DocumentPut> = Vec::with_capacity(prepared.len());
        for Prepared { put, truncated } in prepared {
            outcomes.push(DocumentOutcome {
                index: indices[&put.document_id],
                document_id: put.document_id.clone(),
                status: DocumentStatus::Written {
                    passages: put.records.len(),
                    truncated,
                },
            });
            puts.push(put);
        }
        let passages: usize = puts.iter().map(|put| put.records.len()).sum();
        self.engine
            .store
            .put_documents(&self.collection, puts)
            .await?;
        self.totals.written += outcomes.len() as u64;
        self.totals.passages += passages as u64;
        Ok(outcomes)
    }
}
