//! The routes that were followed, and the documents that each leads to in the store.
//!
//! A view has one writer, so what the store has answered once is so until that writer changes it. It is kept
//! up with each batch that is committed, and forgotten with everything else when the projector begins anew.

use crate::read_model::exchange::RouteKey;
use std::collections::{BTreeSet, HashMap};

/// The number of routes, and of documents that they lead to, that are remembered. Few in tests, which are to
/// go beyond.
const KEPT: usize = if cfg!(test) { 8 } else { 20_000 };
/// A route that leads to more documents than this is asked for again each time.
const FEW: usize = if cfg!(test) { 3 } else { 256 };

/// Routes, and the ids of the documents that each leads to.
#[derive(Default)]
pub(super) struct FollowedRoutes {
    led: HashMap<RouteKey, BTreeSet<String>>,
    /// The routes among them that lead to a document.
    to: HashMap<String, Vec<RouteKey>>,
}

impl FollowedRoutes {
    /// The ids of the documents that a route leads to, if that is known.
    pub(super) fn get(&self, route: &RouteKey) -> Option<&BTreeSet<String>> {
        self.led.get(route)
    }

    /// Remembers the store's answer.
    pub(super) fn learn(&mut self, route: RouteKey, ids: Vec<String>) {
        if ids.len() > FEW {
            return;
        }
        for id in &ids {
            self.to.entry(id.clone()).or_default().push(route.clone());
        }
        if let Some(before) = self.led.insert(route.clone(), ids.into_iter().collect()) {
            // It was known: each document knows it once.
            for id in before {
                self.leave(&id, &route);
            }
        }
    }

    /// Notes which routes lead to a document from now on, of all that its view declares.
    pub(super) fn move_document(&mut self, id: &str, routes: &[RouteKey]) {
        for route in self.to.remove(id).unwrap_or_default() {
            if let Some(ids) = self.led.get_mut(&route) {
                ids.remove(id);
            }
        }
        for route in routes {
            let Some(ids) = self.led.get_mut(route) else {
                continue;
            };
            ids.insert(id.to_owned());
            let to = self.to.entry(id.to_owned()).or_default();
            if !to.contains(route) {
                to.push(route.clone());
            }
            if ids.len() > FEW {
                self.forget(route);
            }
        }
    }

    /// Forgets everything where it has become too much.
    pub(super) fn bound(&mut self) {
        if self.led.len() > KEPT || self.to.len() > KEPT {
            *self = Self::default();
        }
    }

    fn forget(&mut self, route: &RouteKey) {
        for id in self.led.remove(route).unwrap_or_default() {
            self.leave(&id, route);
        }
    }

    /// Takes one mention of a route away from a document.
    fn leave(&mut self, id: &str, route: &RouteKey) {
        let Some(to) = self.to.get_mut(id) else {
            return;
        };
        if let Some(place) = to.iter().position(|known| known == route) {
            to.swap_remove(place);
        }
        if to.is_empty() {
            self.to.remove(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(value: &str) -> RouteKey {
        vec![("sku", value.to_owned())]
    }

    fn ids(ids: &[&str]) -> Vec<String> {
        ids.iter().map(|&id| id.to_owned()).collect()
    }

    impl FollowedRoutes {
        fn led(&self, value: &str) -> Option<Vec<String>> {
            let ids = self.get(&route(value))?;
            Some(ids.iter().cloned().collect())
        }
    }

    #[test]
    fn a_route_leads_where_documents_have_moved() {
        let mut followed = FollowedRoutes::default();
        followed.learn(route("a"), ids(&["1", "2"]));
        followed.learn(route("b"), Vec::new());
        followed.move_document("1", &[route("b"), route("c")]);
        followed.move_document("3", &[route("a")]);
        assert_eq!(followed.led("a"), Some(ids(&["2", "3"])));
        assert_eq!(followed.led("b"), Some(ids(&["1"])));
        assert_eq!(followed.led("c"), None, "nobody has followed it");
        followed.move_document("1", &[]);
        assert_eq!(followed.led("b"), Some(Vec::new()));
    }

    #[test]
    fn an_answer_replaces_the_one_before() {
        let mut followed = FollowedRoutes::default();
        followed.learn(route("a"), ids(&["1", "2"]));
        followed.learn(route("a"), ids(&["2"]));
        followed.move_document("2", &[route("b")]);
        assert_eq!(followed.led("a"), Some(Vec::new()));
        assert!(followed.to.is_empty());
    }

    #[test]
    fn a_route_that_comes_to_lead_to_many_is_forgotten() {
        let mut followed = FollowedRoutes::default();
        followed.learn(route("a"), Vec::new());
        for id in 0..=FEW {
            assert!(followed.led("a").is_some());
            followed.move_document(&id.to_string(), &[route("a")]);
        }
        assert_eq!(followed.led("a"), None);
        assert!(followed.to.is_empty());
        followed.learn(route("a"), (0..=FEW).map(|id| id.to_string()).collect());
        assert_eq!(followed.led("a"), None);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut followed = FollowedRoutes::default();
        for value in 0..=KEPT {
            followed.learn(route(&value.to_string()), Vec::new());
        }
        followed.bound();
        assert!(followed.led.is_empty());
    }
}
