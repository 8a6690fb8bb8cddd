//! Documents to what a store takes: split, encode, compress.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use moerag_encoder::{EncodeOptions, Encoding};
use moerag_retrieve::{MAX_SENTENCES, PassageFeatures, PassageInput, encoded_text, sentence_text};
use moerag_store::{Document, DocumentPut, Passage, PassageRecord, split};
use ndarray::ArrayView2;
use rayon::prelude::*;

use super::engine::{Inner, KnownCollection};
use crate::domain::RouterError;

/// Passages encoded at once: until they are compressed, token states are 400 KB a passage, 1 MB of one that is
/// read in four windows (both at 384 dimensions).
const CHUNK: usize = 64;

/// A document ready to be stored.
pub(super) struct Prepared {
    pub(super) put: DocumentPut,
    /// Passages longer than the encoder reads at once.
    pub(super) truncated: usize,
}

/// A passage and what the encoder says about it.
struct Encoded {
    document: usize,
    passage: Passage,
    encoding: Encoding,
    sentence_vectors: Vec<Vec<f32>>,
}

/// Prepares documents, given with their revisions. Passages of all of them are encoded together,
/// and counted in `encoded`.
pub(super) async fn prepare(
    inner: &Arc<Inner>,
    known: &Arc<KnownCollection>,
    documents: Vec<(Document, String)>,
    encoded: &AtomicU64,
) -> Result<Vec<Prepared>, RouterError> {
    let mut prepared: Vec<Prepared> = documents
        .iter()
        .map(|(document, revision)| Prepared {
            put: DocumentPut {
                document_id: document.id.clone(),
                revision: revision.clone(),
                records: Vec::new(),
            },
            truncated: 0,
        })
        .collect();
    let splitter = Arc::clone(inner);
    let mut passages = inner
        .background
        .run(move || split_all(&splitter, &documents))
        .await?
        .into_iter();
    loop {
        let chunk: Vec<(usize, Passage)> = passages.by_ref().take(CHUNK).collect();
        if chunk.is_empty() {
            return Ok(prepared);
        }
        let length = chunk.len();
        let chunk = encode_chunk(inner, chunk).await?;
        let (inner, known) = (Arc::clone(inner), Arc::clone(known));
        let background = inner.background.clone();
        let records = background
            .run(move || compress_all(&inner, &known, chunk))
            .await??;
        for (document, truncated, record) in records {
            prepared[document].truncated += usize::from(truncated);
            prepared[document].put.records.push(record);
        }
        encoded.fetch_add(length as u64, Ordering::Relaxed);
    }
}

/// Passages of all documents in order, each with the position of its document.
fn split_all(inner: &Inner, documents: &[(Document, String)]) -> Vec<(usize, Passage)> {
    let tokenizer = inner.encoder.encoder().tokenizer();
    let per_document: Vec<Vec<(usize, Passage)>> = documents
        .par_iter()
        .enumerate()
        .map(|(at, (document, revision))| {
            let mut passages = split(document, &|text| tokenizer.token_count(text));
            for passage in &mut passages {
                passage.revision.clone_from(revision);
            }
            passages.into_iter().map(|passage| (at, passage)).collect()
        })
        .collect();
    per_document.into_iter().flatten().collect()
}

/// Encodes passages and their sentences.
async fn encode_chunk(
    inner: &Inner,
    chunk: Vec<(usize, Passage)>,
) -> Result<Vec<Encoded>, RouterError> {
    let texts = chunk
        .iter()
        .map(|(_, p)| encoded_text(&p.title, &p.text))
        .collect();
    let sentences = chunk.iter().flat_map(|(_, p)| sentence_texts(p)).collect();
    let (encodings, vectors) = futures::future::try_join(
        inner.encoder.encode(texts, EncodeOptions::passage()),
        inner
            .encoder
            .encode(sentences, EncodeOptions::passage().without_tokens()),
    )
    .await
    .map_err(|error| RouterError::internal("encoding passages", error))?;
    let mut vectors = vectors.into_iter().map(|encoding| encoding.vector);
    Ok(chunk
        .into_iter()
        .zip(encodings)
        .map(|((document, passage), encoding)| Encoded {
            sentence_vectors: vectors.by_ref().take(encoded_sentences(&passage)).collect(),
            document,
            passage,
            encoding,
        })
        .collect())
}

/// Makes records: position of the document, whether its text was cut, the record.
fn compress_all(
    inner: &Inner,
    known: &KnownCollection,
    chunk: Vec<Encoded>,
) -> Result<Vec<(usize, bool, PassageRecord)>, RouterError> {
    chunk
        .into_par_iter()
        .map(|encoded| {
            let features = compress(inner, known, &encoded)?;
            let record = PassageRecord {
                passage: encoded.passage,
                features,
            };
            Ok((encoded.document, encoded.encoding.truncated, record))
        })
        .collect()
}

fn compress(
    inner: &Inner,
    known: &KnownCollection,
    encoded: &Encoded,
) -> Result<PassageFeatures, RouterError> {
    let Encoded {
        passage, encoding, ..
    } = encoded;
    let shape = (encoding.token_ids.len(), inner.encoder.encoder().dim());
    let states = ArrayView2::from_shape(shape, &encoding.states)
        .map_err(|error| RouterError::internal("shaping a passage's token states", error))?;
    let input = PassageInput {
        title: &passage.title,
        body: &passage.text,
        sentences: &passage.sentences,
        vector: &encoding.vector,
        states,
        token_ids: &encoding.token_ids,
        offsets: &encoding.offsets,
        sentence_vectors: &encoded.sentence_vectors,
    };
    Ok(PassageFeatures::build(
        &inner.codec,
        &known.analyzer,
        &input,
    ))
}

fn encoded_sentences(passage: &Passage) -> usize {
    passage.sentences.len().min(MAX_SENTENCES)
}

fn sentence_texts(passage: &Passage) -> impl Iterator<Item = String> + '_ {
    let text = |range: &Range<usize>| sentence_text(&passage.title, &passage.text[range.clone()]);
    passage.sentences[..encoded_sentences(passage)]
        .iter()
        .map(text)
}
