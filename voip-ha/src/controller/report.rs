//! What the controller tells of itself.

use std::time::{Duration, Instant};

use super::{Controller, second::Second};
use crate::{
    config::Server,
    datapath::Datapath,
    decision::Stay,
    ids::{Family, ServerId, ServiceId},
    plan::{NextHops, Plan, ServerPlan, ServicePlan},
    status::{DrainStatus, HopStatus, ServerStatus, ServiceStatus, wall_clock, wall_clock_ahead},
};

impl<D: Datapath> Controller<D> {
    /// The state of the services, without the traffic, which is read from the kernel's maps.
    pub(super) fn service_status(&self, now: Instant) -> Vec<ServiceStatus> {
        let name = |server: ServerId| self.engine.servers()[server.0].name.clone();
        let services = self.config.services.iter().zip(self.engine.services()).enumerate();
        let status = services.map(|(index, (config, state))| ServiceStatus {
            name: state.name.clone(),
            vips: config.vips,
            active: name(state.active()),
            media: name(state.media()),
            since: wall_clock(state.since, now),
            cause: state.cause,
            outage: state.outage,
            kept: state.kept,
            choice: state.choice(),
            switching_to: state.planned().map(|(to, _)| name(to)),
            draining: state.former().filter(|(_, former)| former.stay != Stay::Recall).map(|(server, former)| {
                DrainStatus {
                    server: name(server),
                    keeps_calls: former.stay == Stay::Drain,
                    since: wall_clock(former.since, now),
                    until: wall_clock_ahead(former.until, now),
                    rtp_flows: None,
                }
            }),
            servers: self
                .of_service(ServiceId(index))
                .map(|(id, server)| self.server_status(id, server, now))
                .collect(),
        });
        status.collect()
    }

    /// What the kernel's tables should hold.
    pub(super) fn plan(&self) -> Plan {
        let services = self.config.services.iter().enumerate().map(|(index, config)| {
            let service = ServiceId(index);
            let steering = self.engine.steering(service);
            let servers: Vec<_> = self.of_service(service).collect();
            let address =
                |id: ServerId| servers.iter().find(|(other, _)| *other == id).map(|(_, server)| server.addresses);
            ServicePlan {
                vips: config.vips,
                sip_ports: config.sip_ports.clone(),
                rtp_ports: config.rtp_ports.clone(),
                protection: config.protection.clone(),
                signalling: steering.signalling.and_then(address),
                media: steering.media.and_then(address),
                draining: steering.draining.and_then(address),
                affinity: steering.memory.is_affine(),
                servers: servers
                    .iter()
                    .map(|(id, server)| {
                        let known = |family| self.ways[id.0].of(family).known.as_ref().map(|(hop, _)| *hop);
                        let (addresses, forwarding) = (server.addresses, server.forwarding);
                        ServerPlan { addresses, forwarding, next_hops: NextHops::by(known) }
                    })
                    .collect(),
            }
        });
        Plan { services: services.collect() }
    }

    fn server_status(&self, id: ServerId, config: &Server, now: Instant) -> ServerStatus {
        let state = &self.engine.servers()[id.0];
        let ways = &self.ways[id.0];
        let (rtt, timeout) = state.monitor.round_trip();
        let suppressed = self.engine.suppressed_until(id, now);
        let hop = |family| {
            let (hop, interface) = ways.of(family).known.clone()?;
            Some(HopStatus { family, interface, hop })
        };
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let since = |then: Instant| ms(now.saturating_duration_since(then));
        ServerStatus {
            name: state.name.clone(),
            addresses: config.addresses,
            forwarding: config.forwarding,
            health: state.detector.health(),
            fault: state.detector.fault(),
            since: wall_clock(state.since, now),
            evidence: state.last,
            answers: state.detector.answers(),
            failures: state.detector.failures(),
            rtt_ms: rtt.map(ms),
            timeout_ms: ms(timeout),
            unanswered_ms: state.monitor.unanswered_since().map(since),
            heard_ms: state.monitor.last_heard().map(since),
            echo_works: state.monitor.echo_works(),
            close_calls: state.monitor.close_calls(),
            suppressed_s: suppressed.map(|until| until.saturating_duration_since(now).as_secs()),
            next_hops: Family::ALL.into_iter().filter_map(hop).collect(),
            no_way: ways.missing(),
            second_address: self.seconds[id.0].as_ref().and_then(Second::fault),
            traffic: Vec::new(),
        }
    }

    fn of_service(&self, service: ServiceId) -> impl Iterator<Item = (ServerId, &Server)> {
        self.config.servers().filter(move |(_, of, _)| *of == service).map(|(id, _, server)| (id, server))
    }
}
