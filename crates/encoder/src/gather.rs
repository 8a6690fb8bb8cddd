//! Finished batches put back in the order of the request, windows into their texts.

use crate::batch::Place;
use crate::encoding::{EncodeOptions, Encoding};
use crate::error::EncoderError;

/// One finished batch: the place of each window, with its encoding.
pub(crate) type Part = Result<Vec<(Place, Encoding)>, EncoderError>;

/// The most parts that a request of this many texts sends: its batches and one error, so that a
/// worker never waits for a reader.
pub(crate) fn most_parts(texts: usize, options: &EncodeOptions<'_>) -> usize {
    texts * options.windows.max(1) + 1
}

/// Puts finished batches back in the request's order.
pub(crate) struct Gathered {
    /// The windows of each text, as far as they are there.
    slots: Vec<Vec<Option<Encoding>>>,
    done: usize,
}

impl Gathered {
    pub(crate) fn new(texts: usize) -> Self {
        Gathered {
            slots: vec![Vec::new(); texts],
            done: 0,
        }
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.done >= self.slots.len()
    }

    /// Returns the number of texts done.
    pub(crate) fn add(&mut self, part: Vec<(Place, Encoding)>) -> usize {
        for (place, encoding) in part {
            let windows = &mut self.slots[place.text];
            windows.resize(place.windows, None);
            let news = windows[place.window].replace(encoding).is_none();
            if news && windows.iter().all(Option::is_some) {
                self.done += 1;
            }
        }
        self.done
    }

    pub(crate) fn into_encodings(self) -> Vec<Encoding> {
        let whole = |windows: Vec<Option<Encoding>>| {
            windows.into_iter().flatten().reduce(|mut text, further| {
                text.append(further);
                text
            })
        };
        self.slots.into_iter().filter_map(whole).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_come_together_in_any_order() {
        let window = |text, window, windows| {
            let encoding = Encoding {
                vector: vec![window as f32],
                token_ids: vec![(10 * text + window) as u32],
                ..Encoding::default()
            };
            let place = Place {
                text,
                window,
                windows,
            };
            (place, encoding)
        };
        let mut gathered = Gathered::new(2);
        assert_eq!(gathered.add(vec![window(0, 2, 3), window(0, 0, 3)]), 0);
        assert_eq!(gathered.add(vec![window(1, 0, 1), window(1, 0, 1)]), 1);
        assert!(!gathered.is_complete());
        assert_eq!(gathered.add(vec![window(0, 1, 3)]), 2);
        assert!(gathered.is_complete());
        let texts = gathered.into_encodings();
        assert_eq!(texts[0].token_ids, [0, 1, 2]);
        assert_eq!(texts[0].vector, [0.0]);
        assert_eq!(texts[1].token_ids, [10]);
    }
}
