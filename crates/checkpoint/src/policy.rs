//! What a router does about the checkpoint store: a pure function of what it serves, what it sees
//! and what failed before.
//!
//! The rules: nothing seen never unloads anything; a version that failed to load is tried again
//! with growing pauses; another version than the failed one is tried at once. So `applied` (what
//! serves) stays apart from what was last seen.

use std::time::{Duration, Instant};

use crate::manifest::Current;

/// First pause after a failed load.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A version to load, with the manifest it must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The version.
    pub version: u64,
    /// sha256 of its manifest, hex.
    pub manifest_sha256: String,
}

impl From<&Current> for Target {
    fn from(current: &Current) -> Self {
        Self {
            version: current.version,
            manifest_sha256: current.manifest_sha256.clone(),
        }
    }
}

/// A load that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What failed to load.
    pub target: Target,
    /// Attempts so far, at least 1.
    pub attempts: u32,
    /// Not before this.
    pub retry_at: Instant,
}

/// What a router remembers between two looks at the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServingState {
    /// What was last swapped in from the store; `None` while the built-in prior serves.
    pub applied: Option<Target>,
    /// The last failed load, until something is applied.
    pub failure: Option<Failure>,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Keep serving.
    Nothing,
    /// Load this, warm it up, swap.
    Load(Target),
    /// Keep serving; the same version may be tried again then.
    RetryAt(Instant),
}

/// Decides. `seen` is `CURRENT.json`, or `None` when it is absent or the store cannot be reached.
pub fn decide(state: &ServingState, seen: Option<&Current>, now: Instant) -> Action {
    let Some(seen) = seen else {
        return Action::Nothing;
    };
    let target = Target::from(seen);
    if state.applied.as_ref() == Some(&target) {
        return Action::Nothing;
    }
    match &state.failure {
        Some(failure) if failure.target == target && now < failure.retry_at => {
            Action::RetryAt(failure.retry_at)
        }
        _ => Action::Load(target),
    }
}

impl ServingState {
    /// `target` was swapped in.
    pub fn on_applied(&mut self, target: Target) {
        *self = Self {
            applied: Some(target),
            failure: None,
        };
    }

    /// `seen` is current. If that is what serves, it no longer matters that another could not be loaded.
    pub fn forget_failure(&mut self, seen: Option<&Current>) {
        if self.applied == seen.map(Target::from) {
            self.failure = None;
        }
    }

    /// Loading `target` failed at `now`; what serves stays. The pause doubles with every attempt.
    pub fn on_failed(&mut self, target: Target, now: Instant) {
        let attempts = match &self.failure {
            Some(failure) if failure.target == target => failure.attempts.saturating_add(1),
            _ => 1,
        };
        let pause = FIRST_PAUSE
            .saturating_mul(1 << (attempts - 1).min(16))
            .min(LONGEST_PAUSE);
        self.failure = Some(Failure {
            target,
            attempts,
            retry_at: now + pause,
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn current(version: u64) -> Current {
        Current {
            version,
            manifest_sha256: format!("sha-{version}"),
            pinned: false,
            generation: version,
            previous: None,
        }
    }

    fn target(version: u64) -> Target {
        Target::from(&current(version))
    }

    fn failed(version: u64, retry_at: Instant) -> Option<Failure> {
        Some(Failure {
            target: target(version),
            attempts: 1,
            retry_at,
        })
    }

    /// Name, what serves, what failed, what is seen, what to do.
    type Case = (
        &'static str,
        Option<Target>,
        Option<Failure>,
        Option<Current>,
        Action,
    );

    #[test]
    fn the_table() {
        let now = Instant::now();
        let later = now + Duration::from_secs(5);
        let serving = |version: u64| Some(target(version));
        let other_manifest = Current {
            manifest_sha256: "other".to_owned(),
            ..current(3)
        };
        let cases: [Case; 12] = [
            (
                "empty store, prior serves",
                None,
                None,
                None,
                Action::Nothing,
            ),
            (
                "first version",
                None,
                None,
                Some(current(1)),
                Action::Load(target(1)),
            ),
            (
                "up to date",
                serving(3),
                None,
                Some(current(3)),
                Action::Nothing,
            ),
            (
                "newer version",
                serving(3),
                None,
                Some(current(4)),
                Action::Load(target(4)),
            ),
            (
                "rolled back",
                serving(4),
                None,
                Some(current(3)),
                Action::Load(target(3)),
            ),
            (
                "a vanished store unloads nothing",
                serving(3),
                None,
                None,
                Action::Nothing,
            ),
            (
                "vanished after a failure",
                serving(3),
                failed(4, later),
                None,
                Action::Nothing,
            ),
            (
                "failed, too early",
                serving(3),
                failed(4, later),
                Some(current(4)),
                Action::RetryAt(later),
            ),
            (
                "failed, due again",
                serving(3),
                failed(4, now),
                Some(current(4)),
                Action::Load(target(4)),
            ),
            (
                "a later version is seen in spite of the failure",
                serving(3),
                failed(4, later),
                Some(current(5)),
                Action::Load(target(5)),
            ),
            (
                "rolled back to what serves",
                serving(3),
                failed(4, later),
                Some(current(3)),
                Action::Nothing,
            ),
            (
                "same number, another manifest",
                serving(3),
                None,
                Some(other_manifest.clone()),
                Action::Load(Target::from(&other_manifest)),
            ),
        ];
        for (name, applied, failure, seen, expected) in cases {
            let state = ServingState { applied, failure };
            assert_eq!(decide(&state, seen.as_ref(), now), expected, "{name}");
        }
    }

    #[test]
    fn pauses_double_up_to_a_minute_and_start_over_for_another_version() {
        let now = Instant::now();
        let mut state = ServingState::default();
        let mut pauses = Vec::new();
        for _ in 0..9 {
            state.on_failed(target(4), now);
            pauses.push((state.failure.as_ref().unwrap().retry_at - now).as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        state.on_failed(target(5), now);
        assert_eq!(state.failure.as_ref().unwrap().attempts, 1);
        state.on_applied(target(5));
        assert_eq!(
            state,
            ServingState {
                applied: Some(target(5)),
                failure: None
            }
        );
    }
}
