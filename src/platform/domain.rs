//! The parts of a program.

use crate::{
    aggregate::Aggregate,
    command::{client::Aggregates, describe::AggregateDescription},
    event_log::topology::Topology,
    http, mart,
    pages::Pages,
    process::{Instance, Process},
    processes::RegisteredProcess,
    projection::RegisteredView,
    view::View,
};

/// The parts of a program: its aggregates, its views, its processes, and its pages for people.
#[derive(Clone, Default)]
pub struct Domain {
    pub(super) aggregates: Aggregates,
    pub(super) views: Vec<RegisteredView>,
    pub(super) processes: Vec<RegisteredProcess>,
    pub(super) pages: Vec<Pages>,
}

impl Domain {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The mart: the reference domain that ships in the binary.
    #[must_use]
    pub fn mart() -> Self {
        Self::new()
            .aggregate::<mart::product::Product>()
            .aggregate::<mart::stock::Stock>()
            .aggregate::<mart::display::Display>()
            .aggregate::<mart::member::Member>()
            .aggregate::<mart::order::Order>()
            .view::<mart::view::ProductView>()
            .view::<mart::view::StorefrontView>()
            .view::<mart::view::OrderView>()
            .view::<mart::view::SalesView>()
            .process::<mart::fulfilment::Fulfilment>(&mart::fulfilment::Settings::default())
            .pages(mart::shop::SHOP)
    }

    /// Adds aggregate `A`.
    ///
    /// # Panics
    ///
    /// Panics when its name is not `[a-z][a-z0-9_]*` or taken: a defect of the program.
    #[must_use]
    pub fn aggregate<A: Aggregate>(mut self) -> Self {
        self.aggregates = self.aggregates.with::<A>();
        self
    }

    /// Describes its aggregates.
    #[must_use]
    pub fn aggregates(&self) -> &[AggregateDescription] {
        self.aggregates.descriptions()
    }

    /// Describes all that is stored as aggregates are: its aggregates, and the instances of its processes.
    pub fn stored_aggregates(&self) -> impl Iterator<Item = &AggregateDescription> {
        self.aggregates.all_descriptions()
    }

    /// Its views.
    #[must_use]
    pub fn views(&self) -> &[RegisteredView] {
        &self.views
    }

    /// Adds view `V`.
    ///
    /// # Panics
    ///
    /// Panics when its name is taken: a defect of the program.
    #[must_use]
    pub fn view<V: View>(mut self) -> Self {
        let view = RegisteredView::of::<V>();
        let name = view.description().name;
        let taken = self
            .views
            .iter()
            .any(|other| other.description().name == name);
        assert!(!taken, "there are two views {name}");
        self.views.push(view);
        self
    }

    /// Adds process `P` with these settings. The aggregates that it follows and sends commands to may be
    /// added before or after it; that they are there is looked at when the platform starts.
    ///
    /// # Panics
    ///
    /// Panics when its name is not `[a-z][a-z0-9_]*`, or taken by an aggregate or a process: a defect of the
    /// program.
    #[must_use]
    pub fn process<P: Process>(mut self, settings: &P::Settings) -> Self {
        self.aggregates = self.aggregates.with_internal::<Instance<P>>();
        self.processes.push(RegisteredProcess::of::<P>(settings));
        self
    }

    /// Serves these pages with the gateway, at `/<path>`.
    ///
    /// # Panics
    ///
    /// Panics when the path is none or taken, or a file's kind is not known: a defect of the program.
    #[must_use]
    pub fn pages(mut self, pages: Pages) -> Self {
        http::check_pages(&pages);
        let taken = self.pages.iter().any(|other| other.path == pages.path);
        assert!(!taken, "there are two pages at /{}", pages.path);
        self.pages.push(pages);
        self
    }

    /// Its own pages.
    #[must_use]
    pub fn own_pages(&self) -> &[Pages] {
        &self.pages
    }

    /// The streams and buckets that it takes.
    pub(crate) fn topology(&self) -> Topology {
        match self.processes.is_empty() {
            true => Topology::embedded(),
            false => Topology::embedded().with_deadlines(),
        }
    }

    /// Its processes.
    #[must_use]
    pub fn processes(&self) -> &[RegisteredProcess] {
        &self.processes
    }

    /// Changes one setting of a process, as its settings are written in JSON.
    ///
    /// # Errors
    ///
    /// Returns what is wrong where there is no such process, or it has no such setting.
    pub fn set(&mut self, process: &str, setting: &str, value: &str) -> Result<(), String> {
        let mut processes = self.processes.iter_mut();
        let found = processes.find(|one| one.name == process);
        let found = found.ok_or_else(|| format!("there is no process {process:?}"))?;
        let mut settings = found.settings.clone();
        let known = settings.get_mut(setting);
        let known = known.ok_or_else(|| format!("{process} has no setting {setting:?}"))?;
        *known = match known.is_string() {
            true => value.into(),
            false => serde_json::from_str(value).map_err(|error| error.to_string())?,
        };
        found.set(settings)
    }

    /// Finds what a process names that the domain does not have: `(process, aggregate)`.
    pub(super) fn missing(&self) -> Option<(&'static str, &'static str)> {
        let known = |name: &&str| self.aggregates().iter().any(|known| known.name == *name);
        self.processes.iter().find_map(|process| {
            let mut named = process.aggregates.iter().chain(process.targets);
            named
                .find(|name| !known(name))
                .map(|name| (process.name, *name))
        })
    }
}
