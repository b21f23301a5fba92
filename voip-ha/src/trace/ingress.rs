//! By which interface a frame is thought to come in.

use std::{collections::HashMap, net::IpAddr};

/// The interfaces with the program.
pub struct Interfaces {
    linked: Vec<Interface>,
    /// By the address of a server: the index of the interface that it is reached by, if there is one.
    ways: HashMap<IpAddr, Option<u32>>,
    back: Option<u32>,
}

/// An interface with the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Name.
    pub name: String,
    /// Index.
    pub index: u32,
}

impl Interfaces {
    /// Takes the servers in their order, each with the index of the interface that it is reached by. The pins do not say
    /// which interface is the back one: it is taken for that of the first server that is reached by one of them.
    pub fn new(linked: Vec<Interface>, ways: &[(IpAddr, Option<u32>)]) -> Self {
        let mut known = ways.iter().filter_map(|(_, way)| *way);
        let back = known.find(|way| linked.iter().any(|interface| interface.index == *way));
        Self { linked, ways: ways.iter().copied().collect(), back }
    }

    /// The one that is asked for: by its name, or as `front` or `back`.
    ///
    /// # Errors
    ///
    /// There is no such interface; the text names those that there are.
    pub fn named(&self, wanted: &str) -> Result<&Interface, String> {
        let found = match (self.linked.iter().find(|interface| interface.name == wanted), wanted) {
            (Some(interface), _) => Some(interface),
            (None, "front") => self.front(),
            (None, "back") => self.back(),
            (None, _) => None,
        };
        found.ok_or_else(|| format!("--in {wanted}: {}", self.choice()))
    }

    /// The one that packets from this sender come in by: for a server the one on the way to it, for everybody else the front.
    ///
    /// # Errors
    ///
    /// It cannot be told; the text names those that there are.
    pub fn guess(&self, sender: Option<IpAddr>) -> Result<&Interface, String> {
        let found = match sender.and_then(|sender| self.ways.get(&sender)) {
            Some(way) => self.linked.iter().find(|interface| Some(interface.index) == *way).or_else(|| self.back()),
            None => self.front(),
        };
        found.ok_or_else(|| {
            format!("the interface that the packet comes in by is not known: name it by --in; {}", self.choice())
        })
    }

    fn back(&self) -> Option<&Interface> {
        self.linked.iter().find(|interface| Some(interface.index) == self.back).or_else(|| self.only())
    }

    /// One that is not the back one, if that is only one; the back one where there is no other.
    fn front(&self) -> Option<&Interface> {
        let mut others = self.linked.iter().filter(|interface| Some(interface.index) != self.back);
        match (others.next(), others.next()) {
            (Some(front), None) => Some(front),
            (None, _) => self.only(),
            _ => None,
        }
    }

    fn only(&self) -> Option<&Interface> {
        self.linked.first().filter(|_| self.linked.len() == 1)
    }

    fn choice(&self) -> String {
        let names: Vec<_> = self.linked.iter().map(|interface| interface.name.as_str()).collect();
        match names[..] {
            [] => "no interface of this network namespace has the program".to_owned(),
            _ => format!("these have the program: {}", names.join(", ")),
        }
    }
}
