//! The programs of the bench, and the stopwatch.
//!
//! BPF_PROG_TEST_RUN runs the wrapper many times in a row; it restores the frame's headers, writes the next flow into
//! them and tail-calls the program under test. The same with a program that does nothing is subtracted.
//!
//! What is read is the processor time of this thread, not the duration that the kernel reports: that is in whole
//! nanoseconds, which is a few hundredths of what is measured here. Time in which others had the processor is in neither.

use super::network::Ipv4;
use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf, TestRunOptions, include_bytes_aligned,
    maps::{Array, DevMap, MapData, PerCpuArray, ProgramArray},
    programs::{ProgramFd, TestRun as _, Xdp},
};
use rustix::time::{ClockId, clock_gettime};
use voip_ha::datapath::{NextHop, Ran, context, rehearse};

pub(super) static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("KERNEL_OBJECTS"), "/voip-ha-bench-ebpf"));

/// What a program says of a packet: the numbers of enum xdp_action.
pub(super) const DROP: u32 = 1;
pub(super) const PASS: u32 = 2;
pub(super) const REDIRECT: u32 = 4;

/// Words that the wrapper restores, at the most.
const HEADERS: usize = 8;
/// Most flows that can take turns: their numbers have 16 bits in the phone's address and 4 in its port.
pub const MOST_FLOWS: u32 = 1 << 20;

/// Where the headers of a frame are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// IPv4.
    Plain,
    /// IPv4 behind a VLAN tag.
    Tagged,
    /// IPv6.
    Six,
}

/// Frames of one kind, each of another flow.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    /// The first one.
    pub(super) frame: Vec<u8>,
    /// Of all of them.
    pub(super) layout: Layout,
    /// The device that it arrives by.
    pub(super) ifindex: u32,
    /// Whether the flow's number is in the receiver's address and port, or in the sender's.
    pub(super) phone_receives: bool,
}

/// The loaded programs of the bench.
pub(super) struct Harness {
    object: Ebpf,
    headers: Array<MapData, [u64; HEADERS]>,
    plan: Array<MapData, [u32; 3]>,
    target: ProgramArray<MapData>,
    count: PerCpuArray<MapData, [u64; 2]>,
    no_op: ProgramFd,
}

impl Harness {
    /// Loads the programs. The baselines forward what is for `vip` to `server`.
    pub(super) fn load(vip: Ipv4, server: Ipv4, hop: &NextHop) -> Result<Self> {
        let mut object = Ebpf::load(OBJECT).context("cannot load the programs of the bench")?;
        for (name, program) in object.programs_mut() {
            let program: &mut Xdp = program.try_into()?;
            program.load().with_context(|| format!("the kernel refuses the program {name}"))?;
        }
        let mut take = |name| object.take_map(name).with_context(|| format!("no map {name}"));
        let mut out: DevMap<MapData> = take("OUT")?.try_into()?;
        let mut way: Array<MapData, [u16; 10]> = take("WAY")?.try_into()?;
        let (headers, plan) = (take("HEADERS")?.try_into()?, take("PLAN")?.try_into()?);
        let (target, count) = (take("TARGET")?.try_into()?, take("COUNT")?.try_into()?);
        out.set(0, hop.ifindex, None, 0)?;
        way.set(0, halves(&[&vip[..], &server, &hop.destination, &hop.source].concat())?, 0)?;
        let no_op = program(&object, "no_op")?.fd()?.try_clone()?;
        Ok(Self { object, headers, plan, target, count, no_op })
    }

    /// One of the programs, to be called.
    pub(super) fn program(&self, name: &str) -> Result<ProgramFd> {
        Ok(program(&self.object, name)?.fd()?.try_clone()?)
    }

    /// Instructions of one of the programs that the verifier walked through. Linux 5.16.
    pub(super) fn verified_insns(&self, name: &str) -> Result<u32> {
        program(&self.object, name)?.info()?.verified_instruction_count().context("this kernel does not count them")
    }

    /// Packets that the feature-free program has counted.
    pub(super) fn counted(&self) -> Result<u64> {
        Ok(self.count.get(&0, 0)?.iter().map(|[packets, _]| packets).sum())
    }

    /// Runs a program once, on the first frame of a stream.
    pub(super) fn rehearse(&mut self, program: &ProgramFd, stream: &Stream) -> Result<Ran> {
        self.aim(program, stream, 1)?;
        rehearse(self.wrapper(stream.layout)?, stream.ifindex, &stream.frame)
    }

    /// Nanoseconds of processor time for one packet, without those of the wrapper. The program must say `act` to the last.
    pub(super) fn cost(
        &mut self,
        program: &ProgramFd,
        act: u32,
        stream: &Stream,
        (flows, packets): (u32, u32),
    ) -> Result<f64> {
        let nothing = self.no_op.try_clone()?;
        self.aim(&nothing, stream, flows)?;
        let without = self.time(PASS, stream, packets)?;
        self.aim(program, stream, flows)?;
        let with = self.time(act, stream, packets)?;
        Ok((with - without) / f64::from(packets))
    }

    fn aim(&mut self, program: &ProgramFd, stream: &Stream, flows: u32) -> Result<()> {
        ensure!((1..=MOST_FLOWS).contains(&flows), "from 1 to {MOST_FLOWS} flows, not {flows}");
        let mut words = [0; HEADERS];
        for (word, bytes) in words.iter_mut().zip(stream.frame.chunks_exact(8)) {
            *word = u64::from_ne_bytes(bytes.try_into()?);
        }
        self.headers.set(0, words, 0)?;
        self.plan.set(0, [0, flows, stream.phone_receives.into()], 0)?;
        self.target.set(0, program, 0).context("cannot make the program a target")
    }

    /// Nanoseconds for all packets together.
    fn time(&self, act: u32, stream: &Stream, packets: u32) -> Result<f64> {
        let context = context(stream.ifindex, stream.frame.len());
        let wrapper = self.wrapper(stream.layout)?;
        let options = TestRunOptions {
            data_in: Some(&stream.frame),
            ctx_in: Some(&context),
            repeat: packets,
            ..TestRunOptions::default()
        };
        let before = processor_time();
        let result = wrapper.test_run(options).context("BPF_PROG_TEST_RUN")?;
        let after = processor_time();
        ensure!(result.return_value == act, "the program answers {}, not {act}", result.return_value);
        Ok(after - before)
    }

    fn wrapper(&self, layout: Layout) -> Result<&Xdp> {
        let name = match layout {
            Layout::Plain => "wrapper",
            Layout::Tagged => "wrapper_tagged",
            Layout::Six => "wrapper_six",
        };
        program(&self.object, name)
    }
}

fn program<'a>(object: &'a Ebpf, name: &str) -> Result<&'a Xdp> {
    Ok(object.program(name).with_context(|| format!("no program {name}"))?.try_into()?)
}

pub(super) fn halves<const N: usize>(bytes: &[u8]) -> Result<[u16; N]> {
    let halves: Vec<_> = bytes.chunks_exact(2).map(|pair| u16::from_ne_bytes([pair[0], pair[1]])).collect();
    halves.try_into().map_err(|halves: Vec<_>| anyhow::anyhow!("{} halves of words, not {N}", halves.len()))
}

/// Of this thread, in nanoseconds.
fn processor_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}
