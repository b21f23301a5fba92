//! Orders that are answered when what they ask for is done, or cannot be any more.

use tokio::sync::oneshot;

use crate::event::Happening;

/// Orders whose answer waits for the end of a census.
#[derive(Default)]
pub(super) struct Waiting(Vec<Order>);

struct Order {
    /// Names of the services that are still to be flipped.
    services: Vec<String>,
    /// Says that all is done, or why not.
    answer: Box<dyn FnOnce(Result<(), String>) + Send>,
}

impl Waiting {
    /// Answers an order, once these services have been flipped. Whoever asked may be gone by then; that is no error.
    pub(super) fn answer<T: Send + 'static>(
        &mut self,
        services: Vec<String>,
        outcome: Result<T, String>,
        to: oneshot::Sender<Result<T, String>>,
    ) {
        if services.is_empty() {
            drop(to.send(outcome));
        } else {
            let answer = Box::new(|done: Result<(), String>| drop(to.send(done.and(outcome))));
            self.0.push(Order { services, answer });
        }
    }

    /// Answers those that waited for this.
    pub(super) fn hear(&mut self, happening: &Happening) {
        let (about, failure) = match happening {
            Happening::Flip(flip) if flip.census_us.is_some() => (&flip.service, None),
            Happening::NotSwitched { service, .. } => (service, Some(happening.to_string())),
            _ => return,
        };
        for order in self.0.extract_if(.., |order| {
            let waited = order.services.len();
            order.services.retain(|service| service != about);
            order.services.len() < waited && (order.services.is_empty() || failure.is_some())
        }) {
            (order.answer)(failure.clone().map_or(Ok(()), Err));
        }
    }
}
