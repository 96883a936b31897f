// Look-ups of tables, volumes and channels for one row per invocation.

struct Three {
    x: F,
    y: F,
    z: F,
}

fn table_cell(field: u32, x: F) -> TableCell {
    return table_cell_at(field, x);
}

fn table_value(cell: TableCell, channel: u32) -> F {
    return table_value_at(cell, channel);
}

fn table_slopes(cell: TableCell, channel: u32) -> F {
    return table_slope_at(cell, channel);
}

fn plane_cell(field: u32, x: F, y: F) -> PlaneCell {
    return plane_cell_at(field, x, y);
}

fn plane_value(cell: PlaneCell, channel: u32) -> F {
    return plane_value_at(cell, channel);
}

fn plane_slopes(cell: PlaneCell, channel: u32) -> Two {
    let slopes = plane_slopes_at(cell, channel);
    return Two(slopes.x, slopes.y);
}

fn volume_cell(field: u32, x: F, y: F, z: F) -> VolumeCell {
    return volume_cell_at(field, x, y, z);
}

fn volume_value(cell: VolumeCell, channel: u32) -> F {
    return volume_value_at(cell, channel);
}

fn volume_slopes(cell: VolumeCell, channel: u32) -> Three {
    let slopes = volume_slopes_at(cell, channel);
    return Three(slopes.x, slopes.y, slopes.z);
}
