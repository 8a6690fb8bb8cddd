//! Seventy-seven short encyclopedic passages about invented things, put together from facts: enough to learn
//! from, small enough to encode in a test. Passages of one kind differ in their facts alone, so they
//! are hard negatives of each other.

mod nature;
mod works;

/// Title and sentences of one passage.
pub(crate) struct Article {
    pub(crate) title: String,
    pub(crate) sentences: Vec<String>,
}

/// All of them.
pub(crate) fn articles() -> Vec<Article> {
    let mut all = Vec::new();
    works::add(&mut all);
    nature::add(&mut all);
    all
}

fn article(title: &str, sentences: &[String]) -> Article {
    Article {
        title: capitalised(title),
        sentences: sentences.to_vec(),
    }
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(chars).collect()
    })
}
