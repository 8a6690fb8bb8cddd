//! The identity of an embedding space.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::config::{EncoderConfig, Pooling};

/// Names the space that vectors live in: encoder, revision, prefixes and pooling (DESIGN.md
/// section 2).
///
/// Two vectors may be compared exactly when their spaces are equal; an equal dimension proves
/// nothing. The id depends on file contents alone, never on the directory's name.
///
/// Example: `bert-l6-d384@53aa51172d14+tok-be50c362+mean`; an encoder with prefixes adds
/// `+q"query: "+p"passage: "`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EmbeddingSpaceId(String);

impl EmbeddingSpaceId {
    pub(crate) fn new(config: &EncoderConfig, weights_sha256: &str, tokenizer: &[u8]) -> Self {
        let bert = &config.bert;
        let pooling = match config.pooling {
            Pooling::Mean => "mean",
            Pooling::Cls => "cls",
        };
        let tokenizer = hex::encode(Sha256::digest(tokenizer));
        let mut id = format!(
            "bert-l{}-d{}@{:.12}+tok-{tokenizer:.8}+{pooling}",
            bert.num_hidden_layers, bert.hidden_size, weights_sha256
        );
        if !config.query_prefix.is_empty() || !config.passage_prefix.is_empty() {
            id += &format!("+q{:?}+p{:?}", config.query_prefix, config.passage_prefix);
        }
        EmbeddingSpaceId(id)
    }

    /// The id as text, for collection metadata and manifests.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EmbeddingSpaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<String> for EmbeddingSpaceId {
    /// Takes an id read from metadata or a manifest.
    fn from(id: String) -> Self {
        EmbeddingSpaceId(id)
    }
}
