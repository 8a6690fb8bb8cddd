//! Trainings that differ from the product's in one thing, to show what that thing is worth.

use moerag_model::{HEADS, HeadLayout, NUM_HEADS};
use trainer_worker::TrainConfig;
use trainer_worker::synth::Level;
use trainer_worker::train::Variant;

/// One of them.
#[derive(Debug, Clone)]
pub(crate) struct Ablation {
    /// Name in reports.
    pub(crate) name: String,
    /// What is different in heads and queries.
    pub(crate) variant: Variant,
    /// What is different in the settings.
    change: fn(&mut TrainConfig),
}

impl Ablation {
    fn new(name: String, variant: Variant) -> Ablation {
        Ablation {
            name,
            variant,
            change: |_| {},
        }
    }

    /// All of them: each head left out, each overlap level left out, other numbers of heads, no anchor or a fixed one, a loss
    /// term for the heads' diversity.
    pub(crate) fn all() -> Vec<Ablation> {
        let heads = HEADS.iter().enumerate().map(|(at, head)| {
            let variant = Variant {
                layout: HeadLayout::without(at),
                without_linear: at == NUM_HEADS - 1,
                ..Variant::default()
            };
            Ablation::new(format!("without_head_{head}"), variant)
        });
        let levels = Level::ALL.into_iter().map(|level| {
            let variant = Variant {
                without_level: Some(level),
                ..Variant::default()
            };
            Ablation::new(format!("without_level_{}", level.name()), variant)
        });
        let numbers = [1, 2, 4, 8, 16].into_iter().filter_map(|groups| {
            let variant = Variant {
                layout: HeadLayout::of_first_stage_heads(groups)?,
                ..Variant::default()
            };
            Some(Ablation::new(format!("heads_{groups}"), variant))
        });
        let mut all: Vec<Ablation> = heads.chain(levels).chain(numbers).collect();
        let change = |name: &str, change: fn(&mut TrainConfig)| Ablation {
            change,
            ..Ablation::new(name.to_owned(), Variant::default())
        };
        all.push(change("no_anchor", |config| config.loss.anchor = 0.0));
        all.push(change("diversity_term", |config| {
            config.loss.diversity = 1.0
        }));
        all.push(change("fixed_anchor", |config| {
            config.adaptive_anchor = false
        }));
        all
    }

    /// The training's settings.
    pub(crate) fn config(&self, base: &TrainConfig) -> TrainConfig {
        let mut config = base.clone();
        (self.change)(&mut config);
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_only_one_has_no_anchor() {
        let all = Ablation::all();
        let mut names: Vec<&str> = all.iter().map(|a| a.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all.len());
        assert_eq!(all.len(), HEADS.len() + 6 + 5 + 3);
        let config = TrainConfig::default();
        let free = |a: &&Ablation| a.config(&config).loss.anchor == 0.0;
        assert_eq!(all.iter().filter(free).count(), 1);
    }
}
