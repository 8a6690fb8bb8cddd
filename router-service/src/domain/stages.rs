//! The stages of a request: how long each took, and which one runs now.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::reply::StageTiming;

/// A stage of a query, in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Waiting for a permit.
    Admit,
    /// Mending, tokenising and encoding the query.
    Encode,
    /// Searching both lists.
    Candidates,
    /// Cheap views and the cut to the survivors.
    Prune,
    /// Fetching the survivors' keys.
    Features,
    /// All views and the gate's inputs.
    Views,
    /// Gate, heads and mixture.
    Attend,
    /// Fetching the texts of the returned passages.
    Passages,
    /// Weights of their sentences.
    Sentences,
}

impl Stage {
    /// Name in replies, logs and errors.
    pub fn name(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Encode => "encode",
            Self::Candidates => "candidates",
            Self::Prune => "prune",
            Self::Features => "features",
            Self::Views => "views",
            Self::Attend => "attend",
            Self::Passages => "passages",
            Self::Sentences => "sentences",
        }
    }
}

/// The clock of one request. Clones share it.
#[derive(Clone, Debug)]
pub struct Stages {
    began: Instant,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    current: Stage,
    micros: [Option<u64>; Stage::Sentences as usize + 1],
}

impl Default for Stages {
    fn default() -> Self {
        Self::new()
    }
}

impl Stages {
    /// A clock that starts now.
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            state: Arc::new(Mutex::new(State {
                current: Stage::Admit,
                micros: [None; Stage::Sentences as usize + 1],
            })),
        }
    }

    /// Begins a stage; it ends when the guard is dropped. Stages that several collections run at
    /// the same time add up.
    pub fn enter(&self, stage: Stage) -> StageGuard {
        self.with(|state| state.current = stage);
        StageGuard {
            stages: self.clone(),
            stage,
            began: Instant::now(),
        }
    }

    /// The stage that began last.
    pub fn current(&self) -> Stage {
        self.with(|state| state.current)
    }

    /// All stages that ran, in order, and `total`.
    pub fn timings(&self) -> Vec<StageTiming> {
        const ALL: [Stage; Stage::Sentences as usize + 1] = [
            Stage::Admit,
            Stage::Encode,
            Stage::Candidates,
            Stage::Prune,
            Stage::Features,
            Stage::Views,
            Stage::Attend,
            Stage::Passages,
            Stage::Sentences,
        ];
        let micros = self.with(|state| state.micros);
        let mut timings: Vec<StageTiming> = ALL
            .into_iter()
            .filter_map(|stage| {
                Some(StageTiming {
                    stage: stage.name(),
                    micros: micros[stage as usize]?,
                })
            })
            .collect();
        timings.push(StageTiming {
            stage: "total",
            micros: micros_since(self.began),
        });
        timings
    }

    fn with<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        // Nothing panics while the lock is held, and the state is valid at every point.
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Ends its stage when dropped.
#[derive(Debug)]
pub struct StageGuard {
    stages: Stages,
    stage: Stage,
    began: Instant,
}

impl Drop for StageGuard {
    fn drop(&mut self) {
        let spent = micros_since(self.began);
        self.stages.with(|state| {
            let slot = &mut state.micros[self.stage as usize];
            *slot = Some(slot.unwrap_or(0) + spent);
        });
    }
}

fn micros_since(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_add_up_and_keep_their_order() {
        let stages = Stages::new();
        drop(stages.enter(Stage::Views));
        drop(stages.enter(Stage::Encode));
        let guard = stages.clone().enter(Stage::Views);
        assert_eq!(stages.current(), Stage::Views);
        drop(guard);
        let names: Vec<&str> = stages.timings().iter().map(|t| t.stage).collect();
        assert_eq!(names, ["encode", "views", "total"]);
    }
}
