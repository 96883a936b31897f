//! Where rows stand in memory.

use bytemuck::{Pod, Zeroable};

use crate::update::TILE;

/// One coordinate of the rows of a tile.
///
/// It begins a line of the cache, as long as the widest registers are. What the rows are computed with then goes to memory and
/// back in whole lines; off by a few bytes, each register would touch two.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct Column([f32; TILE]);

impl Column {
    pub(crate) const ZERO: Self = Self([0.0; TILE]);
}
