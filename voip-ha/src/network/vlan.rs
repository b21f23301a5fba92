//! VLAN interfaces, and what frames that leave by them look like on the interface below.

use std::iter::successors;

use anyhow::{Context as _, Result};
use futures_util::TryStreamExt as _;
use rtnetlink::{
    Handle,
    packet_route::link::{InfoData, InfoKind, InfoVlan, LinkAttribute, LinkInfo, LinkMessage},
};
use voip_ha_ebpf::abi::Mac;

use super::{Tunnel, link_at, read_interface, tunnel::read_tunnel};
use crate::datapath::{Link, VlanTag};

/// What frames that leave by a VLAN interface are on the interface at the bottom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack {
    /// Name of the VLAN interface.
    pub name: String,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Most bytes of an IP packet that it takes.
    pub mtu: u32,
    /// Tags of its frames, outer first.
    pub tags: [VlanTag; 2],
    /// Index of the interface at the bottom.
    pub bottom: u32,
    /// Indexes of the VLAN interfaces above that one.
    pub above: Vec<u32>,
}

/// Why frames that leave by an interface are not seen on one of those that are known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StackError {
    /// The interface, or one below it, is gone.
    #[error("an interface that is gone")]
    Gone,
    /// It is no VLAN interface, or the lowest one of the stack is none.
    #[error("{name}{}", kind.as_ref().map_or_else(String::new, |kind| format!(" ({kind})")))]
    Elsewhere {
        /// Name of that interface.
        name: String,
        /// What the kernel calls its kind, if it is no physical one.
        kind: Option<String>,
    },
    /// Only the kernel's stack can send by it.
    #[error("{}, which only the kernel's stack can send by", .0.name)]
    Tunnel(Tunnel),
    /// Three tags.
    #[error("{0}, which puts a third VLAN tag on frames")]
    Deep(String),
}

/// The kernel nests a few; what is beyond two is refused anyway.
const DEEPEST: usize = 4;

/// All interfaces, as they were when the kernel listed them.
pub struct Listing(Vec<LinkMessage>);

impl Listing {
    /// Asks the kernel.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub async fn read(handle: &Handle) -> Result<Self> {
        Ok(Self(handle.link().get().execute().try_collect().await.context("cannot list the interfaces")?))
    }

    /// Names of the VLAN interfaces on those that are `known`, and of those on them.
    pub fn vlans_on(&self, known: &[u32]) -> Vec<String> {
        let layers: Vec<_> = self.0.iter().map(|link| (link.header.index, layer(link))).collect();
        let (mut below, mut names) = (known.to_vec(), Vec::new());
        // As many tags as a frame may have.
        for _ in 0..2 {
            let is_on = |(_, layer): &&(u32, Layer)| layer.vlan.is_some_and(|(_, index)| below.contains(&index));
            let above: Vec<_> = layers.iter().filter(is_on).collect();
            names.extend(above.iter().map(|(_, layer)| layer.name.clone()));
            below = above.iter().map(|(index, _)| *index).collect();
        }
        names
    }

    /// The devices that packets may leave by: these, and all VLAN interfaces above them.
    pub fn links(&self, devices: &[u32]) -> Vec<Link> {
        let mut links: Vec<_> = devices.iter().copied().map(Link::plain).collect();
        for link in self.0.iter().filter(|link| layer(link).vlan.is_some()) {
            let ifindex = link.header.index;
            if let Ok(stack) = self.stack_at(ifindex, devices) {
                links.push(Link { ifindex, device: stack.bottom, tags: stack.tags });
            }
        }
        links
    }

    fn stack_at(&self, index: u32, known: &[u32]) -> Result<Stack, StackError> {
        let at = |index: u32| self.0.iter().find(|link| link.header.index == index);
        let below = |link: &&LinkMessage| {
            let (_, below) = layer(link).vlan?;
            at(below).filter(|_| !known.contains(&below))
        };
        let links: Vec<_> = successors(at(index), below).take(DEEPEST).cloned().collect();
        read_stack(&links, known)
    }
}

/// What one interface of a stack is.
struct Layer {
    /// Its tag, and the index of the interface below, if that is in this network namespace.
    vlan: Option<(VlanTag, u32)>,
    name: String,
    kind: Option<String>,
}

/// From the interface with this index down to one of those that are `known`.
///
/// # Errors
///
/// The kernel does not answer. That there is no such stack is an answer.
pub async fn stack_at(handle: &Handle, index: u32, known: &[u32]) -> Result<Result<Stack, StackError>> {
    let mut links = Vec::new();
    let mut below = index;
    while !known.contains(&below) {
        let Some(link) = link_at(handle, below).await? else { return Ok(Err(StackError::Gone)) };
        let next = layer(&link).vlan.map(|(_, next)| next);
        links.push(link);
        match next {
            Some(next) if links.len() < DEEPEST => below = next,
            _ => break,
        }
    }
    Ok(read_stack(&links, known))
}

/// The stack of these interfaces, from the top down.
pub(super) fn read_stack(links: &[LinkMessage], known: &[u32]) -> Result<Stack, StackError> {
    let top = links.first().ok_or(StackError::Gone)?;
    if let Some(tunnel) = read_tunnel(top) {
        return Err(StackError::Tunnel(tunnel));
    }
    let Layer { name, kind, .. } = layer(top);
    let interface = read_interface(top).map_err(|_| StackError::Elsewhere { name, kind })?;
    let mut stack = Stack {
        name: interface.name,
        mac: interface.mac,
        mtu: interface.mtu,
        tags: Default::default(),
        bottom: interface.index,
        above: links.iter().map(|link| link.header.index).collect(),
    };
    for link in links {
        let Layer { vlan, name, kind } = layer(link);
        let Some((tag, below)) = vlan else { return Err(StackError::Elsewhere { name, kind }) };
        if stack.tags[1].id != 0 {
            return Err(StackError::Deep(stack.name));
        }
        // The deeper, the further out.
        stack.tags = [tag, stack.tags[0]];
        stack.bottom = below;
    }
    if known.contains(&stack.bottom) { Ok(stack) } else { Err(StackError::Gone) }
}

fn layer(link: &LinkMessage) -> Layer {
    let mut is_elsewhere = false;
    let (mut name, mut below, mut kind, mut tag) = (String::new(), None, None, VlanTag { protocol: 0x8100, id: 0 });
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name.clone_from(text),
            LinkAttribute::Link(index) => below = Some(*index),
            LinkAttribute::LinkNetNsId(_) => is_elsewhere = true,
            LinkAttribute::LinkInfo(facts) => {
                for fact in facts {
                    match fact {
                        LinkInfo::Kind(InfoKind::Vlan) => kind = Some(InfoKind::Vlan.to_string()),
                        LinkInfo::Kind(other) => kind = Some(other.to_string()),
                        LinkInfo::Data(InfoData::Vlan(facts)) => facts.iter().for_each(|fact| read_tag(fact, &mut tag)),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Layer { vlan: below.filter(|_| tag.id != 0 && !is_elsewhere).map(|below| (tag, below)), name, kind }
}

fn read_tag(fact: &InfoVlan, tag: &mut VlanTag) {
    match fact {
        InfoVlan::Id(id) => tag.id = *id,
        InfoVlan::Protocol(protocol) => tag.protocol = u16::from(*protocol),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
