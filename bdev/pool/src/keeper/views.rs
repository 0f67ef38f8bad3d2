//! Volumes, and snapshots that are looked at, as they are opened.

use crate::state::{View, ViewId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Volumes by their number, snapshots by their node's; and which of them can have nodes in common.
#[derive(Default)]
pub(crate) struct Views {
    views: BTreeMap<ViewId, (Arc<View>, u64)>,
    trees: BTreeMap<u64, BTreeSet<ViewId>>,
}

impl Views {
    /// One more, which reads nodes of `tree`.
    pub(super) fn insert(&mut self, id: ViewId, tree: u64, view: Arc<View>) {
        self.views.insert(id, (view, tree));
        self.trees.entry(tree).or_default().insert(id);
    }

    pub(super) fn remove(&mut self, id: ViewId) {
        let Some((_, tree)) = self.views.remove(&id) else { return };
        if let Some(ids) = self.trees.get_mut(&tree) {
            ids.remove(&id);
            if ids.is_empty() {
                self.trees.remove(&tree);
            }
        }
    }

    pub(super) fn get(&self, id: ViewId) -> Option<&Arc<View>> {
        self.views.get(&id).map(|(view, _)| view)
    }

    /// Everything that may read a node of `tree`.
    pub(super) fn of_tree(&self, tree: u64) -> impl Iterator<Item = (ViewId, &Arc<View>)> {
        let ids = self.trees.get(&tree).into_iter().flatten();
        ids.filter_map(|id| Some((*id, self.get(*id)?)))
    }

    pub(super) fn all(&self) -> Vec<ViewId> {
        self.views.keys().copied().collect()
    }
}
