//! The devices that packets may leave by.

use anyhow::{Context as _, Result};
use voip_ha_ebpf::abi::{LINK_ROWS, LinkEntry, NO_EXIT, link_rows};

use super::Tables;
use crate::{datapath::VlanTag, ids::Family};

/// The index that takes a device away.
const NO_DEVICE: u32 = 0;

/// A device of the routing table that packets may leave by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// Its index.
    pub ifindex: u32,
    /// Index of the device that sends its frames: the one below a VLAN interface, otherwise itself.
    pub device: u32,
    /// Tags of its frames, outer first.
    pub tags: [VlanTag; 2],
}

impl Link {
    /// A device that sends its frames itself, without tags.
    pub fn plain(ifindex: u32) -> Self {
        Self { ifindex, device: ifindex, tags: [VlanTag::default(); 2] }
    }
}

impl Tables {
    /// The devices that packets may leave by, in the order of their rows.
    ///
    /// # Errors
    ///
    /// A map cannot be read.
    pub fn links(&self) -> Result<Vec<Link>> {
        let mut links = Vec::new();
        for row in 0..LINK_ROWS {
            let entry = self.link(row)?;
            if is_used(&entry)
                && let Ok(device) = self.devices.get(row, 0)
            {
                let tags = entry.tags.map(VlanTag::from);
                links.push(Link { ifindex: entry.ifindex, device: device.if_index, tags });
            }
        }
        Ok(links)
    }

    /// Indexes of the tunnels that ways to servers lead by.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn tunnels(&self) -> Result<Vec<u32>> {
        let mut tunnels = Vec::new();
        for server in self.servers() {
            for family in Family::ALL {
                let entry = self.slot(server.slot, family)?;
                tunnels.extend((entry.by_stack != 0).then_some(entry.ifindex));
            }
        }
        Ok(tunnels)
    }

    /// The row of a device in `LINKS` and `DEVICES`; [`NO_EXIT`] if packets may not leave by it.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub(in crate::datapath) fn exit(&self, ifindex: u32) -> Result<u32> {
        for row in link_rows(ifindex) {
            match self.link(row)?.ifindex {
                found if found == ifindex => return Ok(row),
                0 => break,
                _ => {}
            }
        }
        Ok(NO_EXIT)
    }

    /// Lets packets leave by a device.
    ///
    /// # Errors
    ///
    /// Too many devices, the device is not there, or a map cannot be written.
    pub(in crate::datapath) fn put_link(&mut self, link: &Link) -> Result<()> {
        let row = match self.exit(link.ifindex)? {
            NO_EXIT => self.free_row(link.ifindex)?,
            row => row,
        };
        // A packet that meets the row meanwhile goes on looking, and then to the stack.
        let tags = link.tags.map(Into::into);
        self.write_link(row, LinkEntry { ifindex: NO_EXIT, tags })?;
        self.devices.set(row, link.device, None, 0).context("cannot write DEVICES")?;
        self.write_link(row, LinkEntry { ifindex: link.ifindex, tags })
    }

    /// Lets packets leave by none but these devices any more.
    ///
    /// # Errors
    ///
    /// A map cannot be read or written.
    pub(in crate::datapath) fn remove_other_links(&mut self, links: &[Link]) -> Result<()> {
        for row in 0..LINK_ROWS {
            let entry = self.link(row)?;
            if is_used(&entry) && !links.iter().any(|link| link.ifindex == entry.ifindex) {
                self.write_link(row, LinkEntry { ifindex: NO_EXIT, ..LinkEntry::default() })?;
                self.devices.set(row, NO_DEVICE, None, 0).context("cannot write DEVICES")?;
            }
        }
        Ok(())
    }

    /// Takes the devices of some links away. Who is asked for one of them then says that it is not there.
    ///
    /// # Errors
    ///
    /// A map cannot be read or written.
    pub(in crate::datapath) fn close(&mut self, links: &[Link]) -> Result<()> {
        for link in links {
            let row = self.exit(link.ifindex)?;
            self.devices.set(row, NO_DEVICE, None, 0).context("cannot write DEVICES")?;
        }
        Ok(())
    }

    fn free_row(&self, ifindex: u32) -> Result<u32> {
        for row in link_rows(ifindex) {
            if !is_used(&self.link(row)?) {
                return Ok(row);
            }
        }
        anyhow::bail!("no row is free in LINKS for device {ifindex}")
    }

    fn link(&self, row: u32) -> Result<LinkEntry> {
        self.links.get(&row, 0).with_context(|| format!("cannot read LINKS[{row}]"))
    }

    fn write_link(&mut self, row: u32, entry: LinkEntry) -> Result<()> {
        self.links.set(row, entry, 0).with_context(|| format!("cannot write LINKS[{row}]"))
    }
}

fn is_used(entry: &LinkEntry) -> bool {
    ![0, NO_EXIT].contains(&entry.ifindex)
}
