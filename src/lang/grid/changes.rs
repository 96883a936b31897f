//! Fields that change in place: what a device has to upload.

use super::{Block, Grid};

/// When and where the fields of a driver have changed, so that a device uploads only what it does not have.
#[derive(Debug, Clone, Default)]
pub(crate) struct FieldChanges {
    /// The number of changes so far.
    version: u64,
    fields: Vec<FieldChange>,
}

/// The changes of one field.
#[derive(Debug, Clone, Copy)]
struct FieldChange {
    /// The version in which its samples last changed.
    version: u64,
    /// Contains all samples that changed after version `since`.
    change: Change,
    since: u64,
}

/// The samples of a field that have changed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Change {
    Nothing,
    Block(Block),
    Everything,
}

impl FieldChanges {
    /// Notes that all fields have been replaced.
    pub(crate) fn all(&mut self, grids: &[Grid]) {
        self.version += 1;
        let change = FieldChange { version: self.version, change: Change::Everything, since: 0 };
        self.fields.clear();
        self.fields.resize(grids.len(), change);
    }

    /// Notes that a field has been replaced by one with as many packed samples.
    pub(crate) fn whole(&mut self, index: usize) {
        self.version += 1;
        self.fields[index] = FieldChange { version: self.version, change: Change::Everything, since: 0 };
    }

    /// Notes that the samples of a block have been replaced.
    pub(crate) fn block(&mut self, index: usize, block: Block) {
        self.version += 1;
        let field = &mut self.fields[index];
        field.version = self.version;
        field.change = match field.change {
            Change::Nothing => Change::Block(block),
            Change::Block(before) => Change::Block(before.union(block)),
            Change::Everything => Change::Everything,
        };
    }

    /// Notes that the geometry of a field has been replaced. A device uploads all headers with any change.
    pub(crate) fn header(&mut self) {
        self.version += 1;
    }

    /// Notes that the device has all changes so far.
    pub(crate) fn uploaded(&mut self) {
        for field in &mut self.fields {
            (field.change, field.since) = (Change::Nothing, field.version);
        }
    }

    /// The version that a device has after an upload.
    #[cfg(feature = "gpu")]
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// The samples of a field that a device with version `uploaded` does not have.
    #[cfg(feature = "gpu")]
    pub(super) fn since(&self, uploaded: Option<u64>, index: usize) -> Change {
        match (self.fields.get(index), uploaded) {
            (Some(field), Some(uploaded)) if field.version <= uploaded => Change::Nothing,
            (Some(field), Some(uploaded)) if field.since <= uploaded => field.change,
            _ => Change::Everything,
        }
    }
}
