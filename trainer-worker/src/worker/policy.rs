//! When to retrain without being asked: a pure function of what was seen and when.
//!
//! A source tells a collection's digest and its number of passages, not which passages changed. So
//! change is estimated: every new digest counts the difference in passages since the last look, and
//! at least one. Replaced passages are thereby counted low; the schedule, when set, catches them.
//!
//! A training that failed for a reason that may pass is tried again after a pause; one that ended in any
//! other way, published or not, waits for the next change.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::corpus::CollectionSummary;

/// Quiet times after which a collection that never is quiet is trained on all the same.
const PATIENCE: u32 = 10;
/// Doublings of the pause after failures.
const MAX_DOUBLINGS: u32 = 6;

/// Settings of background retraining.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetrainConfig {
    /// Whether the worker trains without being asked.
    pub enabled: bool,
    /// Share of passages that must have changed since the last training, above 0.
    pub changed_share: f64,
    /// Quiet time after the last change, so that an ingest in progress is not trained on, seconds; ten
    /// times this after the first change a collection that still changes is trained on all the same. After
    /// a failure that may pass, the pause before the next attempt: twice this, and doubled up to 64 times
    /// it while the failures go on.
    pub quiet_secs: u64,
    /// Retrain a changed collection at the latest this long after the last training, seconds, quiet or
    /// not; 0: never.
    pub every_secs: u64,
    /// Time between two looks at the collections, seconds, at least 1.
    pub poll_secs: u64,
    /// Fewer passages than this are not trained on unless asked for.
    pub min_passages: u64,
}

impl Default for RetrainConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            changed_share: 0.2,
            quiet_secs: 120,
            every_secs: 0,
            poll_secs: 30,
            min_passages: 50,
        }
    }
}

/// What is known about one collection. Times are offsets from any fixed moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Watched {
    digest: String,
    passages: u64,
    /// Passages estimated to have changed since the last training.
    changed: u64,
    /// When the first of them was seen.
    first_change: Duration,
    last_change: Duration,
    last_training: Option<Duration>,
    trained_passages: u64,
    trained_digest: Option<String>,
    /// Failures since the last training.
    failures: u32,
    last_failure: Duration,
}

impl Watched {
    /// First sight of a collection. `trained_digest`: the corpus that the live version was trained
    /// on, if any.
    #[must_use]
    pub fn first_seen(
        now: Duration,
        seen: &CollectionSummary,
        trained_digest: Option<&str>,
    ) -> Self {
        let up_to_date = trained_digest == Some(seen.corpus_digest.as_str());
        Self {
            digest: seen.corpus_digest.clone(),
            passages: seen.passages,
            // Nothing is known about the difference to an older corpus: one change at least.
            changed: match trained_digest {
                Some(_) => u64::from(!up_to_date),
                None => seen.passages,
            },
            first_change: now,
            last_change: now,
            last_training: trained_digest.map(|_| now),
            trained_passages: if trained_digest.is_some() {
                seen.passages
            } else {
                0
            },
            trained_digest: trained_digest.map(str::to_owned),
            failures: 0,
            last_failure: now,
        }
    }

    /// A later look.
    pub fn observe(&mut self, now: Duration, seen: &CollectionSummary) {
        if seen.corpus_digest == self.digest {
            return;
        }
        if self.changed == 0 {
            self.first_change = now;
        }
        self.changed += seen.passages.abs_diff(self.passages).max(1);
        self.digest.clone_from(&seen.corpus_digest);
        self.passages = seen.passages;
        self.last_change = now;
        if self.trained_digest.as_deref() == Some(&self.digest) {
            self.changed = 0;
        }
    }

    /// A training on the corpus `digest` with `passages` passages has ended (published or not), and would
    /// end so again.
    pub fn trained(&mut self, now: Duration, digest: &str, passages: u64) {
        self.last_training = Some(now);
        self.trained_passages = passages;
        self.trained_digest = Some(digest.to_owned());
        self.failures = 0;
        self.first_change = self.last_change;
        self.changed = if digest == self.digest {
            0
        } else {
            self.passages.abs_diff(passages).max(1)
        };
    }

    /// A training failed for a reason that may pass.
    pub fn failed(&mut self, now: Duration) {
        self.failures += 1;
        self.last_failure = now;
    }

    /// Whether another attempt would come too early after the last failure.
    fn pauses(&self, now: Duration, config: &RetrainConfig) -> bool {
        // At least a look long, so that it is one without a quiet time too.
        let pause = Duration::from_secs(config.quiet_secs.max(config.poll_secs));
        let pause = pause.saturating_mul(1 << self.failures.min(MAX_DOUBLINGS));
        self.failures > 0 && now.saturating_sub(self.last_failure) < pause
    }
}

/// The reason to retrain now, if there is one.
#[must_use]
pub fn due(now: Duration, seen: &Watched, config: &RetrainConfig) -> Option<String> {
    if !config.enabled || seen.changed == 0 || seen.passages < config.min_passages {
        return None;
    }
    if seen.pauses(now, config) {
        return None;
    }
    let since = |moment: Duration| now.saturating_sub(moment);
    let quiet = Duration::from_secs(config.quiet_secs);
    // A steady trickle of documents leaves no quiet moment.
    let settled = since(seen.last_change) >= quiet
        || since(seen.first_change) >= quiet.saturating_mul(PATIENCE);
    let Some(last) = seen.last_training else {
        return settled.then(|| "the collection has not been trained yet".to_owned());
    };
    let share = seen.changed as f64 / seen.trained_passages.max(1) as f64;
    if settled && share >= config.changed_share {
        return Some(format!(
            "about {:.0} % of the passages changed",
            share * 100.0
        ));
    }
    let age = since(last);
    if config.every_secs > 0 && age >= Duration::from_secs(config.every_secs) {
        return Some(format!("changed, and last trained {} s ago", age.as_secs()));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(digest: &str, passages: u64) -> CollectionSummary {
        CollectionSummary {
            name: "c".into(),
            passages,
            corpus_digest: digest.into(),
        }
    }

    fn at(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn an_untrained_collection_waits_for_quiet() {
        let config = RetrainConfig::default();
        let mut seen = Watched::first_seen(at(0), &summary("a", 100), None);
        assert_eq!(due(at(119), &seen, &config), None);
        seen.observe(at(119), &summary("b", 200));
        assert_eq!(due(at(238), &seen, &config), None);
        assert!(due(at(239), &seen, &config).is_some());
        let off = RetrainConfig {
            enabled: false,
            ..config.clone()
        };
        assert_eq!(due(at(239), &seen, &off), None);
        let large = RetrainConfig {
            min_passages: 201,
            ..config
        };
        assert_eq!(due(at(239), &seen, &large), None);
    }

    #[test]
    fn a_fifth_of_the_passages_is_enough() {
        let config = RetrainConfig::default();
        let mut seen = Watched::first_seen(at(0), &summary("a", 100), Some("a"));
        assert_eq!(due(at(1000), &seen, &config), None);
        seen.observe(at(1000), &summary("b", 119));
        assert_eq!(due(at(2000), &seen, &config), None);
        seen.observe(at(2000), &summary("c", 119));
        assert_eq!(due(at(2119), &seen, &config), None);
        assert!(due(at(2120), &seen, &config).is_some_and(|r| r.contains("20 %")));
        seen.trained(at(2130), "c", 119);
        assert_eq!(due(at(9000), &seen, &config), None);
    }

    #[test]
    fn deleting_everything_and_putting_it_back_is_no_change() {
        let config = RetrainConfig {
            min_passages: 0,
            ..RetrainConfig::default()
        };
        let mut seen = Watched::first_seen(at(0), &summary("a", 100), Some("a"));
        seen.observe(at(10), &summary("empty", 0));
        assert!(due(at(200), &seen, &config).is_some());
        seen.observe(at(300), &summary("a", 100));
        assert_eq!(due(at(900), &seen, &config), None);
    }

    #[test]
    fn the_schedule_needs_a_change() {
        let config = RetrainConfig {
            every_secs: 3600,
            ..RetrainConfig::default()
        };
        let mut seen = Watched::first_seen(at(0), &summary("a", 100), Some("a"));
        assert_eq!(due(at(10_000), &seen, &config), None);
        seen.observe(at(10_000), &summary("b", 100));
        // At the latest means that an ingest in progress is no excuse.
        assert!(due(at(10_000), &seen, &config).is_some_and(|r| r.contains("10000 s")));
        seen.trained(at(10_100), "b", 100);
        seen.observe(at(10_200), &summary("c", 100));
        assert_eq!(due(at(13_699), &seen, &config), None);
        assert!(due(at(13_700), &seen, &config).is_some());
    }

    #[test]
    fn a_steady_trickle_is_trained_on() {
        let config = RetrainConfig::default();
        let mut seen = Watched::first_seen(at(0), &summary("a", 100), Some("a"));
        // A passage a minute, never two minutes without one.
        let trickle = |from: u64, minutes: u64, seen: &mut Watched| {
            for minute in 0..minutes {
                let now = from + 60 * minute;
                let digest = format!("at {now}");
                seen.observe(at(now), &summary(&digest, 101 + minute));
                if due(at(now), seen, &config).is_some() {
                    return Some((now - from, digest, 101 + minute));
                }
            }
            None
        };
        let (waited, digest, passages) = trickle(6000, 60, &mut seen).unwrap();
        assert_eq!(waited, 1200, "ten quiet times, and 21 % changed");
        seen.trained(at(7260), &digest, passages);
        // The wait begins anew.
        assert_eq!(trickle(7300, 20, &mut seen), None);
    }

    #[test]
    fn failures_pause_longer_and_longer_until_a_training_ends() {
        let config = RetrainConfig::default();
        let mut seen = Watched::first_seen(at(0), &summary("a", 100), None);
        let mut now = 120;
        for pause in [240, 480, 960, 1920, 3840, 7680, 7680, 7680] {
            assert!(due(at(now), &seen, &config).is_some());
            seen.failed(at(now));
            assert_eq!(due(at(now + pause - 1), &seen, &config), None, "{pause}");
            now += pause;
        }
        assert!(due(at(now), &seen, &config).is_some());
        seen.trained(at(now), "a", 100);
        assert_eq!(due(at(now + 9000), &seen, &config), None);
        seen.observe(at(now + 9000), &summary("b", 200));
        assert!(due(at(now + 9120), &seen, &config).is_some());
        // Without a quiet time there is a pause all the same.
        let hasty = RetrainConfig {
            quiet_secs: 0,
            ..config
        };
        seen.failed(at(now + 9120));
        assert_eq!(due(at(now + 9179), &seen, &hasty), None);
        assert!(due(at(now + 9180), &seen, &hasty).is_some());
    }

    #[test]
    fn what_changed_during_a_training_still_counts() {
        let config = RetrainConfig::default();
        let mut seen = Watched::first_seen(at(0), &summary("a", 100), None);
        seen.observe(at(5), &summary("b", 200));
        seen.trained(at(50), "a", 100);
        assert!(due(at(200), &seen, &config).is_some_and(|r| r.contains("100 %")));
    }
}
