//! What a service has measured, as it says at `/metrics`.

use super::api::Http;
use std::collections::BTreeMap;

/// All of it at one moment.
pub struct Metrics(String);

impl Metrics {
    pub async fn of(http: &Http) -> Self {
        let text = http.get("/metrics", &[]).await.expect(200);
        Self(String::from_utf8(text.body.to_vec()).unwrap())
    }

    /// The sum of a metric's lines with these labels; 0 where it is not measured.
    pub fn sum(&self, name: &str, labels: &str) -> f64 {
        let lines = self.0.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(labels)
        });
        lines
            .map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap())
            .sum()
    }

    /// Each metric of the program by its name, with its kind.
    pub fn kinds(&self) -> BTreeMap<&str, &str> {
        let types = self
            .0
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "));
        let types = types.filter_map(|line| line.split_once(' '));
        types
            .filter(|(name, _)| name.starts_with("headwater_"))
            .collect()
    }
}
