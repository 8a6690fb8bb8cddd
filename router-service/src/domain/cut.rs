//! The order of passages and where a reply ends.

use std::cmp::Ordering;

/// What the order of a passage depends on.
#[derive(Clone, Debug)]
pub struct Ranked<'a> {
    /// Attention weight, scaled by the share of its collection.
    pub weight: f64,
    /// Name of its collection.
    pub collection: &'a str,
    /// Document it belongs to.
    pub document_id: &'a str,
    /// Position in its document.
    pub ordinal: u32,
}

impl Ranked<'_> {
    /// Higher weights first; ties by collection, document id and ordinal, so that the order does
    /// not depend on the store.
    pub fn order(&self, other: &Self) -> Ordering {
        other
            .weight
            .total_cmp(&self.weight)
            .then_with(|| self.collection.cmp(other.collection))
            .then_with(|| self.document_id.cmp(other.document_id))
            .then_with(|| self.ordinal.cmp(&other.ordinal))
    }
}

/// Where a reply ends.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Largest number of passages.
    pub top_k: usize,
    /// Largest total number of wordpieces.
    pub budget_tokens: Option<usize>,
    /// Smallest weight.
    pub min_weight: f64,
}

impl Cut {
    /// Number of passages to return of those given by rank as (weight, wordpieces).
    pub fn length(&self, ranked: impl IntoIterator<Item = (f64, usize)>) -> usize {
        let mut left = self.budget_tokens.unwrap_or(usize::MAX);
        ranked
            .into_iter()
            .take(self.top_k)
            .take_while(|(weight, tokens)| {
                let fits = *tokens <= left;
                left = left.saturating_sub(*tokens);
                fits && *weight >= self.min_weight
            })
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Cut = Cut {
        top_k: 10,
        budget_tokens: None,
        min_weight: 0.0,
    };

    #[test]
    fn ties_break_by_collection_document_and_ordinal() {
        let of = |weight, collection, document_id, ordinal| Ranked {
            weight,
            collection,
            document_id,
            ordinal,
        };
        let mut passages = [
            of(0.1, "a", "a", 0),
            of(0.2, "b", "a", 0),
            of(0.2, "a", "b", 1),
            of(0.2, "a", "b", 0),
            of(0.2, "a", "a", 7),
        ];
        passages.sort_by(Ranked::order);
        let keys: Vec<_> = passages
            .iter()
            .map(|p| (p.collection, p.document_id, p.ordinal))
            .collect();
        assert_eq!(
            keys,
            [
                ("a", "a", 7),
                ("a", "b", 0),
                ("a", "b", 1),
                ("b", "a", 0),
                ("a", "a", 0)
            ]
        );
    }

    #[test]
    fn each_limit_ends_the_reply() {
        let ranked = [(0.5, 100), (0.3, 100), (0.2, 10)];
        assert_eq!(ALL.length(ranked), 3);
        assert_eq!(Cut { top_k: 2, ..ALL }.length(ranked), 2);
        assert_eq!(
            Cut {
                min_weight: 0.25,
                ..ALL
            }
            .length(ranked),
            2
        );
        assert_eq!(
            Cut {
                budget_tokens: Some(200),
                ..ALL
            }
            .length(ranked),
            2
        );
        // A passage that does not fit ends the reply: a later one would jump the rank.
        assert_eq!(
            Cut {
                budget_tokens: Some(150),
                ..ALL
            }
            .length(ranked),
            1
        );
        assert_eq!(
            Cut {
                budget_tokens: Some(50),
                ..ALL
            }
            .length(ranked),
            0
        );
    }
}
