//! Everything is measured once in each round, so that what disturbs the machine for a while disturbs all of it alike.

use std::{collections::HashMap, ops::Range};

use anyhow::{Context as _, Result, ensure};
use aya::programs::ProgramFd;

use super::{
    gateway::Gateway,
    harness::{Harness, Layout, Stream},
    path::Path,
    scan::{self, Message, frame},
};

/// Packets of one measurement, or as many as there are flows: a tenth of a second or less.
const PACKETS: u32 = 300_000;

/// A program, what it is given, and what it must make of that.
pub(super) struct Subject {
    pub(super) name: String,
    pub(super) program: ProgramFd,
    /// Taken in turns, one in each round.
    pub(super) streams: Vec<Stream>,
    pub(super) act: u32,
    pub(super) counted: Counted,
    /// Packets that may be counted elsewhere.
    pub(super) strays: u64,
}

/// Where packets are counted that took the way that is to be measured.
pub(super) enum Counted {
    /// Nowhere.
    Not,
    /// By the feature-free program.
    ByBaseline,
    /// By the gateway of this number, under this outcome.
    ByGateway(usize, &'static str),
}

/// Costs in ns by subject and number of flows, one for each round.
pub(super) type Series = HashMap<(String, u32), Vec<f64>>;

/// Measures every subject with every number of flows, in each of these rounds, and adds the costs to the series.
pub(super) fn measure(
    harness: &mut Harness,
    gateways: &[Gateway],
    work: &[(Subject, Vec<u32>)],
    rounds: Range<usize>,
    series: &mut Series,
) -> Result<()> {
    let mut order: Vec<_> =
        work.iter().flat_map(|(subject, flows)| flows.iter().map(move |&flows| (subject, flows))).collect();
    for round in rounds {
        eprintln!("round {}", round + 1);
        for (subject, flows) in &order {
            let cost = one(harness, gateways, subject, round, *flows)
                .with_context(|| format!("{}, {flows} flows", subject.name))?;
            series.entry((subject.name.clone(), *flows)).or_default().push(cost);
        }
        // What comes before or after another is then no difference between them.
        order.reverse();
    }
    Ok(())
}

fn one(harness: &mut Harness, gateways: &[Gateway], subject: &Subject, round: usize, flows: u32) -> Result<f64> {
    let stream = &subject.streams[round % subject.streams.len()];
    let packets = flows.max(PACKETS);
    let before = counted(harness, gateways, &subject.counted)?;
    let cost = harness.cost(&subject.program, subject.act, stream, (flows, packets))?;
    if let (Some(before), Some(after)) = (before, counted(harness, gateways, &subject.counted)?) {
        let took = after - before;
        let all = u64::from(packets);
        ensure!(
            (all - subject.strays..=all).contains(&took),
            "{took} of {packets} packets took the way that was to be measured"
        );
    }
    Ok(cost)
}

fn counted(harness: &Harness, gateways: &[Gateway], by: &Counted) -> Result<Option<u64>> {
    match *by {
        Counted::Not => Ok(None),
        Counted::ByBaseline => harness.counted().map(Some),
        Counted::ByGateway(number, outcome) => gateways[number].counted(outcome).map(Some),
    }
}

impl Subject {
    /// A program of the bench, given the frames of a path.
    pub(super) fn baseline(harness: &Harness, name: &str, act: u32, stream: Stream) -> Result<Self> {
        let counted = if name == "feature_free" { Counted::ByBaseline } else { Counted::Not };
        Ok(Self {
            name: name.to_owned(),
            program: harness.program(name)?,
            streams: vec![stream],
            act,
            counted,
            strays: 0,
        })
    }

    /// The scanner, given a message to a gateway.
    pub(super) fn message(harness: &Harness, message: &Message, gateway: &Gateway) -> Result<Self> {
        let ifindex = gateway.devices.front_index();
        let stream = Stream { frame: frame(&message.bytes()), layout: Layout::Plain, ifindex, phone_receives: false };
        Ok(Self { name: message.name.to_owned(), ..Self::baseline(harness, scan::NAME, message.act, stream)? })
    }

    /// The program of the gateway with this number, given the frames of a path for each of its services: some share a bucket
    /// of a hash map, and some do not.
    pub(super) fn path(path: &Path, name: String, gateways: &mut [Gateway], number: usize) -> Result<Self> {
        let gateway = &mut gateways[number];
        let counted = Counted::ByGateway(number, path.outcome.name());
        let streams = (0..gateway.services()).map(|service| path.stream(gateway, service)).collect();
        Ok(Self { name, program: gateway.program()?, streams, act: path.act, counted, strays: path.strays })
    }
}
