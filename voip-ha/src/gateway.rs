//! The running gateway: puts the parts together and keeps them going.
//!
//! The [`controller`] has a thread of its own, which nothing else may delay, and so have the
//! [`recorder`](crate::record) and its disk. This one talks to people and follows the network.

mod tunnels;

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use rtnetlink::Handle;
use tokio::{
    io::unix::AsyncFd,
    runtime::Builder,
    signal::unix::{SignalKind, signal},
    sync::{mpsc::unbounded_channel, oneshot::error::RecvError},
};

use self::tunnels::Workshop;
use crate::{
    config::{Config, Forwarding, Gateway},
    control,
    controller::{self, Controller, ControllerStatus, Mailbox, Order, Orders},
    datapath::{
        KernelDatapath, KernelLog, Ledger, Link, Mappings, PinDirectory, Pins, Tables, TunnelHook, Tunnels, XdpMode,
    },
    journal, network, nexthop,
    record::{self, Recorder},
    status::{FLOW_ENDED, InterfaceStatus, MasqueradeStatus, ServiceStatus, Status, TrafficStatus},
    sysctl::{self, Needs},
};

/// Runs the gateway until SIGTERM or SIGINT. The program and its maps stay: packets go on as they last did.
///
/// # Errors
///
/// Something that is needed at the start is missing. What an earlier controller left is then untouched, or already
/// taken over whole.
pub fn run(config: Config, kernel_log: KernelLog) -> Result<()> {
    Builder::new_current_thread().enable_all().build()?.block_on(serve(config, kernel_log))
}

async fn serve(config: Config, kernel_log: KernelLog) -> Result<()> {
    let (connection, handle, _) = rtnetlink::new_connection().context("cannot talk to the kernel by rtnetlink")?;
    tokio::spawn(connection);
    let mut devices = Vec::new();
    for name in config.gateway.interfaces() {
        devices.push(network::interface(&handle, name).await?.index);
    }
    let listing = network::Listing::read(&handle).await?;
    let links = listing.links(&devices);
    let needs = Needs::of(&config).with_vlans(listing.vlans_on(&devices));
    say(sysctl::prepare(&needs)?);
    let directory = PinDirectory::open(&config.gateway.pin_dir)?;
    let observer = Observer::new(&config, handle.clone(), needs);
    let fresh = directory.pins().linked_interfaces()?.is_empty();
    let (orders, mailbox) = Orders::channel().context("cannot make a mailbox for the controller")?;
    let control = control::serve(&config.gateway, orders.clone(), Arc::clone(&observer))?;
    let mut datapath = attach(&config, directory, &links, fresh, kernel_log)?;
    observer.warn_of_generic_mode().await;
    if kernel_log != KernelLog::Off {
        follow_kernel_log(&mut datapath)?;
    }
    let tunnels = Tunnels::new(Pins::new(&config.gateway.pin_dir), TunnelHook::of_kernel()?);
    tunnels.remove_others(&datapath.tables().tunnels()?)?;
    let workshop = Workshop { handle, tunnels: Arc::new(Mutex::new(tunnels)), observer };
    let controller = start_controller(&config, datapath, !fresh, mailbox)?;
    let watching = tokio::spawn(watch_network(config.clone(), orders.clone(), workshop));
    tokio::spawn(control);
    tokio::spawn(sweep_masquerade(Pins::new(&config.gateway.pin_dir), config.gateway.masquerade_idle));
    let recorder = Recorder::start(&config, orders)?;
    let ended = wait_for_the_end(controller).await;
    watching.abort();
    recorder.end().await;
    ended?;
    tracing::info!("ending; packets go on as they last did. `voip-ha unload` takes the program off");
    Ok(())
}

fn say(changed: Vec<sysctl::Changed>) {
    for changed in changed {
        tracing::info!("set {} to {} (was {})", changed.name, changed.to, changed.from);
    }
}

/// Tells the controller what is new in the network.
async fn watch_network(config: Config, orders: Orders, workshop: Workshop) {
    let (news, heard) = unbounded_channel();
    tokio::join!(nexthop::watch(&config, news), tunnels::pass_on(heard, orders, workshop));
}

/// Forgets flows to servers that masquerade when they are idle, also those of a server that does no more.
async fn sweep_masquerade(pins: Pins, idle: Duration) {
    // Of a full table each sweep takes some tenths of a second of a processor.
    let pause = (idle / 8).clamp(Duration::from_millis(250), Duration::from_secs(30));
    loop {
        tokio::time::sleep(pause).await;
        let pins = pins.clone();
        // This thread follows the network.
        let swept = tokio::task::spawn_blocking(move || Mappings::open(&pins)?.sweep(idle)).await;
        if let Ok(Err(error)) = swept {
            tracing::warn!("cannot forget idle flows of servers that masquerade: {error:#}");
        }
    }
}

/// Loads the program and puts it on the interfaces.
fn attach(
    config: &Config,
    directory: PinDirectory,
    links: &[Link],
    fresh: bool,
    kernel_log: KernelLog,
) -> Result<KernelDatapath> {
    let mut datapath = KernelDatapath::load(config, directory, kernel_log)?;
    let Err(error) = datapath.attach(config, links) else { return Ok(datapath) };
    if fresh {
        // Half a gateway is worse than none.
        drop(datapath);
        if let Err(error) = crate::datapath::unload(&config.gateway.pin_dir) {
            tracing::error!("cannot take off what was loaded: {error:#}");
        }
    }
    Err(error)
}

/// Returns when somebody ends the program.
async fn wait_for_the_end(controller: impl Future<Output = Result<(), RecvError>>) -> Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        ended = controller => Err(anyhow!("the controller's thread ended: {ended:?}")),
    }
}

/// Starts the controller's own thread. The future ends when the thread does, which it should not.
fn start_controller(
    config: &Config,
    datapath: KernelDatapath,
    adopted: bool,
    mailbox: Mailbox,
) -> Result<impl Future<Output = Result<(), RecvError>> + use<>> {
    let earlier = record::latest_events(&config.gateway.state_dir, journal::KEPT).unwrap_or_else(|error| {
        tracing::warn!("{}: cannot read earlier events: {error}", config.gateway.state_dir.display());
        Vec::new()
    });
    let controller = Controller::new(config.clone(), datapath, adopted)?.recalling(earlier);
    let (ended, end) = tokio::sync::oneshot::channel();
    thread::Builder::new().name("controller".to_owned()).spawn(move || {
        let lacks = controller::privileges();
        for lack in &lacks {
            tracing::warn!("{lack}");
        }
        if let Err(error) = controller.run(&mailbox, lacks) {
            tracing::error!("{error:#}");
        }
        let _ = ended.send(());
    })?;
    Ok(end)
}

/// Passes on what the kernel side logs.
fn follow_kernel_log(datapath: &mut KernelDatapath) -> Result<()> {
    let logger = aya_log::EbpfLogger::init(datapath.object()).context("cannot read the kernel side's log")?;
    // SAFETY: the logger owns its ring buffer's descriptor and gives the same one until it is dropped.
    let mut logger = unsafe { AsyncFd::register_with_interest(logger, tokio::io::Interest::READABLE) }?;
    tokio::spawn(async move {
        while let Ok(mut ready) = logger.readable_mut().await {
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    });
    Ok(())
}

/// Looks at the kernel for those who ask for the status, so that the controller need not.
pub struct Observer {
    handle: Handle,
    gateway: Gateway,
    needs: Mutex<Needs>,
    pins: Pins,
    started: jiff::Timestamp,
}

impl Observer {
    fn new(config: &Config, handle: Handle, needs: Needs) -> Arc<Self> {
        Arc::new(Self {
            handle,
            gateway: config.gateway.clone(),
            needs: Mutex::new(needs),
            pins: Pins::new(&config.gateway.pin_dir),
            started: jiff::Timestamp::now(),
        })
    }

    /// The state of everything. `None` if the controller has ended.
    pub async fn status(&self, orders: &Orders) -> Option<Status> {
        let ControllerStatus { mut services, stalls, lacks } = orders.ask(Order::Status).await?;
        let traffic = Tables::open(&self.pins).and_then(|tables| {
            for server in services.iter_mut().flat_map(|service| &mut service.servers) {
                let endpoint = tables.endpoints.get(server.addresses.first().into());
                server.traffic =
                    tables.traffic(Some(endpoint.number()))?.into_iter().map(TrafficStatus::from).collect();
            }
            Ok(())
        });
        if let Err(error) = traffic {
            tracing::warn!("cannot read the counters: {error:#}");
        }
        if let Err(error) = self.count_flows(&mut services).await {
            tracing::warn!("cannot read what is left of a drain: {error:#}");
        }
        let mut interfaces = Vec::new();
        for name in self.gateway.interfaces() {
            interfaces.push(self.interface(name).await);
        }
        Some(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: self.started,
            interfaces,
            warnings: sysctl::warnings(&self.needs())
                .unwrap_or_else(|error| vec![format!("{error:#}")])
                .into_iter()
                .chain(lacks)
                .collect(),
            gateway_stalls: stalls,
            masquerade: self.count_masquerade(&services).await,
            services,
        })
    }

    /// Makes the settings that a tunnel needs, and looks after them from now on.
    fn prepare_tunnel(&self, name: &str) -> Result<()> {
        say(sysctl::prepare(&self.needs().only(name))?);
        self.needs.lock().unwrap_or_else(PoisonError::into_inner).add_tunnel(name);
        Ok(())
    }

    fn needs(&self) -> Needs {
        self.needs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn count_masquerade(&self, services: &[ServiceStatus]) -> Option<MasqueradeStatus> {
        let mut servers = services.iter().flat_map(|service| &service.servers);
        servers.find(|server| server.forwarding == Forwarding::Masquerade)?;
        let pins = self.pins.clone();
        // As below.
        let count = tokio::task::spawn_blocking(move || Mappings::open(&pins).map(|mappings| mappings.count()));
        let flows =
            count.await.ok()?.inspect_err(|error| tracing::warn!("cannot count mapped ports: {error:#}")).ok()?;
        Some(MasqueradeStatus { flows, most: Mappings::MOST })
    }

    /// What servers that drain still have.
    async fn count_flows(&self, services: &mut [ServiceStatus]) -> Result<()> {
        let since = journal::monotonic().saturating_sub(FLOW_ENDED);
        for service in services {
            let Some(drain) = service.draining.as_mut().filter(|drain| drain.keeps_calls) else { continue };
            let server = service.servers.iter().find(|server| server.name == drain.server);
            let address = server.context("it is a server of its service")?.addresses.first();
            let (pins, vip) = (self.pins.clone(), service.vips.first());
            // On a busy gateway it takes milliseconds, and this thread follows the network.
            let count = move || Ledger::open(&pins)?.flows_left(vip, address, since);
            drain.rtp_flows = Some(tokio::task::spawn_blocking(count).await??);
        }
        Ok(())
    }

    /// A link that was taken over runs as it did, whatever the configuration says now: detaching it would cut traffic.
    async fn warn_of_generic_mode(&self) {
        for name in self.gateway.interfaces() {
            match self.interface(name).await.mode {
                Some(XdpMode::Generic) if self.gateway.allow_generic => {
                    tracing::warn!("{name}: XDP runs in generic mode, which is several times slower");
                }
                Some(XdpMode::Generic) => tracing::warn!(
                    "{name}: XDP runs in GENERIC mode, several times slower, though gateway.allow_generic = false: an \
                     earlier gateway attached it so, and detaching it would cut traffic. `voip-ha unload` and a new start \
                     change that"
                ),
                _ => {}
            }
        }
    }

    async fn interface(&self, name: &str) -> InterfaceStatus {
        let found = network::interface(&self.handle, name).await.ok();
        let xdp = found.as_ref().and_then(|interface| interface.xdp);
        InterfaceStatus {
            name: name.to_owned(),
            mode: xdp.map(|(mode, _)| mode),
            program_id: xdp.map(|(_, id)| id),
            carrier: found.is_some_and(|interface| interface.carrier),
        }
    }
}
