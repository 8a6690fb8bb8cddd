//! Synthetic queries from passages alone: eight types, six overlap levels (RECIPE.md).
//!
//! Every query has a random stream of its own, seeded by (seed, passage id, level, round), and
//! passages are visited in an order that depends on these alone. So neither the order in which
//! passages arrive nor the number of threads changes the result, and a small change of the corpus
//! changes few queries.

mod levels;
mod neighbours;
mod ppmi;
mod typed;
mod words;

use std::collections::{HashMap, HashSet};

use moerag_encoder::Encoder;
use moerag_model::QUERY_TYPES;
use moerag_retrieve::{Analyzer, TokenCodec, encoded_text};
use ndarray::ArrayView2;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

pub use levels::Level;

use crate::corpus::{PassageText, TrainingCorpus};
use crate::error::TrainError;
use crate::progress::{Progress, Stage, StageClock};
use levels::{SalientWord, cloze_statement, gist, hidden_terms, paraphrase, pick_sentence, thin};
use neighbours::{Neighbours, StaticWords};
use ppmi::Ppmi;
use typed::{Draft, asks_in_english, typed_query};
pub(crate) use words::Lexicon;

/// Draws of one passage before it is given up for this round.
const ATTEMPTS: usize = 4;
/// Times that a passage may serve one level. Bounds the work on tiny corpora.
const MAX_ROUNDS: u32 = 48;
/// Passages drawn between two looks at the quota and the cancel flag.
const CHUNK: usize = 64;
/// Sentences counted for the co-occurrence neighbours.
const MAX_SENTENCES_COUNTED: usize = 60_000;

/// A query made from one passage, which is its gold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntheticQuery {
    /// What is asked.
    pub text: String,
    /// The same without its question words; equal to `text` where there are none.
    pub bare: String,
    /// Index of the source passage in the corpus.
    pub passage: usize,
    /// Index into [`QUERY_TYPES`].
    pub query_type: usize,
    /// Overlap level.
    pub level: Level,
    /// The rule that made it, for example `causal: cause cue`.
    pub rule: String,
    /// Source sentence, index into the passage's sentences.
    pub sentence: usize,
    /// Whether the source sentence is cut from the gold.
    pub cut: bool,
    /// Stems hidden in the gold, sorted.
    pub hidden_terms: Vec<u32>,
}

/// Makes up to `count` queries. Fewer when the corpus does not carry more; never an endless loop.
///
/// # Errors
/// [`TrainError::Cancelled`] within one chunk of passages after `cancel`; [`TrainError::Encoder`] when
/// its word embeddings cannot be read.
pub fn generate(
    corpus: &TrainingCorpus,
    encoder: &Encoder,
    codec: &TokenCodec,
    count: usize,
    seed: u64,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<Vec<SyntheticQuery>, TrainError> {
    let clock = StageClock::start(Stage::Synth, count, progress);
    let analyzer = Analyzer::new(corpus.language);
    let lexicon = Lexicon::new(&analyzer, &corpus.stats);
    let neighbours = fit_neighbours(corpus, encoder, &lexicon, seed, cancel)?;
    let generator = Generator {
        corpus,
        encoder,
        codec,
        english: asks_in_english(corpus.language),
        lexicon: &lexicon,
        neighbours: &neighbours,
        seed,
    };
    let mut levels: Vec<std::vec::IntoIter<SyntheticQuery>> = Vec::new();
    let mut made = 0;
    for level in Level::ALL {
        // Level = index mod 6, so the first levels take the remainder.
        let quota = count / 6 + usize::from(level.index() < count % 6);
        let queries = generator.level(level, quota, cancel)?;
        made += queries.len();
        clock.advance(made, None);
        levels.push(queries.into_iter());
    }
    let mut queries = Vec::with_capacity(made);
    while queries.len() < made {
        queries.extend(levels.iter_mut().filter_map(Iterator::next));
    }
    Ok(queries)
}

fn fit_neighbours<'a>(
    corpus: &TrainingCorpus,
    encoder: &Encoder,
    lexicon: &'a Lexicon<'a>,
    seed: u64,
    cancel: &CancellationToken,
) -> Result<Neighbours<'a>, TrainError> {
    // Passages in the order of their hash: a fixed sample when there are too many.
    let mut order: Vec<(u64, usize)> = (0..corpus.len())
        .map(|i| (draw(seed, &corpus.texts[i], "neighbours", 0).random(), i))
        .collect();
    order.sort_unstable();
    let mut budget = MAX_SENTENCES_COUNTED;
    order.retain(|(_, i)| {
        let room = budget > 0;
        budget = budget.saturating_sub(corpus.texts[*i].sentences.len());
        room
    });
    let scanned: Vec<Vec<Vec<(u32, String)>>> = order
        .par_iter()
        .map(|(_, i)| {
            if cancel.is_cancelled() {
                return Err(TrainError::Cancelled);
            }
            let passage = &corpus.texts[*i];
            let stems = |range: &std::ops::Range<usize>| {
                let words = lexicon.words(&passage.text[range.clone()]);
                words
                    .into_iter()
                    .filter_map(|w| w.term.map(|t| (t, w.lower)))
                    .collect()
            };
            Ok(passage.sentences.iter().map(stems).collect())
        })
        .collect::<Result<_, TrainError>>()?;
    let mut surface: HashMap<u32, String> = HashMap::new();
    let mut sentences = Vec::new();
    for sentence in scanned.into_iter().flatten() {
        let mut stems = Vec::with_capacity(sentence.len());
        for (term, word) in sentence {
            stems.push(term);
            surface.entry(term).or_insert(word);
        }
        sentences.push(stems);
    }
    let rng = ChaCha8Rng::seed_from_u64(seed);
    Ok(Neighbours {
        lexicon,
        static_words: StaticWords::from_encoder(encoder, lexicon)?,
        corpus: Ppmi::fit(&sentences, rng, cancel),
        surface,
    })
}

/// The random stream of (seed, passage, purpose, round).
pub(crate) fn draw(seed: u64, passage: &PassageText, purpose: &str, round: u32) -> ChaCha8Rng {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(passage.document_id.as_bytes());
    // A separator that no id can imitate: lengths.
    hash.update((passage.document_id.len() as u64).to_le_bytes());
    hash.update(passage.ordinal.to_le_bytes());
    hash.update(purpose.as_bytes());
    hash.update(round.to_le_bytes());
    ChaCha8Rng::from_seed(hash.finalize().into())
}

struct Generator<'a> {
    corpus: &'a TrainingCorpus,
    encoder: &'a Encoder,
    codec: &'a TokenCodec,
    english: bool,
    lexicon: &'a Lexicon<'a>,
    neighbours: &'a Neighbours<'a>,
    seed: u64,
}

impl Generator<'_> {
    /// Up to `quota` different queries of one level, each passage at most once a round.
    fn level(
        &self,
        level: Level,
        quota: usize,
        cancel: &CancellationToken,
    ) -> Result<Vec<SyntheticQuery>, TrainError> {
        let mut queries = Vec::with_capacity(quota);
        let mut seen = HashSet::new();
        for round in 0..MAX_ROUNDS {
            let mut order: Vec<(u64, usize)> = (0..self.corpus.len())
                .map(|i| (self.stream(i, level, round).random(), i))
                .collect();
            order.sort_unstable();
            let before = queries.len();
            for chunk in order.chunks(CHUNK) {
                if cancel.is_cancelled() {
                    return Err(TrainError::Cancelled);
                }
                if queries.len() == quota {
                    return Ok(queries);
                }
                let drawn: Vec<Option<SyntheticQuery>> = chunk
                    .par_iter()
                    .map(|(_, passage)| self.query(*passage, level, round))
                    .collect();
                for query in drawn.into_iter().flatten() {
                    if queries.len() < quota && seen.insert((query.passage, query.text.clone())) {
                        queries.push(query);
                    }
                }
            }
            // A round without anything new: the corpus is exhausted for this level.
            if queries.len() == before {
                break;
            }
        }
        Ok(queries)
    }

    fn stream(&self, passage: usize, level: Level, round: u32) -> ChaCha8Rng {
        draw(self.seed, &self.corpus.texts[passage], level.name(), round)
    }

    fn query(&self, passage: usize, level: Level, round: u32) -> Option<SyntheticQuery> {
        let mut rng = self.stream(passage, level, round);
        // The first number decided the passage's turn.
        let _turn: u64 = rng.random();
        (0..ATTEMPTS).find_map(|_| self.attempt(passage, level, &mut rng))
    }

    fn attempt(&self, index: usize, level: Level, rng: &mut ChaCha8Rng) -> Option<SyntheticQuery> {
        let passage = &self.corpus.texts[index];
        let sentence = pick_sentence(&passage.text, &passage.sentences, rng)?;
        let source = &passage.text[passage.sentences[sentence].clone()];
        let typed = |rng: &mut ChaCha8Rng| {
            typed_query(self.lexicon, self.english, &passage.title, source, rng)
        };
        let mut hidden = Vec::new();
        let draft = match level {
            Level::Lexical => typed(rng)?,
            Level::Abstraction => {
                let draft = typed(rng)?;
                Draft {
                    body: thin(draft.body, 0.5, self.lexicon, rng),
                    ..draft
                }
            }
            Level::Paraphrase => {
                let draft = typed(rng)?;
                Draft {
                    body: paraphrase(draft.body, self.neighbours, rng),
                    ..draft
                }
            }
            Level::InverseCloze => {
                // Cutting the only sentence would leave nothing to find.
                if passage.sentences.len() < 2 {
                    return None;
                }
                if rng.random_bool(0.5) {
                    cloze_statement(source, self.lexicon, rng)
                } else {
                    typed(rng)?
                }
            }
            Level::Mismatch => {
                let draft = typed(rng)?;
                let draft = Draft {
                    body: thin(draft.body, 0.2, self.lexicon, rng),
                    ..draft
                };
                hidden = hidden_terms(&draft.body, 0.5, self.lexicon, rng);
                draft
            }
            Level::Gist => {
                let draft = gist(
                    self.salient_words(index),
                    self.english,
                    self.neighbours,
                    rng,
                )?;
                hidden = hidden_terms(&draft.body, 0.3, self.lexicon, rng);
                draft
            }
        };
        if draft.len() < 3 {
            return None;
        }
        let statement = draft.rule == "thinned sentence" || level == Level::Gist;
        Some(self.finish(
            index,
            sentence,
            level,
            draft,
            hidden,
            statement || rng.random_bool(0.6),
        ))
    }

    fn finish(
        &self,
        passage: usize,
        sentence: usize,
        level: Level,
        draft: Draft,
        hidden_terms: Vec<u32>,
        lower_case: bool,
    ) -> SyntheticQuery {
        let mut bare = draft.body.join(" ");
        if lower_case {
            bare = bare.to_lowercase();
        }
        let text = if draft.opener.is_empty() {
            bare.clone()
        } else {
            format!("{} {bare}", draft.opener)
        };
        SyntheticQuery {
            text,
            bare,
            passage,
            query_type: draft.query_type,
            level,
            rule: format!("{}: {}", QUERY_TYPES[draft.query_type], draft.rule),
            sentence,
            cut: level == Level::InverseCloze,
            hidden_terms,
        }
    }

    /// The content words of a passage with their nearness to its vector, read off the stored keys:
    /// nothing is encoded again.
    fn salient_words(&self, index: usize) -> Vec<SalientWord> {
        let (passage, features) = (&self.corpus.texts[index], &self.corpus.features[index]);
        let text = encoded_text(&passage.title, &passage.text);
        let known = features.keys.seq();
        let Ok(spans) = self.encoder.tokenizer().spans(&text, known) else {
            return Vec::new();
        };
        let dim = features.vector.len();
        let Ok(vector) = ArrayView2::from_shape((1, dim), &features.vector) else {
            return Vec::new();
        };
        let tokens = &features.keys.tokens;
        let cosines = (self.codec).similarities(vector, tokens.of(&features.vector));
        let known = known.min(spans.len());

        let mut found = HashSet::new();
        let mut salient = Vec::new();
        let mut first = 0;
        for word in self.lexicon.words(&text) {
            let Some(term) = word.term else { continue };
            if word.text.len() < 3 || !word.text.starts_with(char::is_alphabetic) {
                continue;
            }
            while first < known && spans[first].end <= word.range.start {
                first += 1;
            }
            let inside: Vec<usize> = (first..known)
                .take_while(|k| spans[*k].start < word.range.end)
                .filter(|k| spans[*k].start >= word.range.start && spans[*k].end <= word.range.end)
                .collect();
            if inside.is_empty() || !found.insert(term) {
                continue;
            }
            let mean = inside
                .iter()
                .map(|k| cosines[[tokens.slot(*k), 0]])
                .sum::<f32>()
                / inside.len() as f32;
            salient.push(SalientWord {
                text: word.text.to_owned(),
                score: mean * (0.5 + self.lexicon.rarity(term, 0.5)),
                position: word.range.start,
            });
        }
        salient
    }
}
