//! The encoder and corpora of the tests. The encoder is loaded once for all of them.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use moerag_encoder::{DeviceKind, EncodeOptions, Encoder};
use moerag_retrieve::{
    Analyzer, KeySpec, Language, PassageFeatures, PassageInput, TokenCodec, encoded_text,
    sentence_text, sentences,
};
use ndarray::ArrayView2;
use trainer_worker::corpus::{CorpusSpec, TrainingCorpus, TrainingPassage};
use trainer_worker::{QueryEncoder, TrainConfig};

use crate::text::articles;

pub(crate) fn encoder() -> Arc<Encoder> {
    static ENCODER: OnceLock<Arc<Encoder>> = OnceLock::new();
    let load = || {
        let directory = moerag_encoder::default_dir().unwrap();
        match Encoder::load(&directory, DeviceKind::Flex) {
            Ok(encoder) => Arc::new(encoder),
            Err(error) => {
                panic!("these tests need the encoder's files (scripts/test fetches them): {error}")
            }
        }
    };
    Arc::clone(ENCODER.get_or_init(load))
}

/// The same, remembering nothing.
pub(crate) fn query_encoder() -> QueryEncoder {
    QueryEncoder::new(encoder(), 0)
}

/// The articles as a collection.
pub(crate) fn corpus() -> Arc<TrainingCorpus> {
    static CORPUS: OnceLock<Arc<TrainingCorpus>> = OnceLock::new();
    let build = || {
        let passages: Vec<(String, String)> = articles()
            .into_iter()
            .map(|article| (article.title, article.sentences.join(" ")))
            .collect();
        Arc::new(corpus_of("articles", Language::English, &passages))
    };
    Arc::clone(CORPUS.get_or_init(build))
}

/// A collection with one passage per (title, body).
pub(crate) fn corpus_of(
    name: &str,
    language: Language,
    passages: &[(String, String)],
) -> TrainingCorpus {
    TrainingCorpus::new(spec(name, language), encode(language, passages), None)
}

pub(crate) fn spec(name: &str, language: Language) -> CorpusSpec {
    CorpusSpec {
        collection: name.to_owned(),
        space: encoder().space().to_string(),
        key_spec: KeySpec::default(),
        language,
    }
}

pub(crate) fn encode(language: Language, passages: &[(String, String)]) -> Vec<TrainingPassage> {
    let encoder = encoder();
    let (codec, analyzer) = (
        TokenCodec::new(&KeySpec::default()),
        Analyzer::new(language),
    );
    let texts: Vec<String> = passages
        .iter()
        .map(|(title, body)| encoded_text(title, body))
        .collect();
    let ranges: Vec<Vec<Range<usize>>> = passages.iter().map(|(_, body)| sentences(body)).collect();
    let mut alone = Vec::new();
    for ((title, body), ranges) in passages.iter().zip(&ranges) {
        alone.extend(
            ranges
                .iter()
                .map(|r| sentence_text(title, &body[r.clone()])),
        );
    }
    let encodings = encoder.encode(&texts, &EncodeOptions::passage()).unwrap();
    let options = EncodeOptions::passage().without_tokens();
    let mut vectors = encoder
        .encode(&alone, &options)
        .unwrap()
        .into_iter()
        .map(|e| e.vector);
    let mut all = Vec::new();
    for (i, ((title, body), encoding)) in passages.iter().zip(encodings).enumerate() {
        let own: Vec<Vec<f32>> = vectors.by_ref().take(ranges[i].len()).collect();
        let shape = (encoding.token_ids.len(), encoder.dim());
        let features = PassageFeatures::build(
            &codec,
            &analyzer,
            &PassageInput {
                title,
                body,
                sentences: &ranges[i],
                vector: &encoding.vector,
                states: ArrayView2::from_shape(shape, &encoding.states).unwrap(),
                token_ids: &encoding.token_ids,
                offsets: &encoding.offsets,
                sentence_vectors: &own,
            },
        );
        all.push(TrainingPassage {
            document_id: format!("doc-{i:03}"),
            ordinal: 0,
            revision: "r1".to_owned(),
            title: title.clone(),
            text: body.clone(),
            sentences: ranges[i].clone(),
            features,
        });
    }
    all
}

/// Settings for quick trainings.
pub(crate) fn quick() -> TrainConfig {
    TrainConfig {
        synthetic_queries: 360,
        held_out_share: 0.2,
        ..TrainConfig::default()
    }
}
