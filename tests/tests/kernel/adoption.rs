//! A controller that starts again finds what the one before it left, and keeps it.

use anyhow::{Context as _, Result, ensure};
use aya::programs::links::{FdLink, PinnedLink};
use voip_ha::{
    config::Config,
    datapath::{Datapath as _, KernelDatapath, KernelLog, Link, NextHop, PinDirectory, Pins, Steering, Tables},
    ids::{Family, ServiceId},
    plan::Plan,
};
use voip_ha_ebpf::abi::{Address, Class, Endpoint, Ends, ServerEntry, ServerNumber, Slot, server_index};

use super::{
    frame::datagram,
    net::{self, BACK, FRONT, Ipv4, OTHER_VIP, PHONE, SIDE, VIP},
    rig::{Act, PBX, Rig, SERVICES, TRUNK, apart, by_back, config, next_hop, with_lock},
};

/// The services of the rig after a change: `master`, `lost` and `two` have left, a newcomer is in the master's place, and
/// the order of everything else is another one.
const CHANGED: &str = "
    [[service]]
    name = 'trunk'
    vip = ['192.0.2.20', '2001:db8::c000:214']
    sip_ports = [5060]
    rtp_ports = '20000-29999'
    server = [{ name = 'one', address = ['10.0.0.3', '2001:db8::a00:3'] }]

    [[service]]
    name = 'pbx'
    vip = ['192.0.2.10', '2001:db8::c000:20a']
    sip_ports = [5060]
    rtp_ports = '10000-19999'
    server = [
        { name = 'newcomer', address = ['10.0.0.9', '2001:db8::a00:9'] },
        { name = 'astray', address = ['10.0.0.5', '2001:db8::a00:5'] },
        { name = 'cloud', address = ['10.8.0.2', '2001:db8::a08:2'] },
    ]";

fn request(vip: Ipv4) -> Vec<u8> {
    datagram((PHONE, 4000), (vip, 5060))
}

/// The Ethernet address that the next packet to the VIP is sent to.
fn target(rig: &mut Rig, vip: Ipv4) -> Result<Vec<u8>> {
    let ran = rig.run(FRONT, &request(vip))?;
    ensure!(ran.act == Act::Redirect, "{:?}", rig.observe(FRONT, &request(vip))?.1);
    Ok(ran.frame[..6].to_vec())
}

fn outcome(rig: &mut Rig, from: u32, frame: &[u8]) -> Result<&'static str> {
    Ok(rig.observe(from, frame)?.1.2)
}

/// Ids of an interface's link and of the program in it.
fn ids(rig: &Rig, interface: &str) -> Result<(u32, u32)> {
    let link = FdLink::from(PinnedLink::from_pin(Pins::new(rig.pin_dir()).link(interface))?);
    let info = link.info()?;
    Ok((info.id(), info.program_id()))
}

#[test]
fn a_restarted_controller_finds_steering_next_hops_and_counters_as_they_were() -> Result<()> {
    apart(|| {
        let mut rig = Rig::ready()?;
        rig.steer(PBX, Some("cloud"), Some("master"))?;
        target(&mut rig, VIP)?;
        let before = (rig.datapath.steering(PBX), rig.datapath.steering(TRUNK), rig.tally()?);
        let mut rig = rig.restarted(SERVICES)?;
        let after = (rig.datapath.steering(PBX), rig.datapath.steering(TRUNK), rig.tally()?);
        ensure!(after == before, "{after:?}");
        ensure!(target(&mut rig, VIP)? == net::CLOUD_ROUTER, "the next hop is another one");
        for name in ["master", "lost"] {
            let known = rig.datapath.next_hop(rig.server(name)?, Family::V4);
            ensure!(known == next_hop(name), "{name}: {known:?} is not what the kernel holds");
        }
        let late = datagram(([10, 0, 0, 2], 5060), (PHONE, 4000));
        ensure!(outcome(&mut rig, BACK, &late)? == "to-client", "the draining server is fenced");
        Ok(())
    })
}

#[test]
fn a_restarted_controller_replaces_the_program_and_keeps_the_links() -> Result<()> {
    apart(|| {
        let rig = Rig::ready()?;
        ensure!(rig.attachments.iter().all(|attachment| !attachment.adopted), "{:?}", rig.attachments);
        let before = [ids(&rig, "front")?, ids(&rig, "back")?];
        let mut rig = rig.restarted(SERVICES)?;
        ensure!(rig.attachments.iter().all(|attachment| attachment.adopted), "{:?}", rig.attachments);
        let program = rig.program()?.info()?.id();
        for (interface, (link, old_program)) in ["front", "back"].into_iter().zip(before) {
            ensure!(program != old_program, "the program is the old one");
            ensure!(ids(&rig, interface)? == (link, program), "{interface}: {:?}", ids(&rig, interface)?);
        }
        Ok(())
    })
}

#[test]
fn an_interface_that_was_made_anew_gets_a_new_link() -> Result<()> {
    apart(|| {
        let rig = Rig::ready()?;
        net::ip("link del front\nlink del back\nlink del side")?;
        net::build()?;
        let rig = rig.restarted(SERVICES)?;
        ensure!(rig.attachments.iter().all(|attachment| !attachment.adopted), "{:?}", rig.attachments);
        Ok(())
    })
}

#[test]
fn a_device_that_the_configuration_no_longer_names_is_none_that_packets_leave_by() -> Result<()> {
    apart(|| {
        let mut rig = Rig::ready()?;
        rig.datapath.attach(&rig.config, &[FRONT, BACK, SIDE].map(Link::plain))?;
        ensure!(rig.datapath.tables().links()?.contains(&Link::plain(SIDE)), "packets do not leave by it at all");
        let rig = rig.restarted(SERVICES)?;
        let links = rig.datapath.tables().links()?;
        ensure!(links == [FRONT, BACK].map(Link::plain), "{links:?}");
        Ok(())
    })
}

#[test]
fn servers_that_stay_keep_their_numbers_and_a_newcomer_starts_from_zero() -> Result<()> {
    apart(|| {
        let mut rig = Rig::ready()?;
        target(&mut rig, VIP)?;
        target(&mut rig, OTHER_VIP)?;
        let numbers = |rig: &Rig| -> Result<[ServerNumber; 3]> {
            Ok([rig.number("one")?, rig.number("astray")?, rig.number("cloud")?])
        };
        let (stay, tally, master) = (numbers(&rig)?, rig.tally()?, rig.number("master")?);
        ensure!(master == ServerNumber(0) && tally.keys().any(|place| place.0 == Some(master)), "{tally:?}");
        let mut rig = rig.restarted(CHANGED)?;
        ensure!(numbers(&rig)? == stay, "{:?} were {stay:?}", numbers(&rig)?);
        ensure!(rig.number("newcomer")? == master, "the lowest free number is that of the master");
        let expected = tally.into_iter().filter(|(place, _)| place.0 != Some(master)).collect();
        ensure!(rig.tally()? == expected, "{:?}, not {expected:?}", rig.tally()?);
        // Services have changed places.
        let expected = Steering::to(rig.server("newcomer")?);
        ensure!(rig.datapath.steering(ServiceId(1)) == expected, "the first server takes the place of one that left");
        ensure!(rig.datapath.steering(ServiceId(0)).signalling == Some(rig.server("one")?), "`one` is still active");
        ensure!(outcome(&mut rig, FRONT, &request(VIP))? == "no-next-hop", "to whom?");
        ensure!(target(&mut rig, OTHER_VIP)? == next_hop("one").context("no hop")?.destination, "`one` has moved");
        let from_master = datagram(([10, 0, 0, 2], 5060), (PHONE, 4000));
        ensure!(outcome(&mut rig, BACK, &from_master)? == "not-service", "the master is nobody now");
        Ok(())
    })
}

#[test]
fn a_newcomer_is_not_written_over_the_entry_that_packets_look_at() -> Result<()> {
    apart(|| {
        let mut rig = Rig::ready()?;
        let master = rig.server("master")?;
        // Once more, so that the entry in use is in the bank that an unused number would begin with.
        rig.datapath.set_next_hop(master, Family::V4, by_back([2; 6]))?;
        let slot = rig.datapath.tables().word(0)?.target(Class::Sip).context("nobody is active")?;
        let entry = rig.datapath.tables().slot(slot, Family::V4)?;
        let rig = rig.restarted(CHANGED)?;
        ensure!(rig.number("newcomer")? == slot.server(), "the newcomer has another number");
        ensure!(
            rig.datapath.tables().slot(slot, Family::V4)? == entry,
            "{:?}",
            rig.datapath.tables().slot(slot, Family::V4)?
        );
        Ok(())
    })
}

#[test]
fn a_restart_that_an_interface_refuses_changes_no_table_and_attaches_nothing_new() -> Result<()> {
    apart(|| {
        let Rig { datapath, pins, .. } = Rig::ready()?;
        let before = Plan::from_kernel(datapath.tables())?;
        drop(datapath);
        let mut config = config(CHANGED, &pins.0)?;
        // The loopback device has no native XDP.
        (config.gateway.front, config.gateway.back) = ("side".to_owned(), "lo".to_owned());
        let directory = with_lock(|| PinDirectory::open(&pins.0))?;
        let mut datapath = KernelDatapath::load(&config, directory, KernelLog::Off)?;
        let refused = datapath.attach(&config, &[SIDE, 1].map(Link::plain)).err().context("it was not refused")?;
        ensure!(format!("{refused:#}").contains("lo: its driver has no native XDP"), "{refused:#}");
        let after = Plan::from_kernel(datapath.tables())?;
        ensure!(after == before, "{:?}", before.differences(&after));
        let mut linked = Pins::new(&pins.0).linked_interfaces()?;
        linked.sort();
        ensure!(linked == ["back", "front"], "{linked:?}");
        Ok(())
    })
}

#[test]
fn a_service_that_left_the_configuration_is_none_of_the_gateways_business() -> Result<()> {
    apart(|| {
        let only_trunk = CHANGED.split("[[service]]").nth(1).context("no service")?;
        let mut rig = Rig::ready()?.restarted(&format!("[[service]]{only_trunk}"))?;
        ensure!(outcome(&mut rig, FRONT, &request(VIP))? == "not-service", "the VIP is still served");
        ensure!(target(&mut rig, OTHER_VIP)? == next_hop("one").context("no hop")?.destination, "`one` has moved");
        Ok(())
    })
}

#[test]
fn a_service_with_a_new_vip_is_a_new_service_and_has_no_active_server() -> Result<()> {
    apart(|| {
        let mut rig = Rig::ready()?
            .restarted(&SERVICES.replace("192.0.2.10", "192.0.2.30").replace("::c000:20a", "::c000:21e"))?;
        ensure!(rig.datapath.steering(PBX) == Steering::default(), "{:?}", rig.datapath.steering(PBX));
        ensure!(outcome(&mut rig, FRONT, &request(VIP))? == "not-service", "the old VIP is still served");
        ensure!(outcome(&mut rig, FRONT, &request([192, 0, 2, 30]))? == "no-active-server", "to whom?");
        Ok(())
    })
}

#[test]
fn a_server_that_moves_to_another_service_is_active_in_neither() -> Result<()> {
    apart(|| {
        let mut rig = Rig::ready()?;
        rig.steer(TRUNK, Some("two"), Some("one"))?;
        let number = rig.number("two")?;
        let (two, lost) = ("{ name = 'two'", "{ name = 'lost'");
        let entry = &SERVICES[SERVICES.find(two).context("no such server")?..];
        let entry = &entry[..=entry.find('}').context("no end")?];
        let moved = SERVICES.replace(&format!(", {entry}"), "").replace(lost, &format!("{entry}, {lost}"));
        let mut rig = rig.restarted(&moved)?;
        ensure!(rig.number("two")? == number, "another number");
        let expected = Steering::to(rig.server("one")?);
        ensure!(rig.datapath.steering(TRUNK) == expected, "{:?}", rig.datapath.steering(TRUNK));
        ensure!(
            rig.datapath.steering(PBX).signalling == Some(rig.server("master")?),
            "{:?}",
            rig.datapath.steering(PBX)
        );
        let from_two = datagram(([10, 0, 0, 6], 5060), (PHONE, 4000));
        ensure!(outcome(&mut rig, BACK, &from_two)? == "fenced", "it may send");
        rig.steer(PBX, Some("two"), None)?;
        let frame = rig.run(BACK, &from_two)?.frame;
        ensure!(frame[26..30] == VIP, "it sends as {:?}", &frame[26..30]);
        Ok(())
    })
}

#[test]
fn a_server_that_left_and_came_back_starts_from_zero() -> Result<()> {
    apart(|| {
        let mut rig = Rig::ready()?;
        let master = rig.server("master")?;
        // Written twice, so that both of its slots hold a way to it.
        rig.datapath.set_next_hop(master, Family::V4, by_back([2; 6]))?;
        target(&mut rig, VIP)?;
        let without = SERVICES.replace("{ name = 'master', address = ['10.0.0.2', '2001:db8::a00:2'] },", "");
        let mut rig = rig.restarted(&without)?.restarted(SERVICES)?;
        let master = rig.number("master")?;
        rig.steer(PBX, Some("master"), None)?;
        ensure!(rig.tally()?.keys().all(|place| place.0 != Some(master)), "old counters: {:?}", rig.tally()?);
        ensure!(outcome(&mut rig, FRONT, &request(VIP))? == "no-next-hop", "an old next hop is used");
        Ok(())
    })
}

#[test]
fn a_server_that_gets_or_loses_the_vip_keeps_its_way_while_the_destination_of_its_packets_changes() -> Result<()> {
    apart(|| {
        let mut rig = Rig::ready()?;
        let (way, slot) = (target(&mut rig, VIP)?, active_slot(&rig)?);
        let dsr = SERVICES.replace("{ name = 'master',", "{ name = 'master', forwarding = 'dsr',");
        let wanted =
            [(&*dsr, VIP, slot.other_bank()), (&*dsr, VIP, slot.other_bank()), (SERVICES, [10, 0, 0, 2], slot)];
        for (services, destination, slot) in wanted {
            rig = rig.restarted(services)?;
            ensure!(target(&mut rig, VIP)? == way, "another way");
            let frame = rig.run(FRONT, &request(VIP))?.frame;
            ensure!(frame[30..34] == destination, "to {:?}, should be to {destination:?}", &frame[30..34]);
            ensure!(active_slot(&rig)? == slot, "an entry in use was written over, or one was written for nothing");
        }
        Ok(())
    })
}

/// Where packets of SIP to the VIP find the way.
fn active_slot(rig: &Rig) -> Result<Slot> {
    let tables = Tables::open(&Pins::new(rig.pin_dir()))?;
    let place = tables.endpoints.get(Address::v4(VIP)).place();
    tables.word(place.service())?.target(Class::Sip).context("no active server")
}

#[test]
fn a_next_hop_that_a_dying_controller_wrote_by_half_is_completed_by_the_next_one() -> Result<()> {
    apart(|| {
        let rig = Rig::ready()?;
        // As far as `set_next_hop` gets before its last write, the decision word.
        let mut tables = Tables::open(&Pins::new(rig.pin_dir()))?;
        let address = Address::v4([10, 0, 0, 2]);
        let endpoint = tables.endpoints.get(address);
        let fresh = endpoint.slot().other_bank();
        let old = tables.slot(endpoint.slot(), Family::V4)?;
        let entry = ServerEntry { ends: Ends::new([2, 9, 9, 9, 9, 9], old.ends.source()), ..old };
        tables.servers.set(server_index(fresh, Family::V4), entry, 0)?;
        tables.endpoints.put(address, Endpoint::server(endpoint.place(), fresh))?;
        let word = |tables: &Tables| tables.word(endpoint.place().service());
        ensure!(word(&tables)?.target(Class::Sip) == Some(fresh.other_bank()), "{:?}", word(&tables)?);
        let seen = Plan::from_kernel(&tables)?.services[0].servers[0].next_hops.v4;
        ensure!(seen == next_hop("master"), "{seen:?} is not what packets follow");

        let mut rig = rig.restarted(SERVICES)?;
        ensure!(
            word(&tables)?.target(Class::Sip) == Some(fresh),
            "the word names the old bank, which is no longer kept up"
        );
        ensure!(target(&mut rig, VIP)? == entry.ends.destination(), "the old way is still in use");
        let (master, destination) = (rig.server("master")?, [2, 8, 8, 8, 8, 8]);
        let hop = NextHop { destination, ..next_hop("master").context("no hop")? };
        rig.datapath.set_next_hop(master, Family::V4, hop)?;
        ensure!(target(&mut rig, VIP)? == destination, "the new way is not used");
        ensure!(word(&tables)?.target(Class::Sip) == Some(fresh.other_bank()), "an entry in use was written over");
        Ok(())
    })
}

#[test]
fn the_numbers_of_a_new_gateway_follow_the_configuration() -> Result<()> {
    apart(|| {
        let rig = Rig::ready()?;
        let Config { services, .. } = &rig.config;
        let names = services.iter().flat_map(|service| &service.servers).map(|server| &server.name);
        for (number, name) in (0..).zip(names) {
            ensure!(rig.number(name)? == ServerNumber(number), "{name} has number {:?}", rig.number(name)?);
        }
        Ok(())
    })
}
