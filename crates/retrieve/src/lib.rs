//! Retrieval mathematics shared by serving, training and evaluation.
//!
//! The path of a query: [`QueryFeatures`] -> candidates (a store, or [`MemIndex`]) -> [`prune()`] ->
//! [`Views::compute`] -> z-scores -> [`gate_inputs`]. There is one implementation of every view, so
//! that a head meets in serving exactly the numbers it was trained on (invariant 4 of DESIGN.md).
//! The definitions of the views are those of RECIPE.md. Plain `f32`, no tensor library, no threads:
//! the caller decides what runs in parallel.

pub mod codec;
pub mod error;
pub mod gate;
pub mod geometry;
pub mod index;
pub mod keys;
pub mod lex;
pub mod linalg;
pub mod lsi;
pub mod mask;
mod packed;
pub mod passage;
pub mod prune;
pub mod query;
mod sentence;
pub mod stats;
pub mod subspace;
pub mod text;
mod token_views;
pub mod views;

pub use codec::{CodedTokens, SentenceCodes, TokenCodec, TokenCodes};
pub use error::RetrieveError;
pub use gate::{BEST_SCORES, GATE_INPUTS, gate_inputs};
pub use geometry::Geometry;
pub use index::MemIndex;
pub use keys::{KeyBlock, KeySpec, TokenCode};
pub use lex::{LexBlock, lex_block};
pub use lsi::LsiBasis;
pub use mask::GoldMask;
pub use passage::{FeaturesRef, PassageFeatures, PassageInput};
pub use prune::{CheapCandidate, CheapScores, cheap_scores, feedback_vector, prune};
pub use query::QueryFeatures;
pub use stats::CorpusStats;
pub use text::{
    ANALYZER_VERSION, Analyzer, Guess, Language, MAX_SENTENCES, Term, Vocabulary, encoded_text,
    guesses, plain_words, rewritten, sentence_text, sentences,
};
pub use token_views::QueryTokens;
pub use views::{VIEW_COUNT, VIEWS, View, ViewConfig, ViewMatrix, Views};
