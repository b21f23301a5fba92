//! A call of one phone, from INVITE to BYE.

use std::net::SocketAddr;

use rsip::{
    Header, Method, Request, Response, Uri,
    headers::{ToTypedHeader, UntypedHeader},
    prelude::HeadersExt,
};

use super::{Failure, transaction::Client};
use crate::sip::{self, sdp};

/// Whom all phones call.
const CALLEE: &str = "echo";

/// A call that was answered.
#[derive(Debug)]
pub(super) struct Dialog {
    call: String,
    from: String,
    to: String,
    /// The other side's Contact: the target of all further requests.
    target: Uri,
    /// The Record-Route headers of the answer, last one first (RFC 3261, 12.1.2).
    routes: Vec<String>,
    media: SocketAddr,
}

impl Dialog {
    /// Calls, offering audio at `rtp_port`, and acknowledges the answer.
    pub(super) async fn invite(client: &mut Client, rtp_port: u16) -> Result<Self, Failure> {
        let (call, from) = (sip::token(), client.from());
        let callee = sip::uri(Some(CALLEE), client.server());
        let to = format!("<{callee}>");
        let mut request = client.request(Method::Invite, callee, (&from, &to), (&call, 1));
        request.headers.push(rsip::headers::Contact::new(client.contact()).into());
        let offer = sdp::describe(SocketAddr::new(client.address().ip(), rtp_port));
        let answer = client.transact(request, Some(offer)).await?;
        let dialog = Self::answered(call, from, &answer).ok_or(Failure::Malformed)?;
        let mut request = dialog.request(client, Method::Ack, 1);
        request.body = sip::finish(&mut request.headers, None);
        let acknowledgement = Vec::from(request);
        client.send(&acknowledgement).await;
        client.acknowledgement = Some(acknowledgement);
        Ok(dialog)
    }

    /// Ends the call.
    pub(super) async fn bye(self, client: &mut Client) -> Result<(), Failure> {
        let request = self.request(client, Method::Bye, 2);
        let ended = client.transact(request, None).await.map(|_| ());
        client.acknowledgement = None;
        ended
    }

    /// Where the other side wants this phone's RTP.
    pub(super) fn media(&self) -> SocketAddr {
        self.media
    }

    fn answered(call: String, from: String, answer: &Response) -> Option<Self> {
        let route = |header: &Header| match header {
            Header::RecordRoute(route) => Some(route.value().to_owned()),
            _ => None,
        };
        let mut routes: Vec<_> = answer.headers.iter().filter_map(route).collect();
        routes.reverse();
        Some(Self {
            call,
            from,
            to: answer.to_header().ok()?.value().to_owned(),
            target: answer.contact_header().ok()?.typed().ok()?.uri,
            routes,
            media: sdp::media(&answer.body)?,
        })
    }

    fn request(&self, client: &Client, method: Method, number: u32) -> Request {
        let mut request = client.request(method, self.target.clone(), (&self.from, &self.to), (&self.call, number));
        request.headers.extend(self.routes.iter().map(|route| rsip::headers::Route::new(route).into()).collect());
        request
    }
}
