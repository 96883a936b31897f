//! The staging buffer from the host to the device.

use std::ops::Range;

use wgpu::BufferUsages as Usage;

use super::device::Device;
use crate::error::EngineError;
use crate::runtime::browser::BROWSER;

/// What a call uploads. Natively it is written to a buffer that is mapped between calls. In a browser, mapping is
/// asynchronous, so the bytes are kept on the host and copied by the queue.
pub(crate) enum Upload {
    Mapped(wgpu::Buffer),
    Written(Vec<u8>),
}

impl Upload {
    pub(crate) fn new(device: &Device, size: u64) -> Result<Self, EngineError> {
        if BROWSER {
            return Ok(Self::Written(vec![0; size as usize]));
        }
        device.buffer("the upload", size, Usage::MAP_WRITE | Usage::COPY_SRC).map(Self::Mapped)
    }

    /// Lets `fill` write bytes at offsets, then ends the mapping.
    pub(crate) fn fill(
        &mut self,
        device: &Device,
        fill: impl FnOnce(&mut dyn FnMut(u64, &[u8])),
    ) -> Result<(), EngineError> {
        match self {
            Self::Written(bytes) => {
                fill(&mut |at, data| bytes[at as usize..at as usize + data.len()].copy_from_slice(data));
            }
            Self::Mapped(buffer) => {
                let mut view = buffer.get_mapped_range_mut(..).map_err(|error| device.failure(error))?;
                fill(&mut |at, data| view.slice(at as usize..at as usize + data.len()).copy_from_slice(data));
                drop(view);
                buffer.unmap();
            }
        }
        Ok(())
    }

    /// Copies some of the bytes to the start of a buffer, before the work of the next submission.
    pub(crate) fn copy(
        &self,
        device: &Device,
        encoder: &mut wgpu::CommandEncoder,
        bytes: Range<u64>,
        to: &wgpu::Buffer,
    ) {
        match self {
            Self::Written(all) => {
                device.queue.write_buffer(to, 0, &all[bytes.start as usize..bytes.end as usize]);
            }
            Self::Mapped(buffer) => encoder.copy_buffer_to_buffer(buffer, bytes.start, to, 0, bytes.end - bytes.start),
        }
    }

    /// Maps the buffer for the next call, when the submission has been completed.
    pub(crate) fn map_on_submit(&self, encoder: &wgpu::CommandEncoder) {
        if let Self::Mapped(buffer) = self {
            encoder.map_buffer_on_submit(buffer, wgpu::MapMode::Write, .., |_| ());
        }
    }
}
