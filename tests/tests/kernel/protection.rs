//! Limits and lists: what the program makes of senders, and what a controller that starts again makes of what it finds.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lab::wait;
use voip_ha::{
    config::Protection,
    datapath::{Pins, Replica, Source},
};
use voip_ha_ebpf::abi::Outcome;

use super::{
    frame::{datagram, patched},
    generate,
    net::{FAR_PHONE, FRONT, Ipv4, OTHER_VIP, PHONE, REFUSED, VIP},
    rig::{Act, Rig, SERVICES, SOON, TRUNK, apart},
};

const SIP: u16 = 5060;
/// Of the service of [`OTHER_VIP`].
const RTP: u16 = 20_000;
/// The slowest there is: a burst, and a packet more for each second of the test.
const LIMIT: &str = "sip_packets_per_s = 1\nsip_burst = 3\n";

/// A rig whose service `trunk`, the last one of [`SERVICES`], has this table.
fn with_protection(protection: &'static str, test: impl FnOnce(&mut Rig) -> Result<()> + Send + 'static) -> Result<()> {
    apart(move || {
        let rig = Rig::ready()?;
        test(&mut rig.restarted(&services(protection))?)
    })
}

fn services(protection: &str) -> String {
    format!("{SERVICES}\n[service.protection]\n{protection}")
}

fn from(sender: Ipv4, port: u16) -> Vec<u8> {
    datagram((sender, 4000), (OTHER_VIP, port))
}

fn outcome(rig: &mut Rig, frame: &[u8]) -> Result<&'static str> {
    Ok(rig.observe(FRONT, frame)?.1.2)
}

/// How many of so many copies of a frame go on to the server. All others must be dropped.
fn passed(rig: &mut Rig, frame: &[u8], copies: usize) -> Result<usize> {
    let mut passed = 0;
    for _ in 0..copies {
        match rig.run(FRONT, frame)?.act {
            Act::Redirect => passed += 1,
            act => ensure!(act == Act::Drop, "{act:?}"),
        }
    }
    Ok(passed)
}

/// The same over IPv6, with other last four bytes of the sender's prefix of 64 bits.
fn six(frame: &[u8], host: [u8; 4]) -> Result<Vec<u8>> {
    let frame = generate::six::twin(&mut fastrand::Rng::with_seed(1), frame).context("no twin")?;
    Ok(patched(frame, 14 + 8 + 8, &host))
}

#[test]
fn a_sender_has_its_burst_and_no_more_and_others_have_theirs() -> Result<()> {
    with_protection(LIMIT, |rig| {
        let started = Instant::now();
        let first = passed(rig, &from(PHONE, SIP), 50)?;
        let other = passed(rig, &from(FAR_PHONE, SIP), 50)?;
        let most = 3 + started.elapsed().as_secs() as usize + 1;
        ensure!((3..=most).contains(&first) && (3..=most).contains(&other), "{first} and {other} of 50 passed");
        ensure!(passed(rig, &from(PHONE, RTP), 50)? == 50, "media has no limit");
        let place = (None, "sip", Outcome::RateLimited.name());
        let (dropped, _) = rig.tally()?[&place];
        ensure!(dropped as usize == 100 - first - other, "{dropped} were counted");
        ensure!(outcome(rig, &datagram((PHONE, 1), (VIP, SIP)))? == "to-server", "the other service has no limit");
        ensure!(outcome(rig, &from(PHONE, 22))? == "not-service-port", "what is not for the service is not counted");
        Ok(())
    })
}

#[test]
fn a_sender_earns_packets_as_real_time_goes_by() -> Result<()> {
    with_protection("sip_packets_per_s = 20\nsip_burst = 2", |rig| {
        let frame = from(PHONE, SIP);
        wait::until(SOON, "the budget to be spent", || {
            Ok((outcome(rig, &frame)? == Outcome::RateLimited.name()).then_some(()))
        })?;
        let empty = Instant::now();
        wait::until(SOON, "a packet to be earned", || Ok((outcome(rig, &frame)? == "to-server").then_some(())))?;
        ensure!(empty.elapsed() <= Duration::from_secs(1), "it took {:?}", empty.elapsed());
        let (started, mut passed) = (Instant::now(), 0);
        while started.elapsed() < Duration::from_millis(500) {
            passed += usize::from(outcome(rig, &frame)? == "to-server");
        }
        let most = 2 + started.elapsed().as_millis() as usize / 50 + 1;
        ensure!((5..=most).contains(&passed), "{passed} in {:?}", started.elapsed());
        Ok(())
    })
}

#[test]
fn an_ipv6_sender_is_its_prefix() -> Result<()> {
    with_protection(LIMIT, |rig| {
        let started = Instant::now();
        let mut passed_in_all = 0;
        for host in 0..20 {
            passed_in_all += passed(rig, &six(&from(PHONE, SIP), [host, 2, 3, 4])?, 1)?;
        }
        let most = 3 + started.elapsed().as_secs() as usize + 1;
        ensure!((3..=most).contains(&passed_in_all), "{passed_in_all} of 20 senders of one prefix passed");
        let sources = rig.datapath.tables().sources()?;
        let [Source { sender, dropped, .. }] = sources[..] else { anyhow::bail!("{sources:?}") };
        ensure!(sender.to_string() == "2001:db8::/64" && dropped as usize == 20 - passed_in_all, "{sources:?}");
        Ok(())
    })?;
    with_protection("sip_packets_per_s = 1\nsip_burst = 1\nipv6_prefix = 128", |rig| {
        for host in 0..20 {
            let passed = passed(rig, &six(&from(PHONE, SIP), [host, 2, 3, 4])?, 1)?;
            ensure!(passed == 1, "each address is a sender");
        }
        Ok(())
    })
}

#[test]
fn who_is_denied_reaches_no_port_of_the_service_and_who_is_allowed_has_no_limit() -> Result<()> {
    let lists = "sip_packets_per_s = 1\nsip_burst = 1\nallow = ['203.0.113.7', '2001:db8::/32']\n\
                 deny = ['203.0.113.0/24', '10.8.0.0/16']";
    with_protection(lists, |rig| {
        let denied = REFUSED[0];
        for port in [SIP, RTP] {
            ensure!(outcome(rig, &from(denied, port))? == Outcome::Denied.name(), "port {port}");
        }
        // The second half of a datagram, before the first one.
        ensure!(outcome(rig, &patched(from(denied, SIP), 20, &[0, 185]))? == Outcome::Denied.name());
        ensure!(outcome(rig, &from(denied, 22))? == "not-service-port", "what is not for the service passes");
        ensure!(outcome(rig, &datagram((denied, 1), (VIP, SIP)))? == "to-server", "the lists are of one service");
        ensure!(passed(rig, &from(FAR_PHONE, SIP), 50)? == 50, "the longest prefix decides");
        ensure!(passed(rig, &six(&from(PHONE, SIP), [1; 4])?, 50)? == 50, "a trunk of IPv6");
        ensure!(passed(rig, &from(PHONE, SIP), 50)? < 50, "this one is in no list");
        Ok(())
    })
}

#[test]
fn lists_are_of_one_family_however_short_their_prefixes() -> Result<()> {
    with_protection("deny = ['::/0']", |rig| {
        ensure!(outcome(rig, &from(PHONE, SIP))? == "to-server", "an IPv4 sender");
        ensure!(outcome(rig, &six(&from(PHONE, SIP), [1; 4])?)? == Outcome::Denied.name());
        Ok(())
    })?;
    with_protection("deny = ['0.0.0.0/0']", |rig| {
        ensure!(outcome(rig, &from(PHONE, SIP))? == Outcome::Denied.name());
        ensure!(outcome(rig, &six(&from(PHONE, SIP), [1; 4])?)? == "to-server", "an IPv6 sender");
        Ok(())
    })
}

#[test]
fn a_fragment_whose_first_one_was_refused_is_refused_too() -> Result<()> {
    with_protection("sip_packets_per_s = 1\nsip_burst = 1", |rig| {
        let (first, later) =
            (patched(from(PHONE, SIP), 18, &[0, 7, 0x20, 0]), patched(from(PHONE, SIP), 18, &[0, 7, 0, 185]));
        ensure!(outcome(rig, &first)? == "to-server");
        for _ in 0..5 {
            ensure!(outcome(rig, &later)? == "to-server", "it follows the first one, and is not counted");
        }
        let of_another = |frame: &[u8]| patched(frame.to_vec(), 18, &[0, 8]);
        // A packet may be earned meanwhile.
        wait::until(SOON, "both to be refused", || {
            let refused = |outcome: &str| outcome == Outcome::RateLimited.name();
            let both = refused(outcome(rig, &of_another(&first))?) && refused(outcome(rig, &of_another(&later))?);
            Ok(both.then_some(()))
        })
    })
}

#[test]
fn without_protection_no_sender_is_remembered() -> Result<()> {
    with_protection("", |rig| {
        for port in [SIP, RTP] {
            ensure!(passed(rig, &from(PHONE, port), 50)? == 50);
        }
        ensure!(rig.datapath.tables().sources()?.is_empty(), "a map was touched");
        Ok(())
    })
}

/// What the kernel holds for `trunk`, in the words of the configuration.
fn held(rig: &Rig) -> Result<Protection> {
    let services = rig.datapath.tables().services()?;
    let trunk = services.iter().find(|service| service.place.service() == TRUNK.0 as u32).context("no trunk")?;
    rig.datapath.tables().protection(trunk.place)
}

#[test]
fn a_restarted_controller_leaves_what_is_spent_and_takes_away_what_the_file_no_longer_has() -> Result<()> {
    apart(|| {
        // More than is earned until the test is over.
        const LIMIT: &str = "sip_packets_per_s = 1\nsip_burst = 200\n";
        let full =
            services(&format!("{LIMIT}allow = ['203.0.113.7', '2001:db8::/32']\ndeny = ['203.0.113.0/24', '::/0']"));
        let mut rig = Rig::ready()?.restarted(&full)?;
        ensure!(held(&rig)? == rig.config.services[TRUNK.0].protection, "{:?}", held(&rig)?);
        passed(&mut rig, &from(PHONE, SIP), 400)?;
        let spent = rig.datapath.tables().sources()?;
        let mut rig = rig.restarted(&full)?;
        ensure!(held(&rig)? == rig.config.services[TRUNK.0].protection, "{:?}", held(&rig)?);
        let sources = rig.datapath.tables().sources()?;
        ensure!(sources.len() == 1 && sources[0].dropped == spent[0].dropped, "{sources:?}");
        // Another list, the same limit: what is spent stays spent.
        rig = rig.restarted(&services(&format!("{LIMIT}deny = ['203.0.113.128/25']")))?;
        ensure!(held(&rig)? == rig.config.services[TRUNK.0].protection, "{:?}", held(&rig)?);
        ensure!(outcome(&mut rig, &from(FAR_PHONE, SIP))? == "to-server", "it is denied no more");
        ensure!(outcome(&mut rig, &from(REFUSED[0], SIP))? == Outcome::Denied.name());
        ensure!(passed(&mut rig, &from(PHONE, SIP), 200)? < 200, "what is spent was forgotten");
        // Another limit: everybody begins anew.
        rig = rig.restarted(&services("sip_packets_per_s = 1\nsip_burst = 300"))?;
        ensure!(passed(&mut rig, &from(PHONE, SIP), 300)? == 300, "what was spent under another limit counts");
        rig = rig.restarted(SERVICES)?;
        ensure!(held(&rig)?.is_off(), "{:?}", held(&rig)?);
        ensure!(passed(&mut rig, &from(PHONE, SIP), 600)? == 600, "there is no limit any more");
        Ok(())
    })
}

#[test]
fn a_replica_knows_limits_and_lists_and_spends_nothing() -> Result<()> {
    with_protection("sip_packets_per_s = 1\nsip_burst = 20\ndeny = ['203.0.113.128/25']", |rig| {
        passed(rig, &from(FAR_PHONE, SIP), 60)?;
        let mut replica = Replica::of(&Pins::new(rig.pin_dir()))?;
        let mut outcomes = Vec::new();
        for _ in 0..20 {
            outcomes.push(replica.observe(FRONT, &from(FAR_PHONE, SIP))?.outcome);
        }
        ensure!(outcomes.contains(&Outcome::RateLimited), "it has a whole burst again");
        let mut replica = Replica::of(&Pins::new(rig.pin_dir()))?;
        ensure!(replica.observe(FRONT, &from(REFUSED[0], RTP))?.outcome == Outcome::Denied);
        for _ in 0..50 {
            replica.observe(FRONT, &from(PHONE, SIP))?;
        }
        ensure!(passed(rig, &from(PHONE, SIP), 20)? == 20, "the replica spent what is the sender's");
        Ok(())
    })
}
