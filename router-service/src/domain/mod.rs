//! What the service knows, as pure functions and plain types. No I/O, no proto types.

pub mod cut;
pub mod error;
pub mod explain;
pub mod limits;
pub mod merge;
pub mod query;
pub mod reply;
pub mod stages;
pub mod validate;
pub mod violations;

pub use error::{ErrorCode, Resource, RouterError, Violation};
pub use limits::Limits;
pub use query::{AttendQuery, RouteQuery};
pub use reply::{
    Attended, AttendedPassage, CollectionRoute, HeadShare, Routed, ServedModel, Source,
    StageTiming, TypePrediction, ViewShare,
};
pub use stages::{Stage, Stages};
