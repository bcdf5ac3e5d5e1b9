//! The processor time of each view, by itself.
//!
//! In the replica the views' threads are the same, so each view is folded once more, alone and in this process, from
//! the log that the load has left, in batches as large as they were.

use super::{
    super::{
        BenchError, LoadThreads, catchup, log,
        processes::{Scratch, cpu_time},
    },
    replica::Observed,
};
use crate::{platform::Domain, read_model::floor::Floor};
use serde_json::{Map, Value};

pub(super) async fn alone(
    scratch: &Scratch,
    threads: &LoadThreads,
    observed: &Observed,
) -> Result<Map<String, Value>, BenchError> {
    let log = log::open(scratch, threads).await?;
    let mut told = Map::new();
    for view in Domain::mart().views() {
        let name = view.description().name;
        let folder = scratch.folder().join(format!("alone-{name}"));
        let url = format!("surrealkv://{}?sync=1s", folder.display());
        let store = Floor::open(&url, view.description()).await;
        let store = store.map_err(BenchError::new)?;
        let begun = cpu_time(std::process::id());
        let batch = observed.batch(name);
        let filled = catchup::fill_view(&store, &log, view, "mixed", Some(batch)).await?;
        let ended = cpu_time(std::process::id());
        let mut figures = observed.told(name);
        if let Some((begun, ended)) = begun.zip(ended) {
            let used = ended.saturating_sub(begun).as_secs_f64() * 1e6;
            let each = used / filled.commits.max(1) as f64;
            figures["cpu_us_per_event"] = ((each * 10.0).round() / 10.0).into();
        }
        told.insert(name.to_owned(), figures);
    }
    Ok(told)
}
