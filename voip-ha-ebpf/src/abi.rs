//! Keys, values and limits of every map: the contract between the XDP program, the controller and the command line.
//!
//! A change of anything here that is stored in a map is a change of [`ABI_VERSION`]. The version names the directory of
//! the pins, so that a program never reads a map of another layout.
//!
//! Addresses are kept as they lie in packets, so that no endianness can be got wrong. Everything else is in host order.

/// Declares a `u8` enum whose variants count up from 0, each with the name that people see.
macro_rules! named_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// All variants, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name used in the command line, metrics and logs.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

mod address;
mod calls;
mod endpoints;
mod entries;
mod fragments;
mod masquerade;
mod notes;
mod protection;
mod word;

use core::mem::{align_of, size_of};

pub use self::{
    address::{Address, FAMILIES, Family},
    calls::{CallEntry, CallKey, MAX_CALLS},
    endpoints::{ENDPOINT_PROBES, ENDPOINT_ROWS, Endpoint, EndpointRow, ServicePlace, first_row, rows_of},
    entries::{
        Ends, Forwarding, LINK_PROBES, LINK_ROWS, LinkEntry, MAX_SIP_PORTS, MAX_TAGS, NO_EXIT, Ports, ServerEntry,
        ServiceEntry, VlanTag, link_rows, server_index,
    },
    fragments::{FRAGMENTS_WAIT_NS, FirstFragment, FragmentEntry, FragmentKey, MAX_FRAGMENTS},
    masquerade::{MAX_MASKED, MAX_MASKS, MaskKey, MaskedEntry, MaskedKey},
    notes::{
        Counter, EPOCHS_KEPT, FlipEntry, FlowEntry, FlowKey, HEARD_GRAIN_NS, MAX_FLIPS, MAX_FLOWS, MAX_TALLIES,
        Pending, REFUSED_GRAIN_NS, SEEN_GRAIN_NS, SIGNALS_BYTES, SignalRecord, Stamp, Tally, TrafficEntry, flip_index,
        tally_index,
    },
    protection::{
        DENIES, EXEMPTS, LIMITS_SIP, LimitEntry, ListedKey, Listing, MAX_LISTED, MAX_LISTED_PER_SERVICE, MAX_SOURCES,
        RefusedEntry, SourceEntry, SourceKey,
    },
    word::{Choice, LAST_EPOCH, Named, Notes, SteeringWord},
};

/// Version of the map layouts. Part of the name of the pin directory.
pub const ABI_VERSION: u32 = 4;

/// Most services that one gateway serves.
pub const MAX_SERVICES: u32 = 16;
/// Most servers behind one gateway, over all services.
pub const MAX_SERVERS: u32 = 64;
/// Most network devices that packets may leave by: few of the rows of `LINKS`, so that a search is short.
pub const MAX_DEVICES: u32 = 64;
/// Slots that each server has, and places that each service has: one is in use while the other is being written.
pub const BANKS: u32 = 2;
/// Slots in all.
pub const MAX_SLOTS: u32 = MAX_SERVERS * BANKS;
/// Entries of the map `SERVERS`.
pub const MAX_WAYS: u32 = MAX_SLOTS * FAMILIES;
/// Entries of the map `SERVICES`.
pub const MAX_PLACES: u32 = MAX_SERVICES * BANKS;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// Number of a server: its place in the counters, and, times [`BANKS`], its first slot.
///
/// A server keeps its number for as long as it stays in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerNumber(pub u32);

/// One of a server's places in the map `SERVERS`, where it has an entry for each family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot(pub u32);

impl ServerNumber {
    /// The slot of this server in the given bank (`0..BANKS`).
    pub const fn slot(self, bank: u32) -> Slot {
        Slot(self.0 * BANKS + bank)
    }
}

impl Slot {
    /// The server that this slot belongs to.
    #[inline(always)]
    pub const fn server(self) -> ServerNumber {
        ServerNumber(self.0 / BANKS)
    }

    /// The other slot of the same server.
    pub const fn other_bank(self) -> Self {
        Self(self.0 ^ 1)
    }
}

named_enum! {
    /// What a packet carries, told by its port.
    Class {
        /// Neither SIP nor RTP of a service.
        Other = "other",
        /// SIP signalling.
        Sip = "sip",
        /// RTP or RTCP media.
        Rtp = "rtp",
    }
}

named_enum! {
    /// What became of a packet. Every packet is counted under exactly one of these.
    Outcome {
        /// Redirected to the server that its class goes to.
        ToServer = "to-server",
        /// Redirected to a client, with the VIP as its source.
        ToClient = "to-client",
        /// Rewritten like [`Outcome::ToClient`], then given to the kernel's stack, because the client's Ethernet address is
        /// not known yet, the packet is larger than the MTU, or the way out is not a device that XDP can send to.
        ToClientByStack = "to-client-by-stack",
        /// Passed: an Ethernet broadcast or multicast.
        NotUnicast = "not-unicast",
        /// Passed: no complete header of IPv4 or IPv6.
        NotIp = "not-ip",
        /// Passed: neither to a VIP nor from a server.
        NotService = "not-service",
        /// Passed: not UDP, to a VIP or from a server.
        NotUdp = "not-udp",
        /// Dropped: a fragment but the first, to a VIP whose signalling and media do not go to one server, and the first one was
        /// not seen (or its server has left). Only that has the port which tells where the others go.
        Fragment = "fragment",
        /// Passed: UDP to a VIP or from a server, but no port of the service.
        NotServicePort = "not-service-port",
        /// Passed: from a server to the gateway itself (such as the answer to a probe), or without a route.
        NotForwarded = "not-forwarded",
        /// Dropped: to a VIP or from a server, with lengths that contradict each other.
        Malformed = "malformed",
        /// Dropped: the service has no active server.
        NoActiveServer = "no-active-server",
        /// Dropped: the next hop towards the active server is not known.
        NoNextHop = "no-next-hop",
        /// Dropped: the device towards the server is none that packets may leave by (map `DEVICES`), or only the stack can send by it
        /// and the server has the VIP itself ([`Forwarding::Dsr`]).
        NoDevice = "no-device",
        /// Dropped: the time to live is used up.
        TtlExpired = "ttl-expired",
        /// Dropped: the sender is a server that is neither active nor draining.
        Fenced = "fenced",
        /// Dropped: a blackhole, unreachable or prohibit route to the client, or forwarding is switched off.
        Unroutable = "unroutable",
        /// Passed: from a server to another server's own address. What servers tell each other is not for clients, so it is
        /// neither rewritten nor fenced.
        BetweenServers = "between-servers",
        /// Dropped: larger than the MTU on its way, must not be fragmented, and no answer may or can be made: it is ICMP, a
        /// fragment but the first, not from a single host, has options of IPv4, or came in by a tunnel. Or it may be fragmented, which is the stack's work, but
        /// the server has the VIP itself ([`Forwarding::Dsr`]), and the stack would take the packet for its own.
        TooLarge = "too-large",
        /// Passed: an ICMP error about a datagram to this server that is no client's: to the gateway itself, or not about a port of
        /// the service.
        ServerUnreachable = "server-unreachable",
        /// Rewritten like [`Outcome::ToServer`], then given to the kernel's stack, which fragments it, because it is larger than the MTU
        /// of the device towards the server, or alone can send by that device, which is a tunnel.
        ToServerByStack = "to-server-by-stack",
        /// Answered by ICMP with the MTU: larger than one on its way, and must not be fragmented (RFC 1191, RFC 8201).
        ToldTooBig = "told-too-big",
        /// Dropped: SIP of a sender that sends more than the service's limit.
        RateLimited = "rate-limited",
        /// Dropped: SIP or RTP of a sender that the service denies.
        Denied = "denied",
        /// Dropped: to a server that gets packets in the gateway's own name ([`Forwarding::Masquerade`]), and no port is left for this
        /// client. Or an ICMP error about a packet of that server, for whose flow there is no port any more.
        NoPort = "no-port",
    }
}

/// Entries of the map `PROGRAMS`.
pub const MAX_PROGRAMS: u32 = 8;
/// Index in the map `PROGRAMS` of the program for all packets.
pub const ANY_PACKET: u32 = 0;
/// That of the program for all packets while calls are remembered.
pub const ANY_CALL: u32 = 1;
/// That of the program which looks into SIP messages before that one.
pub const ANY_MESSAGE: u32 = 2;
/// That of the program for ICMP.
pub const ANY_ERROR: u32 = 3;
/// That of the program which carries out what was decided.
pub const ANY_VERDICT: u32 = 4;
/// That of the program which puts the client into what servers send to the gateway's own name, before that for all packets. Not there
/// while no server masquerades.
pub const TO_MASK: u32 = 5;
/// That of the program which gives packets the gateway's own name, before what was decided is carried out.
pub const FROM_MASK: u32 = 6;

/// Bytes of the value of the map `MEMORY`, in which one program leaves for the next what it knows of a packet.
pub const MEMORY_BYTES: usize = 360;

/// Places for outcomes in the counters; more than there are, so that one more does not move the others.
pub const OUTCOMES: u32 = 32;
/// Places for classes in the counters.
pub const CLASSES: u32 = 3;
// The layouts as the kernel stores them. A line that fails here asks for a new ABI_VERSION.
const _: () = {
    assert!(size_of::<SteeringWord>() == 8 && align_of::<SteeringWord>() == 8);
    assert!(size_of::<Ports>() == 12);
    assert!(size_of::<Address>() == 16 && align_of::<Address>() == 8);
    assert!(size_of::<EndpointRow>() == 24);
    assert!(size_of::<ServiceEntry>() == 48);
    assert!(size_of::<ServerEntry>() == 80);
    assert!(size_of::<LinkEntry>() == 12);
    assert!(size_of::<Counter>() == 16);
    assert!(size_of::<TrafficEntry>() == 64 && align_of::<TrafficEntry>() == 64);
    assert!(size_of::<SignalRecord>() == 16);
    assert!(size_of::<Tally>() == 56 + 16 * OUTCOMES as usize);
    assert!(size_of::<FlipEntry>() == 32);
    assert!(size_of::<FlowKey>() == 24);
    assert!(size_of::<FlowEntry>() == 16);
    assert!(size_of::<FragmentKey>() == 40);
    assert!(size_of::<FragmentEntry>() == 32);
    assert!(size_of::<MaskKey>() == 24);
    assert!(size_of::<MaskedKey>() == 8);
    assert!(size_of::<MaskedEntry>() == 32);
    assert!(size_of::<LimitEntry>() == 40);
    assert!(size_of::<ListedKey>() == 20 && align_of::<ListedKey>() == 4);
    assert!(size_of::<SourceKey>() == 24);
    assert!(size_of::<SourceEntry>() == 16);
    assert!(size_of::<RefusedEntry>() == 40);
    assert!(MAX_SLOTS < 0xffff, "a slot plus one must fit into 16 bits");
    assert!(MAX_PLACES <= 0x100, "a place must fit into 8 bits");
    assert!(Outcome::ALL.len() <= OUTCOMES as usize);
    assert!(Class::ALL.len() == CLASSES as usize);
};

#[cfg(feature = "user")]
mod pod {
    use super::{
        CallEntry, CallKey, EndpointRow, FlipEntry, FlowEntry, FlowKey, FragmentEntry, FragmentKey, LimitEntry,
        LinkEntry, ListedKey, MaskKey, MaskedEntry, MaskedKey, RefusedEntry, ServerEntry, ServiceEntry, SourceEntry,
        SourceKey, SteeringWord, Tally, TrafficEntry,
    };

    // SAFETY: a transparent wrapper of u64.
    unsafe impl aya::Pod for SteeringWord {}
    // SAFETY: repr(C) integers without padding: 4 + 4 + 8 bytes.
    unsafe impl aya::Pod for CallKey {}
    // SAFETY: repr(C) integers without padding: 8 + 4 + 4 bytes.
    unsafe impl aya::Pod for CallEntry {}
    // SAFETY: repr(C) integers without padding: 8 + 8 + 8 bytes.
    unsafe impl aya::Pod for EndpointRow {}
    // SAFETY: repr(C) integers without padding: 32 + 12 + 4 bytes.
    unsafe impl aya::Pod for ServiceEntry {}
    // SAFETY: repr(C) integers without padding: 16 + 4 + 4 + 6 + 6 + 8 + 4 + 4 + 4 + 16 + 4 + 4 bytes.
    unsafe impl aya::Pod for ServerEntry {}
    // SAFETY: repr(C) integers without padding: 4 + 8 bytes.
    unsafe impl aya::Pod for LinkEntry {}
    // SAFETY: repr(C) integers without padding: 8 + 8 + 48 bytes.
    unsafe impl aya::Pod for TrafficEntry {}
    // SAFETY: repr(C) integers without padding: 16 + 8 + 8 + 24 bytes, and 16 for each outcome.
    unsafe impl aya::Pod for Tally {}
    // SAFETY: repr(C) integers without padding: four of 8 bytes.
    unsafe impl aya::Pod for FlipEntry {}
    // SAFETY: repr(C) integers without padding: 16 + 4 + 2 + 2 bytes.
    unsafe impl aya::Pod for FlowKey {}
    // SAFETY: repr(C) integers without padding: 8 + 4 + 4 bytes.
    unsafe impl aya::Pod for FlowEntry {}
    // SAFETY: repr(C) integers without padding: 16 + 16 + 4 + 4 bytes.
    unsafe impl aya::Pod for FragmentKey {}
    // SAFETY: repr(C) integers without padding: 8 + 4 + 4 + 16 bytes.
    unsafe impl aya::Pod for FragmentEntry {}
    // SAFETY: repr(C) integers without padding: 16 + 4 + 2 + 2 bytes.
    unsafe impl aya::Pod for MaskKey {}
    // SAFETY: repr(C) integers without padding: four of 2 bytes.
    unsafe impl aya::Pod for MaskedKey {}
    // SAFETY: repr(C) integers without padding: 16 + 8 + 2 + 6 bytes.
    unsafe impl aya::Pod for MaskedEntry {}
    // SAFETY: repr(C) integers without padding: 16 + 16 + 4 + 4 bytes.
    unsafe impl aya::Pod for LimitEntry {}
    // SAFETY: repr(C) integers without padding: 4 + 16 bytes.
    unsafe impl aya::Pod for ListedKey {}
    // SAFETY: repr(C) integers without padding: 16 + 4 + 4 bytes.
    unsafe impl aya::Pod for SourceKey {}
    // SAFETY: repr(C) integers without padding: 8 + 8 bytes.
    unsafe impl aya::Pod for SourceEntry {}
    // SAFETY: repr(C) integers without padding: 24 + 8 + 8 bytes.
    unsafe impl aya::Pod for RefusedEntry {}
}

#[cfg(test)]
mod tests;
