//! Which server of a service is active.
//!
//! Pure: the health of the servers, the operator's wish and the time are arguments.
//!
//! The rules, first match first:
//! 1. The active server is down: the first server by priority that is up. If none is up, nothing changes and the service
//!    has an outage.
//! 2. The operator chooses a server that is up: it becomes active and is held until rule 1, another choice, or `auto`.
//! 3. Failback is `auto` and no choice is held: a server before the active one in priority, once it has been up for the
//!    hold-down.
//!
//! A server whose health is unknown is never left by rule 1. A server whose health is unknown, or to which the packet path
//! has no way, is never taken by any.
//!
//! A fault that concerns all servers, such as a dead switch behind the gateway or its own link, is no reason to prefer
//! another one. So rule 1 wants more of a server than to be called up:
//! - if the active server fell silent, the other must have answered since that began;
//! - if the other came up only after that began, the active one first gets the time that it needs itself (`settle`).

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
    /// Whether the packet path has a way to it.
    pub reachable: bool,
    /// When the failures began that it has not recovered from.
    pub failing_since: Option<Instant>,
    /// When it last answered.
    pub last_answer: Option<Instant>,
    /// Whether its latest failure was proof, and not mere silence.
    pub certain: bool,
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
    /// It would serve, but packets do not get there.
    #[error("there is no way to it; `voip-ha status` says why")]
    NoWay,
}

/// The decision about one service.
#[derive(Clone, Debug)]
pub struct Decision {
    failback: Failback,
    settle: Duration,
    active: Rank,
    /// Whether the active server is the operator's choice.
    held: bool,
}

impl Decision {
    /// Starts with an active server: the master, or the one that is found active, which may be an operator's choice
    /// (`held`). `settle` is the time that a server needs to be called up again after a fault that concerned all.
    pub fn new(failback: Failback, settle: Duration, active: Rank, held: bool) -> Self {
        Self { failback, settle, active, held }
    }

    /// The active server.
    pub fn active(&self) -> Rank {
        self.active
    }

    /// Whether the active server is the operator's choice.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// Whether the service has no server: the active one is down, and none is up.
    pub fn is_outage(&self, servers: &[Standing]) -> bool {
        servers[self.active.0].health == Health::Down && !servers.iter().any(is_up)
    }

    /// Whether an operator may choose this server.
    ///
    /// # Errors
    ///
    /// Says why not.
    pub fn may_choose(&self, rank: Rank, servers: &[Standing]) -> Result<(), Refusal> {
        match servers[rank.0].health {
            Health::Up if servers[rank.0].reachable => Ok(()),
            Health::Up => Err(Refusal::NoWay),
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
            self.held = false;
            return Ok(self.decide(servers, now));
        };
        self.may_choose(rank, servers)?;
        self.held = true;
        Ok((rank != self.active).then(|| self.flip(rank, Cause::Operator)))
    }

    /// Applies the rules. The flip that is returned has been noted as made.
    pub fn decide(&mut self, servers: &[Standing], now: Instant) -> Option<Flip> {
        let (candidates, cause) = self.candidates(servers);
        let due = candidates.into_iter().find(|(_, due)| *due <= now);
        due.map(|(to, _)| self.flip(to, cause))
    }

    /// When [`Decision::decide`] has to be asked again even if nothing happens.
    pub fn next_deadline(&self, servers: &[Standing]) -> Option<Instant> {
        self.candidates(servers).0.into_iter().map(|(_, due)| due).min()
    }

    /// The servers that rule 1 or 3 would make active, by priority, and when each may be.
    fn candidates(&self, servers: &[Standing]) -> (Vec<(Rank, Instant)>, Cause) {
        let active = &servers[self.active.0];
        let ranked = servers.iter().enumerate().filter(|(_, server)| is_up(server));
        if active.health == Health::Down {
            let began = active.failing_since.unwrap_or(active.since);
            let confirmed = ranked.filter(|(_, server)| active.certain || server.last_answer >= Some(began));
            let due =
                |server: &Standing| server.since + if server.since > began { self.settle } else { Duration::ZERO };
            return (confirmed.map(|(rank, server)| (Rank(rank), due(server))).collect(), Cause::Failover);
        }
        let preferred = match self.failback {
            Failback::Auto { hold_down } if !self.held => ranked
                .take_while(|(rank, _)| *rank < self.active.0)
                .map(|(rank, server)| (Rank(rank), server.since + hold_down))
                .collect(),
            _ => Vec::new(),
        };
        (preferred, Cause::Failback)
    }

    fn flip(&mut self, to: Rank, cause: Cause) -> Flip {
        let from = std::mem::replace(&mut self.active, to);
        self.held = cause == Cause::Operator;
        Flip { from, to, cause }
    }
}

fn is_up(server: &Standing) -> bool {
    server.health == Health::Up && server.reachable
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

    fn standing(health: Health, since: Instant) -> Standing {
        let failing_since = (health == Health::Down).then_some(since);
        let last_answer = (health == Health::Up).then_some(since);
        Standing { health, since, reachable: true, failing_since, last_answer, certain: false }
    }

    fn standings(health: [Health; 2], since: Instant) -> [Standing; 2] {
        health.map(|health| standing(health, since))
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
            let mut decision = Decision::new(Failback::Manual, SETTLE, MASTER, false);
            let flip = decision.decide(&servers, now);
            assert_eq!(decision.active(), active, "{health:?}");
            assert_eq!(flip.is_some(), active != MASTER, "{health:?}");
            assert_eq!(decision.is_outage(&servers), outage, "{health:?}");
        }
    }

    #[test]
    fn a_master_that_comes_back_waits_for_the_operator_if_failback_is_manual() {
        let now = Instant::now();
        let mut decision = Decision::new(Failback::Manual, SETTLE, BACKUP, false);
        let servers = standings([Health::Up, Health::Up], now);
        assert_eq!(decision.decide(&servers, now + HOLD_DOWN * 10), None);
        assert_eq!(decision.next_deadline(&servers), None);
    }

    #[test]
    fn a_master_that_comes_back_is_active_again_after_the_hold_down_and_not_before() {
        let now = Instant::now();
        let mut decision = Decision::new(AUTO, SETTLE, BACKUP, false);
        let servers = standings([Health::Up, Health::Up], now);
        assert_eq!(decision.next_deadline(&servers), Some(now + HOLD_DOWN));
        assert_eq!(decision.decide(&servers, now + HOLD_DOWN - Duration::from_millis(1)), None);
        let flip = Flip { from: BACKUP, to: MASTER, cause: Cause::Failback };
        assert_eq!(decision.decide(&servers, now + HOLD_DOWN), Some(flip));
    }

    #[test]
    fn an_operators_choice_is_refused_if_the_server_is_not_known_to_serve() {
        let now = Instant::now();
        let mut decision = Decision::new(Failback::Manual, SETTLE, MASTER, false);
        for (health, refusal) in [(Health::Down, Refusal::Down), (Health::Unknown, Refusal::Unknown)] {
            let servers = standings([Health::Up, health], now);
            assert_eq!(decision.choose(Some(BACKUP), &servers, now), Err(refusal));
            assert_eq!((decision.active(), decision.is_held()), (MASTER, false));
        }
    }

    #[test]
    fn an_operators_choice_holds_against_failback_until_it_is_handed_back() {
        let now = Instant::now();
        let mut decision = Decision::new(AUTO, SETTLE, MASTER, false);
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
        let mut decision = Decision::new(Failback::Manual, SETTLE, MASTER, false);
        decision.choose(Some(BACKUP), &standings([Health::Up, Health::Up], now), now).unwrap();
        let flip = Flip { from: BACKUP, to: MASTER, cause: Cause::Failover };
        assert_eq!(decision.decide(&standings([Health::Up, Health::Down], now), now), Some(flip));
    }

    /// Master down since `now`, backup up since long before, last heard as given.
    fn silent_master(now: Instant, last_answer: Instant) -> [Standing; 2] {
        let backup = Standing { last_answer: Some(last_answer), ..standing(Health::Up, now - HOLD_DOWN) };
        [standing(Health::Down, now), backup]
    }

    #[test]
    fn a_server_is_taken_for_a_silent_one_only_after_it_has_answered_since_the_silence_began() {
        let now = Instant::now();
        let mut decision = Decision::new(Failback::Manual, SETTLE, MASTER, false);
        assert_eq!(decision.decide(&silent_master(now, now - Duration::from_millis(1)), now), None);
        let flip = Flip { from: MASTER, to: BACKUP, cause: Cause::Failover };
        assert_eq!(decision.decide(&silent_master(now, now), now), Some(flip));
    }

    #[test]
    fn a_server_is_taken_at_once_for_one_that_is_proved_dead() {
        let now = Instant::now();
        let mut servers = silent_master(now, now - Duration::from_millis(19));
        servers[0].certain = true;
        let mut decision = Decision::new(Failback::Manual, SETTLE, MASTER, false);
        assert_eq!(decision.decide(&servers, now), Some(Flip { from: MASTER, to: BACKUP, cause: Cause::Failover }));
    }

    #[test]
    fn after_a_fault_of_all_servers_the_active_one_gets_time_to_come_back() {
        let now = Instant::now();
        let back = now + Duration::from_secs(1);
        let servers = [standing(Health::Down, now), standing(Health::Up, back)];
        let mut decision = Decision::new(Failback::Manual, SETTLE, MASTER, false);
        assert_eq!(decision.decide(&servers, back), None);
        assert_eq!(decision.next_deadline(&servers), Some(back + SETTLE));
        assert!(decision.decide(&servers, back + SETTLE).is_some());
    }

    #[test]
    fn a_server_without_a_way_is_neither_taken_nor_chosen() {
        let now = Instant::now();
        let mut servers = standings([Health::Down, Health::Up], now);
        servers[1].reachable = false;
        let mut decision = Decision::new(Failback::Manual, SETTLE, MASTER, false);
        assert_eq!(decision.decide(&servers, now), None);
        assert!(decision.is_outage(&servers));
        assert_eq!(decision.choose(Some(BACKUP), &servers, now), Err(Refusal::NoWay));
    }

    #[test]
    fn failback_goes_to_the_best_server_that_is_due_and_not_to_the_one_that_was_due_first() {
        let now = Instant::now();
        let servers = [10, 20, 30].map(|ago| standing(Health::Up, now - HOLD_DOWN * ago));
        let mut decision = Decision::new(AUTO, SETTLE, Rank(2), false);
        assert_eq!(decision.decide(&servers, now), Some(Flip { from: Rank(2), to: MASTER, cause: Cause::Failback }));
    }

    #[test]
    fn a_choice_ends_with_the_server_that_was_chosen() {
        let now = Instant::now();
        let mut decision = Decision::new(AUTO, SETTLE, MASTER, true);
        assert!(decision.decide(&standings([Health::Down, Health::Up], now), now).is_some());
        assert!(!decision.is_held());
        let back = Flip { from: BACKUP, to: MASTER, cause: Cause::Failback };
        let later = now + HOLD_DOWN;
        assert_eq!(decision.decide(&standings([Health::Up, Health::Up], now), later), Some(back));
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
            let mut decision = Decision::new(if auto { AUTO } else { Failback::Manual }, SETTLE, MASTER, false);
            for (health, choice, seconds) in steps {
                let servers: Vec<_> = health.into_iter().map(|health| standing(health, now)).collect();
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
