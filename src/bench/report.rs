//! The result of a bench, for people and for programs.

use super::{BenchError, Figures, Line, Plot, Sample, sample};
use serde::Serialize;
use serde_json::{Map, Value};
use std::{collections::BTreeMap, fmt, fs, path::Path};

/// The samples of a bench as its rounds go by.
#[derive(Debug, Default)]
pub struct Rounds {
    ours: Vec<Figures>,
    floors: BTreeMap<&'static str, Vec<Figures>>,
}

impl Rounds {
    /// Takes in a stretch of our own work.
    pub fn ours(&mut self, sample: &Sample) {
        self.ours.push(sample.figures());
    }

    /// Takes in what our own work reached, where it is no stretch of like operations.
    pub fn ours_as(&mut self, figures: Figures) {
        self.ours.push(figures);
    }

    /// Takes in a stretch of a floor.
    pub fn floor(&mut self, name: &'static str, sample: &Sample) {
        self.floors.entry(name).or_default().push(sample.figures());
    }

    /// Takes in what a floor reached, where it is no stretch of like operations.
    pub fn floor_as(&mut self, name: &'static str, figures: Figures) {
        self.floors.entry(name).or_default().push(figures);
    }

    /// The medians, with the ratio of our rate to each floor's as the median over the rounds.
    ///
    /// # Panics
    ///
    /// Panics when there was no round, or one without each of the floors: a defect of the bench.
    #[must_use]
    pub fn into_bench(self, bench: &'static str, settings: Map<String, Value>) -> Bench {
        let ratio = |floor: &Vec<Figures>| {
            assert_eq!(floor.len(), self.ours.len(), "each round has each floor");
            let pairs = self.ours.iter().zip(floor);
            sample::median(pairs.map(|(o, f)| o.per_second / f.per_second).collect())
        };
        Bench {
            bench,
            rounds: lines(&self.ours, self.floors.iter()),
            ratios: self.floors.iter().map(|(n, f)| (*n, ratio(f))).collect(),
            ours: Figures::medians(&self.ours),
            floors: self
                .floors
                .iter()
                .map(|(name, figures)| (*name, Figures::medians(figures)))
                .collect(),
            settings,
        }
    }
}

/// The result of a bench. Serialised, it is the form that all benches share; displayed, a table.
#[derive(Debug, Clone, Serialize)]
pub struct Bench {
    /// The bench's name.
    pub bench: &'static str,
    /// The rate that our own work reached.
    pub ours: Figures,
    /// The rate that each floor reached in the same run.
    pub floors: BTreeMap<&'static str, Figures>,
    /// Ours as a multiple of a floor's rate, and whatever else the bench compares.
    pub ratios: BTreeMap<&'static str, f64>,
    /// With what it was measured.
    pub settings: Map<String, Value>,
    /// Ours and each floor over the rounds, for plots alone.
    #[serde(skip)]
    pub rounds: Vec<Line>,
}

impl Bench {
    /// Prints the table and, if files are named, writes the JSON and draws the plot.
    ///
    /// # Errors
    ///
    /// Returns [`BenchError`] when a file cannot be written.
    pub fn tell(&self, json: Option<&Path>, plot: Option<&Path>) -> Result<(), BenchError> {
        print!("{self}");
        json.map_or(Ok(()), |path| write_json(self, path))?;
        plot.map_or(Ok(()), |path| self.plot().write(path))
    }

    /// A picture of what was measured, over the rounds.
    fn plot(&self) -> Plot {
        Plot {
            title: format!("bench {} ({})", self.bench, profile()),
            along: "round",
            doubling: false,
            lines: self.rounds.clone(),
        }
    }
}

/// Ours and the floors, round by round.
pub(super) fn lines<'a>(
    ours: &[Figures],
    floors: impl Iterator<Item = (&'a &'static str, &'a Vec<Figures>)>,
) -> Vec<Line> {
    let line = |name: &str, figures: &[Figures]| Line {
        name: name.to_owned(),
        points: (1..).map(f64::from).zip(figures.iter().copied()).collect(),
    };
    let floors = floors.map(|(name, figures)| line(name, figures));
    std::iter::once(line("ours", ours)).chain(floors).collect()
}

/// Writes what was measured to a file, as JSON.
///
/// # Errors
///
/// Returns [`BenchError`] when the file cannot be written.
pub fn write_json(measured: &impl Serialize, path: &Path) -> Result<(), BenchError> {
    let mut text = serde_json::to_string_pretty(measured).map_err(BenchError::new)?;
    text.push('\n');
    fs::write(path, text).map_err(|error| BenchError::new(format!("{}: {error}", path.display())))
}

impl fmt::Display for Bench {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<24}{:>12}{:>11}{:>11}{:>11}{:>11}",
            self.bench, "per second", "p50 ms", "p95 ms", "p99 ms", "p99.9 ms"
        )?;
        let mut row = |name: &str, figures: &Figures| {
            writeln!(
                f,
                "{name:<24}{:>12.0}{:>11.3}{:>11.3}{:>11.3}{:>11.3}",
                figures.per_second, figures.p50_ms, figures.p95_ms, figures.p99_ms, figures.p999_ms
            )
        };
        row("  ours", &self.ours)?;
        for (name, figures) in &self.floors {
            row(&format!("  floor {name}"), figures)?;
        }
        for (name, ratio) in &self.ratios {
            writeln!(f, "  ratio {name:<16}{ratio:>12.2}")?;
        }
        for (name, value) in &self.settings {
            match value {
                Value::String(text) => writeln!(f, "  {name}: {text}")?,
                other => writeln!(f, "  {name}: {other}")?,
            }
        }
        Ok(())
    }
}

/// Returns how many cores there are.
#[must_use]
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The profile that the program was built with.
pub(super) fn profile() -> &'static str {
    match cfg!(debug_assertions) {
        true => "dev",
        false => "release",
    }
}

/// The settings that every bench tells: the build and the machine.
#[must_use]
pub fn common_settings() -> Map<String, Value> {
    Map::from_iter([
        ("version".to_owned(), env!("CARGO_PKG_VERSION").into()),
        ("profile".to_owned(), profile().into()),
        ("cores".to_owned(), cores().into()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    fn sample(count: u64) -> Sample {
        Sample::new(vec![1_000_000; count as usize], Duration::from_secs(1))
    }

    fn bench() -> Bench {
        let mut rounds = Rounds::default();
        for (ours, floor) in [(50, 100), (30, 40), (10, 100)] {
            rounds.floor("publish", &sample(floor));
            rounds.ours(&sample(ours));
        }
        rounds.into_bench("commands", Map::from_iter([("seconds".into(), 10.into())]))
    }

    #[test]
    fn a_ratio_is_of_neighbours_in_time() {
        assert_eq!(bench().ratios["publish"], 0.5);
    }

    #[test]
    fn the_json_has_the_form_that_all_benches_share() {
        let figures = |per_second: f64| json!({"per_second": per_second, "p50_ms": 1.0, "p95_ms": 1.0, "p99_ms": 1.0, "p999_ms": 1.0});
        let expected = json!({
            "bench": "commands",
            "ours": figures(30.0),
            "floors": {"publish": figures(100.0)},
            "ratios": {"publish": 0.5},
            "settings": {"seconds": 10},
        });
        assert_eq!(serde_json::to_value(bench()).unwrap(), expected);
    }

    #[test]
    fn the_table_tells_ours_floors_ratios_and_settings() {
        let table = bench().to_string();
        for line in ["ours", "floor publish", "ratio publish", "seconds: 10"] {
            assert!(table.contains(line), "{table}");
        }
    }
}
