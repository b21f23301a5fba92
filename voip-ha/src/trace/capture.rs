//! Frames from a capture: pcap and pcapng.

use std::io::{BufReader, Read, Seek, SeekFrom};

use pcap_file::{
    DataLink, PcapError,
    pcap::PcapReader,
    pcapng::{Block, PcapNgReader},
};

/// How a pcap file begins: times in micro- or nanoseconds, in either byte order.
const PCAP: [u32; 4] = [0xa1b2_c3d4, 0xd4c3_b2a1, 0xa1b2_3c4d, 0x4d3c_b2a1];
/// How a pcapng file begins: the type of a section header, which is the same in either byte order.
const PCAPNG: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// One captured frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// Its place in the file, from 1.
    pub number: u64,
    /// The bytes, those that were not captured as zeros: the lengths in the headers count them, and what they are is nothing
    /// to the program.
    pub frame: Vec<u8>,
    /// Bytes that were captured.
    pub captured: usize,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// Neither format.
    #[error("this is neither pcap nor pcapng")]
    NoCapture,
    /// The beginning of the file.
    #[error("the header of the file: {0}")]
    Header(String),
    /// A packet, or what stands in its place.
    #[error("packet {number}: {why}")]
    Packet {
        /// Its place in the file, from 1.
        number: u64,
        /// What is wrong.
        why: String,
    },
    /// Captured on something that has no Ethernet headers.
    #[error(
        "packet {number} was captured as {found:?}: only Ethernet can be traced (tcpdump -i INTERFACE, not -i any)"
    )]
    Link {
        /// Its place in the file, from 1.
        number: u64,
        /// The kind of link.
        found: DataLink,
    },
    /// The file itself.
    #[error(transparent)]
    Unreadable(#[from] std::io::Error),
}

/// Reads frames until `take` has enough and says so by `false`.
///
/// # Errors
///
/// The file is no capture, or broken. Frames before that place were taken.
pub fn read<E: From<CaptureError>>(
    file: impl Read + Seek,
    take: impl FnMut(Captured) -> Result<bool, E>,
) -> Result<(), E> {
    let mut file = BufReader::new(file);
    let mut magic = [0; 4];
    let whole = file.read_exact(&mut magic).and_then(|()| file.seek(SeekFrom::Start(0)));
    match (whole, magic) {
        (Err(error), _) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(CaptureError::NoCapture.into()),
        (Err(error), _) => Err(CaptureError::from(error).into()),
        (Ok(_), PCAPNG) => read_pcapng(file, take),
        (Ok(_), magic) if PCAP.contains(&u32::from_be_bytes(magic)) => read_pcap(file, take),
        (Ok(_), _) => Err(CaptureError::NoCapture.into()),
    }
}

fn read_pcap<E: From<CaptureError>>(
    file: impl Read,
    mut take: impl FnMut(Captured) -> Result<bool, E>,
) -> Result<(), E> {
    let mut reader = PcapReader::new(file).map_err(|error| CaptureError::Header(text(error)))?;
    let link = reader.header().datalink;
    let mut number = 0;
    while let Some(packet) = reader.next_packet() {
        number += 1;
        let packet = packet.map_err(|error| broken(number, error))?;
        if !take(captured(number, link, packet.data.into_owned(), packet.orig_len)?)? {
            break;
        }
    }
    Ok(())
}

fn read_pcapng<E: From<CaptureError>>(
    file: impl Read,
    mut take: impl FnMut(Captured) -> Result<bool, E>,
) -> Result<(), E> {
    let mut reader = PcapNgReader::new(file).map_err(|error| CaptureError::Header(text(error)))?;
    let mut number = 0;
    loop {
        let (interface, bytes, length) = match reader.next_block() {
            None => return Ok(()),
            Some(Err(error)) => return Err(broken(number + 1, error).into()),
            Some(Ok(Block::EnhancedPacket(packet))) => {
                (packet.interface_id, packet.data.into_owned(), packet.original_len)
            }
            Some(Ok(Block::SimplePacket(packet))) => (0, packet.data.into_owned(), packet.original_len),
            Some(Ok(Block::Packet(packet))) => {
                (packet.interface_id.into(), packet.data.into_owned(), packet.original_len)
            }
            Some(Ok(_)) => continue,
        };
        number += 1;
        let Some(interface) = reader.interfaces().get(interface as usize) else {
            return Err(CaptureError::Packet { number, why: format!("no interface {interface} in the file") }.into());
        };
        if !take(captured(number, interface.linktype, bytes, length)?)? {
            return Ok(());
        }
    }
}

fn captured(number: u64, link: DataLink, mut frame: Vec<u8>, length: u32) -> Result<Captured, CaptureError> {
    if link != DataLink::ETHERNET {
        return Err(CaptureError::Link { number, found: link });
    }
    let captured = frame.len();
    // No length that a broken file may claim is worth more memory than the longest packet.
    frame.resize(captured.max(length.min(u32::from(u16::MAX)) as usize), 0);
    Ok(Captured { number, frame, captured })
}

fn broken(number: u64, error: PcapError) -> CaptureError {
    CaptureError::Packet { number, why: text(error) }
}

fn text(error: PcapError) -> String {
    match error {
        PcapError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            "the file ends in it".to_owned()
        }
        PcapError::IncompleteBuffer => "the file ends in it".to_owned(),
        PcapError::IoError(error) => error.to_string(),
        other => other.to_string(),
    }
}
