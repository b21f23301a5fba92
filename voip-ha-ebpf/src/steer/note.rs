//! What packets say about servers.

/// What a packet says about a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    /// What kind of news it is.
    pub news: News,
    /// Under which flip a packet was sent or heard.
    pub flip: FlipId,
    /// Of what is heard: whether packets of this class go to the server.
    pub is_target: bool,
    /// Whether the flow is to be noted, or that it was seen.
    pub is_flow: bool,
    /// Of a flow that a server sends: whether it is to be noted if it was not before.
    pub is_new_flow: bool,
    /// Hash of the Call-ID of a call that is to be noted; 0 for none.
    pub call: u64,
    /// Number plus one of the server whose the call or the flow is; 0 for the one that was active before, or if it says nothing of
    /// that.
    pub owner: u32,
    /// The client's port, in host order.
    pub client_port: u16,
    /// The service's port, in host order.
    pub service_port: u16,
    /// Code of the ICMP message by which a server is refused.
    pub code: u8,
}

/// A kind of news about a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// None.
    Nothing,
    /// If it is redirected: the server was sent one packet more.
    Sent,
    /// If it goes to the client: the server is alive. Only what came in by the way to the server says so: a stranger on the
    /// front can write any sender into a packet.
    Heard,
    /// Somebody says that the server, or its port, cannot be reached.
    Refused,
}

impl Note {
    pub(super) const NOTHING: Self = Self {
        news: News::Nothing,
        flip: FlipId { service: 0, epoch: 0 },
        is_target: false,
        is_flow: false,
        is_new_flow: false,
        call: 0,
        owner: 0,
        client_port: 0,
        service_port: 0,
        code: 0,
    };
}

/// Where the first packets of one flip are stamped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlipId {
    /// The service.
    pub service: u32,
    /// The stamp is this flip's if it has this epoch.
    pub epoch: u16,
}
