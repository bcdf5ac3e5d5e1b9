//! The pure vocabulary of Headwater.
//!
//! A service developer writes [`aggregate`]s, which decide commands and evolve by events, and
//! [`view`]s, which fold events into documents, and [`process`]es, which react to them. [`recorded`] is an event as both see it, [`text`] how
//! text is compared, [`caller`] who asks and what they may, [`problem`] the one form of every refusal,
//! [`sample`] data for a first look, [`pages`] what a program shows to people, [`json`] how texts are written by hand. [`testkit`] tests a domain without any server.
//!
//! Nothing here knows a clock, a random source, a database or the runtime that calls it: this crate
//! does not depend on any.

// What is derived names this crate, here too.
extern crate self as headwater_core;

pub mod aggregate;
pub mod caller;
pub mod json;
pub mod outcome;
pub mod pages;
pub mod problem;
pub mod process;
pub mod recorded;
pub mod sample;
pub mod text;
pub mod view;

pub mod testkit;
