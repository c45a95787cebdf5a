//! What happened in the cluster, as far as it can make an unschedulable pod schedulable.

/// A set of cluster events. Plugins declare the set that could unblock what they rejected.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
pub struct Events(u16);

impl Events {
    pub const NONE: Self = Self(0);
    pub const NODE_ADD: Self = Self(1);
    /// The node's allocatable resources grew or shrank.
    pub const NODE_ALLOCATABLE: Self = Self(1 << 1);
    pub const NODE_LABEL: Self = Self(1 << 2);
    /// The node's taints or `spec.unschedulable` changed.
    pub const NODE_TAINT: Self = Self(1 << 3);
    /// `status.runtimeHandlers` of the node changed.
    pub const NODE_RUNTIME: Self = Self(1 << 4);
    /// A pod that occupied a node was deleted, ended, or asks for less.
    pub const ASSIGNED_POD_DELETE: Self = Self(1 << 5);
    /// A pod arrived on a node.
    pub const ASSIGNED_POD_ADD: Self = Self(1 << 6);
    /// The unschedulable pod itself changed.
    pub const POD_UPDATE: Self = Self(1 << 7);
    pub const RUNTIME_CLASS: Self = Self(1 << 8);
    pub const ALL: Self = Self(u16::MAX);

    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
    pub(crate) const fn from_bit(bit: u32) -> Self {
        Self(1 << (bit % u16::BITS))
    }
    /// The positions of the events in the set.
    pub(crate) fn bits(self) -> impl Iterator<Item = u32> {
        (0..u16::BITS).filter(move |bit| self.0 & (1 << bit) != 0)
    }
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl std::ops::BitOr for Events {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}
impl std::ops::BitOrAssign for Events {
    fn bitor_assign(&mut self, other: Self) {
        *self = self.union(other);
    }
}
