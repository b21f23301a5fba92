//! What counts as the time without service.

/// How much too early the kernel's note of a server's last packet may be, in milliseconds.
pub const HEARD_GRAIN_MS: f64 = voip_ha_ebpf::abi::HEARD_GRAIN_NS as f64 / 1e6;

/// Around a planned flip a silence of this length is none: two packet times of G.711. Every stream is silent for nearly that
/// long between its packets.
pub const ANSWERED_WITHIN_MS: f64 = 40.0;

/// What is known about the time around a flip, in milliseconds relative to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Signs {
    /// Whether the flip was planned.
    pub planned: bool,
    /// Whether the old server drains.
    pub drains: bool,
    /// Last sign of life of the old server before the flip.
    pub last_sign: Option<f64>,
    /// The latest look before the flip at which no client's packet waited for a sign of life of the old server.
    pub nobody_waited: Option<f64>,
    /// Whether the old server was heard after the flip, or all that it was sent before had been followed by a sign.
    pub old_completed: bool,
    /// Packets that the old server was sent since it was last heard.
    pub unanswered: Option<u64>,
    /// First packet to the new server.
    pub first_to: Option<f64>,
    /// First packet from the new server to a client.
    pub first_back: Option<f64>,
}

impl Signs {
    /// How long clients were without service, or why that is not known.
    ///
    /// - The old server drains, gave a sign of life after all it was sent, and nothing new came while it was watched: 0.
    /// - It ends with the first packet from the new server to a client. While there was none, its end is not known.
    /// - Planned, and the old server was heard not longer than [`ANSWERED_WITHIN_MS`] before that: 0.
    /// - Planned, and the old server gave a sign of life after all it was sent: nothing was missing at its side. The
    ///   downtime is 0, or the time from the first packet to the new server to the first one back if that is longer
    ///   than [`ANSWERED_WITHIN_MS`].
    /// - Otherwise it begins with the last sign of life of the old server. An idle server gives none for hours, so it
    ///   begins later if the recorder, which looks once a second, last saw then that no packet waited.
    /// - If no client had sent anything since that sign, nobody was without service, and there is nothing to measure.
    ///
    /// The silence between two packets of a healthy stream is part of it, so it is an upper bound.
    pub fn downtime_ms(&self) -> Result<f64, String> {
        if !self.planned && self.unanswered == Some(0) {
            return Err("no client sent anything between the old server's last sign of life and the flip".to_owned());
        }
        if self.drains && self.old_completed && self.first_to.is_none() && self.first_back.is_none() {
            return Ok(0.0);
        }
        let Some(back) = self.first_back else {
            return Err(match self.first_to {
                Some(_) => "the new server was sent packets, and none came back while it was watched".to_owned(),
                None => "no client sent anything after the flip while it was watched".to_owned(),
            });
        };
        let silence = self.last_sign.map(|sign| back - sign);
        if self.planned && silence.is_some_and(|silence| silence <= ANSWERED_WITHIN_MS) {
            return Ok(0.0);
        }
        if self.planned && self.old_completed {
            let waited = back - self.first_to.unwrap_or(back);
            return Ok(if waited > ANSWERED_WITHIN_MS { waited } else { 0.0 });
        }
        let Some(sign) = self.last_sign else {
            return Err("no sign of life of the old server is known".to_owned());
        };
        let begin = self.nobody_waited.map_or(sign, |looked| sign.max(looked));
        Ok((back - begin).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CRASH: Signs = Signs {
        planned: false,
        drains: false,
        last_sign: Some(-12.5),
        nobody_waited: Some(-600.0),
        old_completed: false,
        unanswered: Some(31),
        first_to: Some(0.2),
        first_back: Some(0.5),
    };

    #[test]
    fn a_failover_lasts_from_the_last_sign_of_life_to_the_first_packet_back() {
        assert_eq!(CRASH.downtime_ms(), Ok(13.0));
    }

    #[test]
    fn hours_of_idleness_before_the_first_call_are_no_downtime() {
        let idle = Signs { last_sign: Some(-3_600_000.0), nobody_waited: Some(-700.0), unanswered: Some(1), ..CRASH };
        assert_eq!(idle.downtime_ms(), Ok(700.5));
    }

    #[test]
    fn a_planned_flip_costs_nothing_if_the_old_server_completes_and_the_new_one_answers() {
        let planned =
            Signs { planned: true, last_sign: Some(-300.0), old_completed: true, unanswered: Some(0), ..CRASH };
        assert_eq!(planned.downtime_ms(), Ok(0.0));
        assert_eq!(Signs { first_back: Some(40.2), ..planned }.downtime_ms(), Ok(0.0));
        assert_eq!(Signs { first_back: Some(1500.2), ..planned }.downtime_ms(), Ok(1500.0));
        let unfinished = Signs { nobody_waited: None, old_completed: false, unanswered: Some(4), ..planned };
        assert_eq!(unfinished.downtime_ms(), Ok(300.5));
        // The note of the last packet has a grain: what came right after it may be answered, and looks as if it were not.
        assert_eq!(Signs { last_sign: Some(-0.7), unanswered: Some(1), ..unfinished }.downtime_ms(), Ok(0.0));
    }

    #[test]
    fn a_drain_costs_nothing_if_the_old_server_serves_on_and_nobody_calls_meanwhile() {
        let quiet =
            Signs { planned: true, drains: true, old_completed: true, first_to: None, first_back: None, ..CRASH };
        assert_eq!(quiet.downtime_ms(), Ok(0.0));
        assert!(Signs { old_completed: false, ..quiet }.downtime_ms().is_err());
        assert!(Signs { first_to: Some(2.0), ..quiet }.downtime_ms().is_err(), "a new call is not answered");
    }

    #[test]
    fn what_is_not_known_is_not_given_a_figure() {
        for (signs, word) in [
            (Signs { first_back: None, ..CRASH }, "none came back"),
            (Signs { first_to: None, first_back: None, ..CRASH }, "after the flip"),
            (Signs { unanswered: Some(0), ..CRASH }, "between"),
            (Signs { last_sign: None, ..CRASH }, "no sign of life"),
        ] {
            let why = signs.downtime_ms().expect_err("nothing was measured");
            assert!(why.contains(word), "{why}");
        }
    }
}
