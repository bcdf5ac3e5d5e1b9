//! One bench with more and more in flight: where the rate ends to rise, and the latency begins to.

use super::{Bench, BenchError, Line, Plot, report::write_json};
use serde::Serialize;
use std::{fmt, path::Path, str::FromStr};

/// The most that is in flight.
const MOST: u16 = 4_096;

/// So much in flight, in turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steps(pub Vec<u16>);

impl FromStr for Steps {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let steps: Result<Vec<u16>, _> = text.split(',').map(|step| step.trim().parse()).collect();
        let steps = steps.unwrap_or_default();
        let rises = steps.windows(2).all(|pair| pair[0] < pair[1]);
        match rises && !steps.is_empty() && steps.iter().all(|step| (1..=MOST).contains(step)) {
            true => Ok(Self(steps)),
            false => Err(format!(
                "it is a rising list of 1 to {MOST}, such as 1,16,256"
            )),
        }
    }
}

/// The measurements of each step.
#[derive(Debug, Clone, Serialize)]
pub struct Sweep {
    /// The bench's name.
    pub bench: &'static str,
    /// So much was in flight.
    pub concurrency: Vec<u16>,
    /// The measurement of each.
    pub steps: Vec<Bench>,
}

impl Sweep {
    /// Begins with nothing measured.
    #[must_use]
    pub fn new(bench: &'static str) -> Self {
        Self {
            bench,
            concurrency: Vec::new(),
            steps: Vec::new(),
        }
    }

    /// Takes in what was measured with so much in flight.
    pub fn take(&mut self, concurrency: u16, measured: Bench) {
        self.concurrency.push(concurrency);
        self.steps.push(measured);
    }

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

    fn plot(&self) -> Plot {
        let of = self.steps.first().and_then(|step| {
            let compared = step.settings.get("compared")?.as_str()?;
            Some(format!(", {compared}"))
        });
        Plot {
            title: format!(
                "bench {}{} ({})",
                self.bench,
                of.unwrap_or_default(),
                super::report::profile()
            ),
            along: "in flight",
            doubling: true,
            lines: self.lines(),
        }
    }

    /// Ours and each floor, over what was in flight.
    fn lines(&self) -> Vec<Line> {
        let places = || self.concurrency.iter().map(|step| f64::from(*step));
        let ours = Line {
            name: "ours".to_owned(),
            points: places()
                .zip(self.steps.iter().map(|step| step.ours))
                .collect(),
        };
        let names = self.steps.first().map(|step| step.floors.keys());
        let floors = names.into_iter().flatten().map(|name| Line {
            name: (*name).to_owned(),
            points: places()
                .zip(&self.steps)
                .filter_map(|(at, step)| Some((at, *step.floors.get(name)?)))
                .collect(),
        });
        std::iter::once(ours).chain(floors).collect()
    }
}

impl fmt::Display for Sweep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (concurrency, step) in self.concurrency.iter().zip(&self.steps) {
            writeln!(f, "{concurrency} in flight")?;
            write!(f, "{step}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_rise() {
        assert_eq!("1, 16,1024".parse(), Ok(Steps(vec![1, 16, 1024])));
        for wrong in ["", "0", "1,1", "2,1", "1,x", "1,5000", "1,"] {
            assert!(wrong.parse::<Steps>().is_err(), "{wrong}");
        }
    }
}
