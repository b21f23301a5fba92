//! The decision word.

use super::{BANKS, Class, ServerNumber, Slot};

/// The decision word of one service, entry of the map `STEERING`: which server SIP goes to, which one RTP goes to, and
/// which other one may still send to clients.
///
/// One aligned 64-bit word, so that a flip is one store and no packet sees half of it:
///
/// | bits | |
/// |---|---|
/// | 0–15 | slot plus one that signalling goes to; 0 for none |
/// | 16–31 | the same for media |
/// | 32–47 | the same for the draining server |
/// | 48–58 | epoch: the number of the latest flip, from 1 to [`LAST_EPOCH`], then from 1 again |
/// | 59–61 | [`Notes`]: what the packet path notes of calls |
/// | 62–63 | the operator's [`Choice`]. A memory of the controller |
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SteeringWord(pub u64);

/// The slots that a decision word names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Named {
    /// Where SIP goes to.
    pub signalling: Option<Slot>,
    /// Where RTP goes to.
    pub media: Option<Slot>,
    /// Whose server gets nothing new, but may still send to clients.
    pub draining: Option<Slot>,
}

/// How far an operator has taken the decision out of the controller's hands. Nothing to the packet path.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Choice {
    /// Not at all.
    #[default]
    None = 0,
    /// The active server is the operator's choice.
    Chosen = 1,
    /// Nothing changes by itself.
    Held = 2,
}

/// What the packet path notes of calls, and what it does with that.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Notes {
    /// Nothing.
    #[default]
    Nothing = 0,
    /// RTP flows, so that they can be counted. No packet goes another way for that.
    Count = FOUND,
    /// Whose calls are whose: those of the draining server stay with it.
    Calls = AFFINITY,
    /// The same, and RTP of a flow that was not noted before is of the server that was active before. If that drains, it
    /// gets it.
    CallsOfFormer = AFFINITY | FOUND,
    /// The same, and RTP of a flow that was not noted before is of the active server, which will be left soon.
    CallsOfActive = AFFINITY | FOUND_ACTIVE,
}

impl Notes {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Nothing, Self::Count, Self::Calls, Self::CallsOfFormer, Self::CallsOfActive];

    /// Whether calls are remembered.
    pub const fn is_affine(self) -> bool {
        self as u8 & AFFINITY != 0
    }

    /// What is noted once the first moments of a flip are over.
    pub const fn settled(self) -> Self {
        match self {
            Self::Count => Self::Nothing,
            Self::CallsOfFormer => Self::Calls,
            other => other,
        }
    }
}

/// The highest epoch.
pub const LAST_EPOCH: u16 = (1 << 11) - 1;

const MEDIA: u32 = 16;
const DRAINING: u32 = 32;
const EPOCH: u32 = 48;
const NOTES: u32 = 59;
/// Of [`Notes`]: a flow that is not known is noted without an owner.
const FOUND: u8 = 1;
/// It is noted as the active server's.
const FOUND_ACTIVE: u8 = 1 << 1;
const AFFINITY: u8 = 1 << 2;
const CHOICE: u32 = 62;
const SLOTS: u64 = (1 << EPOCH) - 1;

impl Named {
    /// Signalling and media to the same slot, nobody draining.
    pub const fn both(slot: Slot) -> Self {
        Self { signalling: Some(slot), media: Some(slot), draining: None }
    }

    /// The same with each slot that is named replaced by what `change` makes of it.
    pub fn map(self, change: impl Fn(Slot) -> Option<Slot>) -> Self {
        Self {
            signalling: self.signalling.and_then(&change),
            media: self.media.and_then(&change),
            draining: self.draining.and_then(&change),
        }
    }

    /// Every slot that is named.
    pub fn slots(self) -> impl Iterator<Item = Slot> {
        [self.signalling, self.media, self.draining].into_iter().flatten()
    }
}

impl SteeringWord {
    /// A word without notes and choice.
    pub const fn new(named: Named, epoch: u16) -> Self {
        Self((epoch as u64 & LAST_EPOCH as u64) << EPOCH).with(named)
    }

    /// The same word with other slots.
    pub const fn with(self, named: Named) -> Self {
        let slots = pack(named.signalling) | pack(named.media) << MEDIA | pack(named.draining) << DRAINING;
        Self(self.0 & !SLOTS | slots)
    }

    /// The same word with another note of the operator's choice.
    pub const fn with_choice(self, choice: Choice) -> Self {
        Self(self.0 & !(0b11 << CHOICE) | (choice as u64) << CHOICE)
    }

    /// The same word with another order of what to note.
    pub const fn with_notes(self, notes: Notes) -> Self {
        Self(self.0 & !(0b111 << NOTES) | (notes as u64) << NOTES)
    }

    /// The same word with the next epoch. There is no epoch 0 but that of a word that was never written.
    pub const fn next(self) -> Self {
        let epoch = if self.epoch() == LAST_EPOCH { 1 } else { self.epoch() + 1 };
        Self(self.0 & !((LAST_EPOCH as u64) << EPOCH) | (epoch as u64) << EPOCH)
    }

    /// The word after a decision, with the same order of what to note. Its epoch is the next one if signalling or media goes to
    /// another server; another bank of the same server, another choice, and who is draining, are no such change.
    pub fn steered(self, named: Named, choice: Choice) -> Self {
        let [old, new] = [self.named(), named].map(targets);
        let word = self.with(named).with_choice(choice);
        if old != new { word.next() } else { word }
    }

    /// Whether in another word's place a server takes another one's place, with signalling or media.
    pub fn is_take_over(self, named: Named) -> bool {
        let [old, new] = [self.named(), named].map(targets);
        old.iter().zip(&new).any(|(old, new)| old.is_some() && new.is_some() && old != new)
    }

    /// The slots that it names.
    pub const fn named(self) -> Named {
        Named { signalling: self.target(Class::Sip), media: self.target(Class::Rtp), draining: self.draining() }
    }

    /// The slot that packets of this class go to.
    #[inline(always)]
    pub const fn target(self, class: Class) -> Option<Slot> {
        match class {
            Class::Sip => unpack(self.0),
            Class::Rtp => unpack(self.0 >> MEDIA),
            Class::Other => None,
        }
    }

    /// The slot whose server gets nothing new, but may still send to clients.
    #[inline(always)]
    pub const fn draining(self) -> Option<Slot> {
        unpack(self.0 >> DRAINING)
    }

    /// The number of the latest flip; 0 if there was none yet.
    #[inline(always)]
    pub const fn epoch(self) -> u16 {
        (self.0 >> EPOCH) as u16 & LAST_EPOCH
    }

    /// What the packet path notes.
    pub const fn notes(self) -> Notes {
        let (bits, mut index) = ((self.0 >> NOTES) as u8 & 0b111, 0);
        while index < Notes::ALL.len() {
            if Notes::ALL[index] as u8 == bits {
                return Notes::ALL[index];
            }
            index += 1;
        }
        Notes::Nothing
    }

    #[inline(always)]
    const fn has_note(self, bit: u8) -> bool {
        self.0 & (bit as u64) << NOTES != 0
    }

    /// Whether calls are remembered, and those of the draining server stay with it.
    #[inline(always)]
    pub const fn is_affine(self) -> bool {
        self.has_note(AFFINITY)
    }

    /// Whether flows or calls have to be asked for before a packet of this class goes to a server.
    #[inline(always)]
    pub const fn asks_about(self, class: Class) -> bool {
        self.has_note(if matches!(class, Class::Rtp) { AFFINITY | FOUND | FOUND_ACTIVE } else { AFFINITY })
    }

    /// Whether RTP of a flow that was not noted before is noted.
    #[inline(always)]
    pub const fn notes_flows(self) -> bool {
        self.has_note(FOUND | FOUND_ACTIVE)
    }

    /// Whether such a flow is of the server that was active before, or of nobody: then it is only counted.
    #[inline(always)]
    pub const fn notes_flows_of_former(self) -> bool {
        self.has_note(FOUND)
    }

    /// Whether it is of the active server, because that will be left soon.
    #[inline(always)]
    pub const fn notes_flows_of_active(self) -> bool {
        self.has_note(FOUND_ACTIVE)
    }

    /// What the operator has chosen.
    pub const fn choice(self) -> Choice {
        match self.0 >> CHOICE {
            0 => Choice::None,
            1 => Choice::Chosen,
            _ => Choice::Held,
        }
    }

    /// Whether `server` may send to clients: signalling or media goes to it, or it is draining. Everybody else is fenced.
    #[inline(always)]
    pub const fn may_send(self, server: ServerNumber) -> bool {
        // No short cut: each branch would be one more path for the verifier to walk.
        is_slot_of(self.0, server) | is_slot_of(self.0 >> MEDIA, server) | is_slot_of(self.0 >> DRAINING, server)
    }

    /// Whether packets of this class go to `server`.
    #[inline(always)]
    pub const fn goes_to(self, class: Class, server: ServerNumber) -> bool {
        let is_target = is_slot_of(if matches!(class, Class::Rtp) { self.0 >> MEDIA } else { self.0 }, server);
        is_target & !matches!(class, Class::Other)
    }
}

/// The servers of signalling and media.
fn targets(named: Named) -> [Option<ServerNumber>; 2] {
    [named.signalling, named.media].map(|slot| slot.map(Slot::server))
}

/// Whether the lowest 16 bits name a slot of this server. Of 0, which names none, nothing is left but the highest number.
#[inline(always)]
const fn is_slot_of(bits: u64, server: ServerNumber) -> bool {
    ((bits & 0xffff) as u32).wrapping_sub(1) / BANKS == server.0
}

const fn pack(slot: Option<Slot>) -> u64 {
    match slot {
        Some(Slot(index)) => index as u64 + 1,
        None => 0,
    }
}

#[inline(always)]
const fn unpack(bits: u64) -> Option<Slot> {
    match bits & 0xffff {
        0 => None,
        index => Some(Slot(index as u32 - 1)),
    }
}
