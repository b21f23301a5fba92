//! The scanner of SIP messages as the kernel runs it, and messages for it.

use anyhow::{Context as _, Result, bail, ensure};
use aya::{
    Ebpf, TestRunOptions,
    maps::{Array, MapData},
    programs::{TestRun as _, Xdp},
};
use etherparse::PacketBuilder;
use voip_ha_ebpf::sip::{Kind, Scan};

use super::harness::{DROP, OBJECT, PASS};

/// The name of the program.
pub(super) const NAME: &str = "sip_scan";
const KINDS: [Kind; 6] = [Kind::None, Kind::Initial, Kind::Inside, Kind::Bye, Kind::Provisional, Kind::Final];
const TAG: u64 = 1;
const GAVE_UP: u64 = 2;

/// A message to scan.
#[derive(Debug)]
pub struct Message {
    /// Its name in tables and data.
    pub name: &'static str,
    bytes: usize,
    form: Form,
    /// What the program says.
    pub(super) act: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// The Call-ID is the fourth header, and there is a body.
    Usual,
    /// The Call-ID is the last header but one.
    Late,
    /// Nothing but the shortest of lines, so that the scanner gives up.
    Lines,
}

/// All of them: INVITEs with few codecs, with some, with the Call-ID where it is furthest, and made to cost as much as can be.
pub static MESSAGES: [Message; 4] = [
    Message { name: "sip-call-id-scan-500", bytes: 500, form: Form::Usual, act: PASS },
    Message { name: "sip-call-id-scan-1000", bytes: 1000, form: Form::Usual, act: PASS },
    Message { name: "sip-call-id-scan-1400-late", bytes: 1400, form: Form::Late, act: PASS },
    Message { name: "sip-call-id-scan-given-up", bytes: 1400, form: Form::Lines, act: DROP },
];

impl Message {
    /// The message.
    pub fn bytes(&self) -> Vec<u8> {
        const CALL_ID: &str = "Call-ID: 5f1c9a0e7b2d4c83a6f0e1d2c3b4a596@198.51.100.7\r\n";
        const END: &str = "Content-Length: 0\r\n\r\n";
        let mut text = "INVITE sip:+4930123456@192.0.2.10:5060;user=phone SIP/2.0\r\n\
                        Via: SIP/2.0/UDP 198.51.100.7:5062;branch=z9hG4bK776asdhds83kdj;rport\r\n\
                        Max-Forwards: 70\r\n\
                        From: \"Alice\" <sip:alice@192.0.2.10>;tag=1928301774\r\n\
                        To: \"Bob\" <sip:+4930123456@192.0.2.10;user=phone>\r\n"
            .to_owned();
        let (line, end) = match self.form {
            Form::Usual => {
                text += CALL_ID;
                text += "CSeq: 314159 INVITE\r\nContact: <sip:alice@198.51.100.7:5062>\r\n\r\n";
                ("a=rtpmap:8 PCMA/8000\r\n", String::new())
            }
            Form::Late => ("X-Header: some value that nobody reads\r\n", CALL_ID.to_owned() + END),
            Form::Lines => ("X\n", String::new()),
        };
        while text.len() + line.len() + end.len() <= self.bytes {
            text += line;
        }
        (text + &end).into_bytes()
    }
}

/// The loaded program. Needs root, and no network of its own.
pub struct KernelScanner {
    object: Ebpf,
    found: Array<MapData, [u64; 3]>,
}

impl KernelScanner {
    /// Loads the program alone.
    pub fn load() -> Result<Self> {
        let mut object = Ebpf::load(OBJECT).context("cannot load the programs of the bench")?;
        let program: &mut Xdp = object.program_mut(NAME).context("no program")?.try_into()?;
        program.load().context("the kernel refuses the scanner")?;
        let found = object.take_map("SIP_FOUND").context("no map")?.try_into()?;
        Ok(Self { object, found })
    }

    /// What the program finds in a message of at least one byte that comes as one datagram.
    pub fn scan(&mut self, message: &[u8]) -> Result<Scan> {
        let frame = frame(message);
        self.found.set(0, [u64::MAX; 3], 0)?;
        let options = TestRunOptions { data_in: Some(&frame), ..TestRunOptions::default() };
        let ran = self.program()?.test_run(options).context("BPF_PROG_TEST_RUN")?;
        let [call, kind, flags] = self.found.get(&0, 0)?;
        let Some(&kind) = KINDS.iter().find(|known| **known as u64 == kind) else {
            bail!("the program answers {} and has left {call:#x}, {kind:#x}, {flags:#x}", ran.return_value)
        };
        ensure!(flags & !(TAG | GAVE_UP) == 0, "flags {flags:#x}");
        Ok(Scan { call, kind, to_tag: flags & TAG != 0, gave_up: flags & GAVE_UP != 0 })
    }

    fn program(&self) -> Result<&Xdp> {
        Ok(self.object.program(NAME).context("no program")?.try_into()?)
    }
}

/// A frame with a message in one datagram from a phone. The program does not look at addresses.
pub(super) fn frame(message: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        .ipv4([100, 64, 0, 0], [192, 0, 2, 10], 64)
        .udp(16_384, 5060)
        .write(&mut frame, message)
        .expect("memory takes every frame");
    frame
}
