//! Thin adapters between gRPC and the service. No type of `moerag-proto` leaves this module.

mod context;
mod corpus;
mod from_proto;
mod model;
mod router;
mod server;
mod status;
mod to_proto;

pub(crate) use server::{Services, serve};
