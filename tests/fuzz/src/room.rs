//! Memory in which no step beyond the end of a frame goes unnoticed.

use std::{io, ptr, slice};

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect};

/// A page of this machine, or several.
const PAGE: usize = 1 << 16;
/// What is in front of the frame.
const MARK: u8 = 0xa5;
/// Bytes in front of the frame that are looked at.
const MARKED: usize = 64;

/// Room for one frame, right before a page that cannot be touched: a step beyond the frame's end is a SIGSEGV. A step before
/// its start leaves a trace.
///
/// The memory is never given back; there is one for each thread.
pub(crate) struct Room {
    start: *mut u8,
    frame: usize,
}

impl Room {
    /// Most bytes of a frame.
    pub(crate) const LARGEST: usize = PAGE - MARKED;

    /// An empty room.
    pub(crate) fn new() -> io::Result<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: new memory at an address of the kernel's choice.
        let start = unsafe { mmap_anonymous(ptr::null_mut(), 2 * PAGE, access, MapFlags::PRIVATE)? };
        // SAFETY: the second half of that memory, to which there is no reference yet.
        unsafe { mprotect(start.byte_add(PAGE), PAGE, MprotectFlags::empty())? };
        Ok(Self { start: start.cast(), frame: 0 })
    }

    /// Puts a frame in.
    ///
    /// # Panics
    ///
    /// If it is larger than [`Room::LARGEST`].
    pub(crate) fn put(&mut self, frame: &[u8]) {
        self.frame = frame.len();
        let (front, place) = self.split();
        front.fill(MARK);
        place.copy_from_slice(frame);
    }

    /// The frame.
    pub(crate) fn frame(&mut self) -> &mut [u8] {
        self.split().1
    }

    /// Whether nothing was written in front of the frame.
    pub(crate) fn is_whole(&mut self) -> bool {
        self.split().0.iter().all(|byte| *byte == MARK)
    }

    /// What is right in front of the frame, and the frame.
    fn split(&mut self) -> (&mut [u8], &mut [u8]) {
        // SAFETY: the first half of the memory, which only this one refers to.
        let all = unsafe { slice::from_raw_parts_mut(self.start, PAGE) };
        all[PAGE - self.frame - MARKED..].split_at_mut(MARKED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_ends_where_nothing_can_be_touched_and_a_changed_byte_in_front_of_it_is_seen() {
        let mut room = Room::new().unwrap();
        for length in [0, 1, 60, Room::LARGEST] {
            room.put(&vec![7; length]);
            assert_eq!(room.frame(), vec![7; length]);
            let end = room.frame().as_ptr_range().end.addr();
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
            assert!(
                maps.lines().any(|line| line.starts_with(&format!("{end:x}-")) && line.contains(" ---p ")),
                "{maps}"
            );
            assert!(room.is_whole());
            room.split().0[MARKED - 1] ^= 1;
            assert!(!room.is_whole());
        }
    }
}
