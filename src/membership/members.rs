//! The live replicas as one of them sees them, and rendezvous hashing over them.

use crate::{config::Role, stable_hash};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// One live replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    replica: Arc<str>,
    instance: Arc<str>,
    roles: BTreeSet<Role>,
    views: BTreeMap<String, u32>,
    groups: u32,
    /// The hash of the name.
    hash: u64,
}

impl Member {
    /// A replica by its name and roles.
    #[must_use]
    pub fn new(replica: &str, roles: BTreeSet<Role>) -> Self {
        Self {
            hash: hash_of(&[replica]),
            replica: replica.into(),
            instance: "".into(),
            roles,
            views: BTreeMap::new(),
            groups: 0,
        }
    }

    /// The same, with the views that it can fold, by their versions.
    #[must_use]
    pub fn with_views(self, views: BTreeMap<String, u32>) -> Self {
        Self { views, ..self }
    }

    /// The views that it can fold, by their versions.
    #[must_use]
    pub fn views(&self) -> &BTreeMap<String, u32> {
        &self.views
    }

    /// The same, with the form of groups of commands that it takes; 0 for none.
    #[must_use]
    pub fn taking_groups(self, form: u32) -> Self {
        Self {
            groups: form,
            ..self
        }
    }

    /// The form of groups of commands that it takes; 0 for none.
    #[must_use]
    pub fn group_form(&self) -> u32 {
        self.groups
    }

    /// The same, of a process that is told from others of this name.
    #[must_use]
    pub fn of_instance(self, instance: &str) -> Self {
        Self {
            instance: instance.into(),
            ..self
        }
    }

    /// Its process.
    #[must_use]
    pub fn instance(&self) -> Arc<str> {
        self.instance.clone()
    }

    /// Its name.
    #[must_use]
    pub fn replica(&self) -> &str {
        &self.replica
    }

    /// Its name, shared.
    #[must_use]
    pub fn shared_name(&self) -> Arc<str> {
        self.replica.clone()
    }

    /// Its roles.
    #[must_use]
    pub fn roles(&self) -> &BTreeSet<Role> {
        &self.roles
    }
}

/// The live replicas, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members(Vec<Member>);

impl Members {
    /// These replicas. Of two with one name the later counts.
    #[must_use]
    pub fn of(members: impl IntoIterator<Item = Member>) -> Self {
        members
            .into_iter()
            .fold(Self::default(), |all, one| all.with(one))
    }

    /// The replicas, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.0.iter()
    }

    /// The replica of this name.
    #[must_use]
    pub fn get(&self, replica: &str) -> Option<&Member> {
        self.0.iter().find(|member| member.replica() == replica)
    }

    /// The replica that is the home of `key` among those with the role. All who see the same
    /// members choose the same; the order in which they came does not matter.
    #[must_use]
    pub fn home_of(&self, role: Role, key: Key) -> Option<&Member> {
        self.home_among(key, |member| member.roles.contains(&role))
    }

    /// As [`Members::home_of`], among those of which `able` holds.
    pub fn home_among(&self, key: Key, able: impl Fn(&Member) -> bool) -> Option<&Member> {
        let able = self.0.iter().filter(|member| able(member));
        // Equal scores are as good as impossible; the name decides then, as for all others.
        able.max_by_key(|member| (stable_hash::mixed(member.hash ^ key.0), &member.replica))
    }

    pub(super) fn with(&self, member: Member) -> Self {
        let mut members = self.without(member.replica()).0;
        let place = members.partition_point(|other| other.replica < member.replica);
        members.insert(place, member);
        Self(members)
    }

    pub(super) fn without(&self, replica: &str) -> Self {
        let others = self.0.iter().filter(|member| member.replica() != replica);
        Self(others.cloned().collect())
    }
}

/// The subject of a search for a home: an aggregate by its name and id, a view by its name.
///
/// The hash is the same in every process and build, since replicas of two versions run side by side
/// during a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key(u64);

impl Key {
    /// The key of the thing with these names.
    #[must_use]
    pub fn of(names: &[&str]) -> Self {
        Self(hash_of(names))
    }
}

fn hash_of(names: &[&str]) -> u64 {
    stable_hash::of(names.iter().map(|name| name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str) -> Member {
        Member::new(name, BTreeSet::from([Role::Command]))
    }

    fn homes(members: &Members) -> Vec<Arc<str>> {
        (0..3_000)
            .map(|number| {
                let key = Key::of(&["order", &format!("o-{number}")]);
                let home = members.home_of(Role::Command, key).unwrap();
                home.shared_name()
            })
            .collect()
    }

    #[test]
    fn every_replica_is_the_home_of_about_its_share() {
        let members = Members::of(["a", "b", "c"].map(member));
        let homes = homes(&members);
        for replica in ["a", "b", "c"] {
            let share = homes.iter().filter(|home| &***home == replica).count();
            assert!((800..1_200).contains(&share), "{replica}: {share}");
        }
    }

    #[test]
    fn a_replica_that_goes_moves_only_what_was_its_own() {
        let before = homes(&Members::of(["a", "b", "c"].map(member)));
        let after = homes(&Members::of(["c", "a"].map(member)));
        for (before, after) in before.iter().zip(&after) {
            assert!(before == after || &**before == "b");
        }
    }

    #[test]
    fn a_role_that_nobody_has_has_no_home() {
        let members = Members::of([member("a")]);
        assert_eq!(members.home_of(Role::Projector, Key::of(&["v"])), None);
    }

    #[test]
    fn the_hash_is_the_one_of_all_other_builds() {
        assert_eq!(Key::of(&["order", "o-1"]), Key(0xa9d5_808a_4769_499c));
    }
}
