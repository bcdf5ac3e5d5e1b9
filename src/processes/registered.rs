//! A process as a program has it.

use crate::{
    process::{self, Arrived, Folding, InstanceFold, Process, Rehearsed, Step},
    recorded::Recorded,
};
use serde_json::{Value, value::RawValue};
use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// A process of a program, with its settings.
#[derive(Debug, Clone)]
pub struct RegisteredProcess {
    /// The process's name.
    pub name: &'static str,
    /// The aggregates whose events it follows.
    pub aggregates: &'static [&'static str],
    /// The aggregates that it sends commands to.
    pub targets: &'static [&'static str],
    /// Its settings.
    pub settings: Value,
    correlate: fn(&Recorded) -> Option<String>,
    reads: fn(Value) -> Result<(), serde_json::Error>,
    folding: fn() -> Box<dyn InstanceFold>,
    rehearse: Rehearse,
}

type Rehearse =
    fn(&str, &Value, &[Recorded], &BTreeMap<u64, Arrived>) -> Result<Rehearsed, serde_json::Error>;

impl RegisteredProcess {
    /// Process `P` with these settings.
    ///
    /// # Panics
    ///
    /// Panics when the settings cannot be written: a defect of the program.
    #[must_use]
    pub fn of<P: Process>(settings: &P::Settings) -> Self {
        let settings = serde_json::to_value(settings);
        Self {
            name: P::NAME,
            aggregates: P::AGGREGATES,
            targets: P::TARGETS,
            settings: settings.unwrap_or_else(|error| panic!("settings of {}: {error}", P::NAME)),
            correlate: P::correlate,
            reads: |settings| serde_json::from_value::<P::Settings>(settings).map(drop),
            folding: || Box::new(Folding::<P>::default()),
            rehearse: |id, settings, records, inputs| {
                let settings = serde_json::from_value::<P::Settings>(settings.clone())?;
                Ok(process::rehearse::<P>(id, &settings, records, inputs))
            },
        }
    }

    /// Returns an instance to which nothing has come yet, to fold its records into.
    pub(super) fn folding(&self) -> Box<dyn InstanceFold> {
        (self.folding)()
    }

    /// Rehearses the records of an instance; see [`process::rehearse`].
    pub(super) fn rehearse(
        &self,
        id: &str,
        records: &[Recorded],
        inputs: &BTreeMap<u64, Arrived>,
    ) -> Result<Rehearsed, serde_json::Error> {
        (self.rehearse)(id, &self.settings, records, inputs)
    }

    /// Changes its settings.
    ///
    /// # Errors
    ///
    /// Returns what is wrong where they are not settings of the process; they stay as they are then.
    pub fn set(&mut self, settings: Value) -> Result<(), String> {
        (self.reads)(settings.clone()).map_err(|error| error.to_string())?;
        self.settings = settings;
        Ok(())
    }

    /// Returns the instance that an event belongs to; an error when the process panics at it.
    pub(crate) fn correlate(&self, event: &Recorded) -> Result<Option<String>, String> {
        let correlate = || (self.correlate)(event);
        catch_unwind(AssertUnwindSafe(correlate)).map_err(|_| {
            let Recorded { event_type, id, .. } = event;
            format!("correlate panicked at {event_type} of {id}")
        })
    }

    /// Reads the record of a step; `None` when the event is another record.
    pub(super) fn step(&self, event_type: &str, data: &RawValue) -> Option<Result<Step, String>> {
        let step = self.record(event_type)? == "stepped";
        step.then(|| serde_json::from_str(data.get()).map_err(|error| error.to_string()))
    }

    /// The name of a record of an instance, without the process's name and the version.
    pub(super) fn record<'a>(&self, event_type: &'a str) -> Option<&'a str> {
        record_name(self.name, event_type)
    }
}

/// The name of a record of an instance of this process, without the process's name and the version.
pub(super) fn record_name<'a>(process: &str, event_type: &'a str) -> Option<&'a str> {
    let rest = event_type.strip_prefix(process)?.strip_prefix('.')?;
    rest.strip_suffix(".v1")
}
