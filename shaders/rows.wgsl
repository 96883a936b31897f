// The rows, number by number.

@group(0) @binding(3) var<storage, read_write> rows: array<f32>;

// Where coordinate d of row k stands, whichever way the rows are laid out. Twin: Update::address in src/update.rs.
fn address(k: u32, d: u32) -> u32 {
    return (k / TILE) * TILE * update.width + (k % TILE) * update.row_stride + d * update.coordinate_stride;
}
