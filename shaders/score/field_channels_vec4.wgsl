// Look-ups of tables, volumes and channels for four rows per invocation.

struct Three {
    x: F,
    y: F,
    z: F,
}

struct TableCells {
    a: TableCell,
    b: TableCell,
    c: TableCell,
    d: TableCell,
}

fn table_cell(field: u32, x: F) -> TableCells {
    return TableCells(
        table_cell_at(field, x.x),
        table_cell_at(field, x.y),
        table_cell_at(field, x.z),
        table_cell_at(field, x.w),
    );
}

fn table_value(cell: TableCells, channel: u32) -> F {
    return F(
        table_value_at(cell.a, channel),
        table_value_at(cell.b, channel),
        table_value_at(cell.c, channel),
        table_value_at(cell.d, channel),
    );
}

fn table_slopes(cell: TableCells, channel: u32) -> F {
    return F(
        table_slope_at(cell.a, channel),
        table_slope_at(cell.b, channel),
        table_slope_at(cell.c, channel),
        table_slope_at(cell.d, channel),
    );
}

struct PlaneCells {
    a: PlaneCell,
    b: PlaneCell,
    c: PlaneCell,
    d: PlaneCell,
}

fn plane_cell(field: u32, x: F, y: F) -> PlaneCells {
    return PlaneCells(
        plane_cell_at(field, x.x, y.x),
        plane_cell_at(field, x.y, y.y),
        plane_cell_at(field, x.z, y.z),
        plane_cell_at(field, x.w, y.w),
    );
}

fn plane_value(cell: PlaneCells, channel: u32) -> F {
    return F(
        plane_value_at(cell.a, channel),
        plane_value_at(cell.b, channel),
        plane_value_at(cell.c, channel),
        plane_value_at(cell.d, channel),
    );
}

fn plane_slopes(cell: PlaneCells, channel: u32) -> Two {
    let a = plane_slopes_at(cell.a, channel);
    let b = plane_slopes_at(cell.b, channel);
    let c = plane_slopes_at(cell.c, channel);
    let d = plane_slopes_at(cell.d, channel);
    return Two(F(a.x, b.x, c.x, d.x), F(a.y, b.y, c.y, d.y));
}

struct VolumeCells {
    a: VolumeCell,
    b: VolumeCell,
    c: VolumeCell,
    d: VolumeCell,
}

fn volume_cell(field: u32, x: F, y: F, z: F) -> VolumeCells {
    return VolumeCells(
        volume_cell_at(field, x.x, y.x, z.x),
        volume_cell_at(field, x.y, y.y, z.y),
        volume_cell_at(field, x.z, y.z, z.z),
        volume_cell_at(field, x.w, y.w, z.w),
    );
}

fn volume_value(cell: VolumeCells, channel: u32) -> F {
    return F(
        volume_value_at(cell.a, channel),
        volume_value_at(cell.b, channel),
        volume_value_at(cell.c, channel),
        volume_value_at(cell.d, channel),
    );
}

fn volume_slopes(cell: VolumeCells, channel: u32) -> Three {
    let a = volume_slopes_at(cell.a, channel);
    let b = volume_slopes_at(cell.b, channel);
    let c = volume_slopes_at(cell.c, channel);
    let d = volume_slopes_at(cell.d, channel);
    return Three(F(a.x, b.x, c.x, d.x), F(a.y, b.y, c.y, d.y), F(a.z, b.z, c.z, d.z));
}
