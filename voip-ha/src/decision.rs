//! Which server of a service is active.
//!
//! Pure: the health of the servers, the operator's wish and the time are arguments.
//!
//! The rules, first match first:
//! 1. The active server is down: the operator's choice if it is up, else the first server by priority that is up. If
//!    none is up, nothing changes and the service has an outage.
//! 2. The operator chooses a server that is up: it becomes active, and stays so until rule 1 or another choice.
//! 3. Failback is `auto` and no choice is in force: a server before the active one in priority, once it has been up
//!    for the hold-down.
//!
//! A server whose health is unknown is never left by rule 1, and never taken by any.
//!
//! The gateway itself is no reason for a failover: if its own link was gone, and the active server and the next one were
//! both behind it, the active one gets the time to come back that it needs (`settle`) before rule 1 takes the other.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::{config::Failback, detector::Health};

/// A server of this service: its place in the order of priority, 0 for the master.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rank(pub usize);

/// What is known about a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its health.
    pub health: Health,
    /// Since when.
    pub since: Instant,
    /// Whether it was last down because the gateway's own link was.
    pub lost_carrier: bool,
}

/// Why a server is or becomes active.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The gateway started with it: the first by priority.
    Start,
    /// An earlier controller had made it active, and this one took over.
    Adopted,
    /// The server before it went down.
    Failover,
    /// It came back, and the policy prefers it.
    Failback,
    /// An operator chose it.
    Operator,
}

impl Cause {
    /// Whether the server before it still serves, so that it may end what it has begun.
    pub fn is_planned(self) -> bool {
        matches!(self, Self::Failback | Self::Operator)
    }
}

/// A change that has to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flip {
    /// The server that was active.
    pub from: Rank,
    /// The server that is to become active.
    pub to: Rank,
    /// Why.
    pub cause: Cause,
}

/// Why an operator's choice is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It would end the service.
    #[error("it is down")]
    Down,
    /// Nobody knows whether it would serve.
    #[error("nothing was heard from it yet")]
    Unknown,
}

/// The decision about one service.
#[derive(Clone, Debug)]
pub struct Decision {
    failback: Failback,
    settle: Duration,
    active: Rank,
    choice: Option<Rank>,
}

impl Decision {
    /// Starts with an active server: the master, or the one that is found active. `settle` is the time that a server
    /// needs to be called up after the gateway's own link came back.
    pub fn new(failback: Failback, settle: Duration, active: Rank) -> Self {
        Self { failback, settle, active, choice: None }
    }

    /// The active server.
    pub fn active(&self) -> Rank {
        self.active
    }

    /// The operator's choice, if one is in force.
    pub fn choice(&self) -> Option<Rank> {
        self.choice
    }

    /// Whether the service has no server: the active one is down, and none is up.
    pub fn is_outage(&self, servers: &[Standing]) -> bool {
        servers[self.active.0].health == Health::Down && self.first_up(servers).is_none()
    }

    /// Whether an operator may choose this server.
    ///
    /// # Errors
    ///
    /// Says why not.
    pub fn may_choose(&self, rank: Rank, servers: &[Standing]) -> Result<(), Refusal> {
        match servers[rank.0].health {
            Health::Up => Ok(()),
            Health::Down => Err(Refusal::Down),
            Health::Unknown => Err(Refusal::Unknown),
        }
    }

    /// An operator chooses a server, or hands the choice back to the policy. Returns the flip that this asks for.
    ///
    /// # Errors
    ///
    /// As [`Decision::may_choose`]; nothing has changed then.
    pub fn choose(
        &mut self,
        choice: Option<Rank>,
        servers: &[Standing],
        now: Instant,
    ) -> Result<Option<Flip>, Refusal> {
        let Some(rank) = choice else {
            self.choice = None;
            return Ok(self.decide(servers, now));
        };
        self.may_choose(rank, servers)?;
        self.choice = Some(rank);
        Ok((rank != self.active).then(|| self.flip(rank, Cause::Operator)))
    }

    /// Applies the rules. The flip that is returned has been noted as made.
    pub fn decide(&mut self, servers: &[Standing], now: Instant) -> Option<Flip> {
        let (to, due, cause) = self.next(servers)?;
        (due <= now).then(|| self.flip(to, cause))
    }

    /// When [`Decision::decide`] has to be asked again even if nothing happens.
    pub fn next_deadline(&self, servers: &[Standing]) -> Option<Instant> {
        self.next(servers).map(|(_, due, _)| due)
    }

    /// The flip that rule 1 or 3 asks for, and when it may be made.
    fn next(&self, servers: &[Standing]) -> Option<(Rank, Instant, Cause)> {
        if servers[self.active.0].health != Health::Down {
            return self.failback_due(servers).map(|(to, due)| (to, due, Cause::Failback));
        }
        let to = self.choice.filter(|choice| is_up(servers, *choice)).or_else(|| self.first_up(servers))?;
        let other = servers[to.0];
        let own_fault = servers[self.active.0].lost_carrier && other.lost_carrier;
        let due = if own_fault { other.since + self.settle } else { other.since };
        Some((to, due, Cause::Failover))
    }

    /// The server that failback would make active, and when it may.
    fn failback_due(&self, servers: &[Standing]) -> Option<(Rank, Instant)> {
        let Failback::Auto { hold_down } = self.failback else { return None };
        if self.choice.is_some() {
            return None;
        }
        (0..self.active.0)
            .map(Rank)
            .filter(|rank| is_up(servers, *rank))
            .map(|rank| (rank, servers[rank.0].since + hold_down))
            .min_by_key(|(rank, due)| (*due, *rank))
    }

    fn first_up(&self, servers: &[Standing]) -> Option<Rank> {
        (0..servers.len()).map(Rank).find(|rank| is_up(servers, *rank))
    }

    fn flip(&mut self, to: Rank, cause: Cause) -> Flip {
        let from = std::mem::replace(&mut self.active, to);
        Flip { from, to, cause }
    }
}

fn is_up(servers: &[Standing], rank: Rank) -> bool {
    servers[rank.0].health == Health::Up
}

/// How long the server before may go on sending after a flip of this cause; `None` fences it at once.
pub fn grace(cause: Cause, switch_grace: Duration) -> Option<Duration> {
    cause.is_planned().then_some(switch_grace).filter(|grace| !grace.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOLD_DOWN: Duration = Duration::from_secs(60);
    const SETTLE: Duration = Duration::from_millis(135);
    const AUTO: Failback = Failback::Auto { hold_down: HOLD_DOWN };
    const MASTER: Rank = Rank(0);
    const BACKUP: Rank = Rank(1);

    fn standings(health: [Health; 2], since: Instant) -> [Standing; 2] {
        health.map(|health| Standing { health, since, lost_carrier: false })
    }

    /// Every health of master and backup, with the server that is active afterwards and whether it is an outage.
    #[test]
    fn the_active_server_is_left_only_when_it_is_down_and_only_for_one_that_is_up() {
        use Health::{Down, Unknown, Up};
        let now = Instant::now();
        for (health, active, outage) in [
            ([Unknown, Unknown], MASTER, false),
            ([Unknown, Up], MASTER, false),
            ([Unknown, Down], MASTER, false),
            ([Up, Unknown], MASTER, false),
            ([Up, Up], MASTER, false),
            ([Up, Down], MASTER, false),
            ([Down, Unknown], MASTER, true),
            ([Down, Up], BACKUP, false),
            ([Down, Down], MASTER, true),
        ] {
            let servers = standings(health, now);
            let mut decision = Decision::new(Failback::Manual, SETTLE, MASTER);
            let flip = decision.decide(&servers, now);
            assert_eq!(decision.active(), active, "{health:?}");
            assert_eq!(flip.is_some(), active != MASTER, "{health:?}");
            assert_eq!(decision.is_outage(&servers), outage, "{health:?}");
        }
    }

    #[test]
    fn a_master_that_comes_back_waits_for_the_operator_if_failback_is_manual() {
        let now = Instant::now();
        let mut decision = Decision::new(Failback::Manual, SETTLE, BACKUP);
        let servers = standings([Health::Up, Health::Up], now);
        assert_eq!(decision.decide(&servers, now + HOLD_DOWN * 10), None);
        assert_eq!(decision.next_deadline(&servers), None);
    }

    #[test]
    fn a_master_that_comes_back_is_active_again_after_the_hold_down_and_not_before() {
        let now = Instant::now();
        let mut decision = Decision::new(AUTO, SETTLE, BACKUP);
        let servers = standings([Health::Up, Health::Up], now);
        assert_eq!(decision.next_deadline(&servers), Some(now + HOLD_DOWN));
        assert_eq!(decision.decide(&servers, now + HOLD_DOWN - Duration::from_millis(1)), None);
        let flip = Flip { from: BACKUP, to: MASTER, cause: Cause::Failback };
        assert_eq!(decision.decide(&servers, now + HOLD_DOWN), Some(flip));
    }

    #[test]
    fn an_operators_choice_is_refused_if_the_server_is_not_known_to_serve() {
        let now = Instant::now();
        let mut decision = Decision::new(Failback::Manual, SETTLE, MASTER);
        for (health, refusal) in [(Health::Down, Refusal::Down), (Health::Unknown, Refusal::Unknown)] {
            let servers = standings([Health::Up, health], now);
            assert_eq!(decision.choose(Some(BACKUP), &servers, now), Err(refusal));
            assert_eq!((decision.active(), decision.choice()), (MASTER, None));
        }
    }

    #[test]
    fn an_operators_choice_holds_against_failback_until_it_is_handed_back() {
        let now = Instant::now();
        let mut decision = Decision::new(AUTO, SETTLE, MASTER);
        let servers = standings([Health::Up, Health::Up], now);
        let flip = Flip { from: MASTER, to: BACKUP, cause: Cause::Operator };
        assert_eq!(decision.choose(Some(BACKUP), &servers, now), Ok(Some(flip)));
        assert_eq!(decision.decide(&servers, now + HOLD_DOWN * 2), None);
        let back = Flip { from: BACKUP, to: MASTER, cause: Cause::Failback };
        assert_eq!(decision.choose(None, &servers, now + HOLD_DOWN * 2), Ok(Some(back)));
    }

    #[test]
    fn an_operators_choice_does_not_hold_a_dead_server() {
        let now = Instant::now();
        let mut decision = Decision::new(Failback::Manual, SETTLE, MASTER);
        decision.choose(Some(BACKUP), &standings([Health::Up, Health::Up], now), now).unwrap();
        let flip = Flip { from: BACKUP, to: MASTER, cause: Cause::Failover };
        assert_eq!(decision.decide(&standings([Health::Up, Health::Down], now), now), Some(flip));
    }

    #[test]
    fn when_the_gateways_own_link_was_gone_the_active_server_gets_time_to_come_back() {
        let now = Instant::now();
        let mut servers = standings([Health::Down, Health::Up], now);
        servers[0].lost_carrier = true;
        let mut decision = Decision::new(Failback::Manual, SETTLE, MASTER);
        let flip = Flip { from: MASTER, to: BACKUP, cause: Cause::Failover };
        assert_eq!(decision.clone().decide(&servers, now), Some(flip), "the backup is behind another link");
        servers[1].lost_carrier = true;
        assert_eq!(decision.decide(&servers, now), None);
        assert_eq!(decision.next_deadline(&servers), Some(now + SETTLE));
        assert_eq!(decision.decide(&servers, now + SETTLE), Some(flip));
    }

    fn any_health() -> impl Strategy<Value = Health> {
        prop_oneof![Just(Health::Unknown), Just(Health::Up), Just(Health::Down)]
    }

    proptest! {
        #[test]
        fn no_flip_ever_goes_to_a_server_that_is_not_up(
            steps in proptest::collection::vec((proptest::collection::vec(any_health(), 4), 0..6usize, 0..90u64), 1..60),
            auto in any::<bool>(),
        ) {
            let mut now = Instant::now();
            let mut decision = Decision::new(if auto { AUTO } else { Failback::Manual }, SETTLE, MASTER);
            for (health, choice, seconds) in steps {
                let servers: Vec<_> = health.into_iter().map(|health| Standing { health, since: now, lost_carrier: false }).collect();
                now += Duration::from_secs(seconds);
                let before = decision.active();
                let flip = match choice {
                    0..4 => decision.choose(Some(Rank(choice)), &servers, now).unwrap_or(None),
                    4 => decision.choose(None, &servers, now).unwrap(),
                    _ => decision.decide(&servers, now),
                };
                match flip {
                    Some(flip) => prop_assert_eq!(servers[flip.to.0].health, Health::Up),
                    None => prop_assert_eq!(decision.active(), before),
                }
            }
        }
    }
}
