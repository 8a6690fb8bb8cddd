//! Languages of the analyzer.

use std::fmt;
use std::str::FromStr;

use rust_stemmers::Algorithm;
use serde::{Deserialize, Serialize};

use crate::error::RetrieveError;

macro_rules! languages {
    ($($(#[$doc:meta])* $name:ident = $code:literal),* $(,)?) => {
        /// Language of a collection: chooses stemmer and stop words.
        #[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        #[serde(into = "String", try_from = "String")]
        pub enum Language {
            /// English, `en`.
            #[default]
            English,
            /// No stemmer and no stop words, `none`: mixed or unlisted languages.
            None,
            $($(#[$doc])* $name,)*
        }

        impl Language {
            /// ISO 639-1 code, or `none`.
            pub fn code(self) -> &'static str {
                match self {
                    Self::English => "en",
                    Self::None => "none",
                    $(Self::$name => $code,)*
                }
            }

            /// Every language, English first.
            pub const ALL: &[Self] = &[Self::English, Self::None, $(Self::$name),*];

            pub(super) fn stemmer(self) -> Option<Algorithm> {
                match self {
                    Self::English => Some(Algorithm::English),
                    Self::None => None,
                    $(Self::$name => Some(Algorithm::$name),)*
                }
            }
        }
    };
}

languages! {
    /// Arabic, `ar`.
    Arabic = "ar",
    /// Danish, `da`.
    Danish = "da",
    /// Dutch, `nl`.
    Dutch = "nl",
    /// Finnish, `fi`.
    Finnish = "fi",
    /// French, `fr`.
    French = "fr",
    /// German, `de`.
    German = "de",
    /// Greek, `el`.
    Greek = "el",
    /// Hungarian, `hu`.
    Hungarian = "hu",
    /// Italian, `it`.
    Italian = "it",
    /// Norwegian, `no`.
    Norwegian = "no",
    /// Portuguese, `pt`.
    Portuguese = "pt",
    /// Romanian, `ro`.
    Romanian = "ro",
    /// Russian, `ru`.
    Russian = "ru",
    /// Spanish, `es`.
    Spanish = "es",
    /// Swedish, `sv`.
    Swedish = "sv",
    /// Tamil, `ta`.
    Tamil = "ta",
    /// Turkish, `tr`.
    Turkish = "tr",
}

/// The short English list that RECIPE.md's figures were measured with; longer lists (the ISO one has
/// 1298 words) take words such as `part` and `system` out of the index.
const ENGLISH_STOP_WORDS: &[&str] = &[
    "a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "is", "it",
    "no", "not", "of", "on", "or", "such", "that", "the", "their", "then", "there", "these",
    "they", "this", "to", "was", "will", "with",
];

impl Language {
    /// Lower-case stop words; empty where no list is known.
    pub fn stop_words(self) -> &'static [&'static str] {
        match self {
            Self::English => ENGLISH_STOP_WORDS,
            other => stop_words::lookup(other.code()).unwrap_or_default(),
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl FromStr for Language {
    type Err = RetrieveError;

    /// Reads a code as [`Language::code`] gives it, in any case.
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let wanted = s.trim().to_lowercase();
        Self::ALL
            .iter()
            .copied()
            .find(|l| l.code() == wanted)
            .ok_or(RetrieveError::UnknownLanguage(wanted))
    }
}

impl From<Language> for String {
    fn from(language: Language) -> Self {
        language.code().to_owned()
    }
}

impl TryFrom<String> for Language {
    type Error = RetrieveError;

    fn try_from(s: String) -> Result<Self, Self::Error> {
        s.parse()
    }
}
