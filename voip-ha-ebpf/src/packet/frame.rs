//! The bytes of a frame.

use core::{marker::PhantomData, mem::size_of};

use crate::abi::Address;

/// The bytes of one frame, from the Ethernet header on; from the IP header on where it came in by a device without Ethernet.
pub struct Frame<'a> {
    start: usize,
    end: usize,
    bytes: PhantomData<&'a mut [u8]>,
}

/// Types that any bytes are a valid value of, with alignment 1.
///
/// # Safety
///
/// The type must be made of `u8`, arrays of `u8` and such types only.
pub unsafe trait Bytes {}

/// Two bytes of a header, in the packet's order.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Half([u8; 2]);

/// Four bytes of a header, in the packet's order.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Word([u8; 4]);

/// The sixteen bytes of an IPv6 address, in the packet's order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Wide([u8; 8], [u8; 8]);

// SAFETY: what the trait is about.
unsafe impl Bytes for u8 {}
// SAFETY: an array of such only.
unsafe impl<T: Bytes, const N: usize> Bytes for [T; N] {}
// SAFETY: arrays of u8 only.
unsafe impl Bytes for Half {}
// SAFETY: arrays of u8 only.
unsafe impl Bytes for Word {}
// SAFETY: arrays of u8 only.
unsafe impl Bytes for Wide {}

/// Reads an integer as it lies in memory.
///
/// # Safety
///
/// `N` must be the size of `T`, an integer.
#[inline(always)]
unsafe fn load<T, const N: usize>(bytes: &[u8; N]) -> T {
    let pointer = bytes.as_ptr().cast::<T>();
    // A load of unknown alignment is taken apart into one of each byte by the compiler for BPF: eight loads and as many shifts
    // in place of one. The verifier allows any alignment wherever the CPU does.
    // SAFETY: readable for N bytes; see above for the alignment.
    unsafe { if cfg!(target_arch = "bpf") { pointer.read() } else { pointer.read_unaligned() } }
}

/// Writes an integer as it lies in memory.
///
/// # Safety
///
/// As [`load`].
#[inline(always)]
unsafe fn store<T, const N: usize>(bytes: &mut [u8; N], value: T) {
    let pointer = bytes.as_mut_ptr().cast::<T>();
    // SAFETY: as in `load`.
    unsafe { if cfg!(target_arch = "bpf") { pointer.write(value) } else { pointer.write_unaligned(value) } }
}

impl Half {
    /// Two bytes, read in native order.
    #[inline(always)]
    pub fn new(value: u16) -> Self {
        Self(value.to_ne_bytes())
    }

    /// The two bytes, read in native order.
    #[inline(always)]
    pub fn get(&self) -> u16 {
        // SAFETY: two bytes.
        unsafe { load(&self.0) }
    }

    /// Replaces the two bytes.
    #[inline(always)]
    pub fn set(&mut self, value: u16) {
        // SAFETY: two bytes.
        unsafe { store(&mut self.0, value) }
    }
}

impl Word {
    /// The four bytes, read in native order.
    #[inline(always)]
    pub fn get(&self) -> u32 {
        // SAFETY: four bytes.
        unsafe { load(&self.0) }
    }

    /// Replaces the four bytes.
    #[inline(always)]
    pub fn set(&mut self, value: u32) {
        // SAFETY: four bytes.
        unsafe { store(&mut self.0, value) }
    }

    /// The IPv4 address that this is.
    #[inline(always)]
    pub fn address(&self) -> Address {
        Address::v4_word(self.get())
    }
}

impl Wide {
    /// The IPv6 address that this is.
    #[inline(always)]
    pub fn address(&self) -> Address {
        // SAFETY: eight bytes each.
        unsafe { Address { high: load(&self.0), low: load(&self.1) } }
    }

    /// Replaces it.
    #[inline(always)]
    pub fn set(&mut self, address: Address) {
        // SAFETY: eight bytes each.
        unsafe {
            store(&mut self.0, address.high);
            store(&mut self.1, address.low);
        }
    }
}

impl<'a> Frame<'a> {
    /// A frame from the address of its first byte to the address past its last one, as XDP gives them.
    ///
    /// # Safety
    ///
    /// The bytes in between must be readable and writable for `'a`, and nobody else may use them meanwhile.
    #[inline(always)]
    pub unsafe fn new(start: usize, end: usize) -> Self {
        Self { start, end, bytes: PhantomData }
    }

    /// A frame in host memory.
    pub fn from_slice(bytes: &'a mut [u8]) -> Self {
        let range = bytes.as_mut_ptr_range();
        Self { start: range.start as usize, end: range.end as usize, bytes: PhantomData }
    }

    /// Bytes of the frame.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether the frame has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The header at `offset`, or `None` if it does not lie wholly inside the frame.
    #[inline(always)]
    pub fn at<T: Bytes>(&mut self, offset: usize) -> Option<&mut T> {
        if self.start + offset + size_of::<T>() > self.end {
            return None;
        }
        // SAFETY: inside the frame as just checked, any bytes are a valid T with alignment 1, and the mutable borrow of
        // self keeps the reference unique.
        Some(unsafe { &mut *((self.start + offset) as *mut T) })
    }
}
