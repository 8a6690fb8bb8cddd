//! Cuts texts into padded batches: sorted by length, filled by token budget.

use crate::tokenize::TokenizedText;

/// Padded tokens in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    /// At most. Larger batches gain nothing on a CPU: the matrix kernel is already saturated, and
    /// activations fall out of the cache.
    most: usize,
    /// At least, where there is work for several: below it the fixed cost of a forward pass shows.
    least: usize,
}

impl Budget {
    /// For networks that pad a batch to its longest text.
    pub(crate) const PADDED: Budget = Budget {
        most: 2048,
        least: 512,
    };
    /// For networks that read texts end to end.
    pub(crate) const END_TO_END: Budget = Budget {
        most: 512,
        least: 128,
    };
}

/// Where a window belongs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Place of its text in the request.
    pub(crate) text: usize,
    /// Its own among the windows of the text.
    pub(crate) window: usize,
    /// How many these are.
    pub(crate) windows: usize,
}

/// One window of a batch.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) place: Place,
    pub(crate) text: TokenizedText,
}

/// Cuts the windows of `texts` into batches for `workers` workers, longest windows first.
///
/// Sorting makes neighbours in a batch similar in length, so padding stays small; starting with
/// the longest keeps the last batches short, so workers finish together.
pub(crate) fn cut(
    texts: Vec<Vec<TokenizedText>>,
    workers: usize,
    budget: Budget,
) -> Vec<Vec<Item>> {
    let place = |(text, windows): (usize, Vec<TokenizedText>)| {
        let count = windows.len();
        (windows.into_iter().enumerate()).map(move |(window, ready)| Item {
            place: Place {
                text,
                window,
                windows: count,
            },
            text: ready,
        })
    };
    let mut items: Vec<Item> = texts.into_iter().enumerate().flat_map(place).collect();
    let total: usize = items.iter().map(|item| item.text.ids.len()).sum();
    let budget = total
        .div_ceil(workers.max(1))
        .clamp(budget.least, budget.most);
    // A stable sort, so that the same texts always make the same batches.
    items.sort_by_key(|item| std::cmp::Reverse(item.text.ids.len()));
    let mut batches: Vec<Vec<Item>> = Vec::new();
    let mut longest = 0;
    for item in items {
        match batches.last_mut() {
            Some(batch) if (batch.len() + 1) * longest <= budget => batch.push(item),
            _ => {
                longest = item.text.ids.len();
                batches.push(vec![item]);
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lengths: &[usize]) -> Vec<Vec<TokenizedText>> {
        let text = |&n: &usize| {
            vec![TokenizedText {
                ids: vec![7; n],
                ..TokenizedText::default()
            }]
        };
        lengths.iter().map(text).collect()
    }

    #[test]
    fn batches_keep_the_budget_and_lose_nothing() {
        let lengths: Vec<usize> = (0..500).map(|i| 2 + (i * 97) % 255).collect();
        let batches = cut(texts(&lengths), 2, Budget::PADDED);
        let mut seen: Vec<usize> = Vec::new();
        let mut padded = 0;
        for batch in &batches {
            let longest = batch
                .iter()
                .map(|item| item.text.ids.len())
                .max()
                .unwrap_or(0);
            assert!(longest * batch.len() <= Budget::PADDED.most);
            padded += longest * batch.len();
            seen.extend(batch.iter().map(|item| item.place.text));
        }
        // Over the whole request: the last batch, of the shortest texts, may pad more.
        let used: usize = lengths.iter().sum();
        assert!(used * 10 >= padded * 9, "{used} of {padded} padded tokens");
        seen.sort_unstable();
        assert_eq!(seen, (0..500).collect::<Vec<_>>());
    }

    #[test]
    fn a_small_request_is_shared_between_workers() {
        assert_eq!(cut(texts(&[200; 10]), 2, Budget::PADDED).len(), 2);
        assert_eq!(cut(texts(&[12]), 2, Budget::PADDED).len(), 1);
        assert_eq!(cut(texts(&[12; 30]), 2, Budget::PADDED).len(), 1);
        assert!(cut(Vec::new(), 2, Budget::PADDED).is_empty());
    }

    #[test]
    fn one_text_longer_than_the_budget_still_runs() {
        assert_eq!(cut(texts(&[4000, 3]), 1, Budget::PADDED).len(), 2);
    }
}
