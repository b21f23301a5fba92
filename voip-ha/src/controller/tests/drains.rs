//! What operators order of drains, and what they are shown.

use super::*;
use crate::{
    control::{DrainOutcome, DrainRequest, DrainStep, SwitchRequest},
    datapath::Memory,
    decision::{Choice, Scope},
    event::DrainWhy,
};

const BACKUP: ServerId = ServerId(1);

fn request(name: Option<&str>, end: bool) -> DrainRequest {
    let name = name.map(ToOwned::to_owned);
    DrainRequest { name, end, drain_s: Some(60), dry_run: false, reason: None, asked_by: Some("ann".to_owned()) }
}

async fn drain(orders: &Orders, request: DrainRequest) -> Result<DrainOutcome, String> {
    let mut outcomes = orders.ask(|answer| Order::Drain(request, answer)).await.expect("the controller runs")?;
    assert_eq!(outcomes.len(), 1);
    Ok(outcomes.remove(0))
}

/// Two servers that are up.
async fn running(fake: &Fake) -> ((Responder, Responder), Orders, JoinHandle<()>) {
    let (master, backup) = (Responder::start(Ipv4Addr::LOCALHOST), Responder::start(Ipv4Addr::LOCALHOST));
    let (orders, thread) = start(config(&[&master, &backup]), fake.clone());
    wait_until(&orders, "both are up", |status| status.servers.iter().all(|server| server.health == Health::Up)).await;
    ((master, backup), orders, thread)
}

/// The backup is active, and the calls of the master stay there.
fn drains() -> Steering {
    Steering { draining: Some(MASTER), memory: Memory::AfterCensus, choice: Choice::Chosen, ..Steering::to(BACKUP) }
}

#[tokio::test(flavor = "current_thread")]
async fn a_drain_is_ordered_tried_shown_given_another_time_and_ended() {
    let fake = Fake::default();
    let (_servers, orders, thread) = running(&fake).await;
    let word = || fake.steering(ServiceId(0));
    let dry = drain(&orders, DrainRequest { dry_run: true, ..request(Some("master"), false) }).await.unwrap();
    assert_eq!((dry.active.as_str(), dry.step, dry.drain_s), ("backup", DrainStep::Begun, Some(60)));
    assert_eq!(word(), Steering::to(MASTER), "it was only asked");

    let begun = drain(&orders, request(Some("master"), false)).await.unwrap();
    assert_eq!(begun, DrainOutcome { dry_run: false, ..dry });
    assert_eq!(word(), drains());
    let shown = status(&orders).await.draining.expect("it drains");
    assert_eq!((shown.server.as_str(), shown.keeps_calls), ("master", true));
    let time = shown.until.duration_since(shown.since).as_secs();
    assert!((59..=60).contains(&time), "{shown:?}");

    let again = DrainRequest { drain_s: None, ..request(Some("master"), false) };
    let prolonged = drain(&orders, again).await.unwrap();
    assert_eq!((prolonged.step, prolonged.drain_s), (DrainStep::Prolonged, Some(600)), "as the policy says");
    let ended = drain(&orders, request(Some("pbx"), true)).await.unwrap();
    assert_eq!((ended.server.as_str(), ended.step), ("master", DrainStep::Ended));
    assert_eq!(word(), Steering { choice: Choice::Chosen, ..Steering::to(BACKUP) });
    drop(orders);
    thread.join().unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn an_order_is_answered_when_its_census_is_over_and_with_no_if_another_one_came_before() {
    let fake = Fake::default();
    let (_servers, orders, thread) = running(&fake).await;
    let word = || fake.steering(ServiceId(0));
    let first = tokio::spawn({
        let orders = orders.clone();
        async move { drain(&orders, request(Some("master"), false)).await }
    });
    wait_until(&orders, "the census", |status| status.switching_to.as_deref() == Some("backup")).await;
    assert_eq!(word(), Steering { memory: Memory::Census, ..Steering::to(MASTER) });
    assert!(!first.is_finished(), "nothing is done yet");
    let ended = drain(&orders, request(Some("master"), true)).await.unwrap();
    assert_eq!((ended.active.as_str(), ended.step), ("master", DrainStep::Ended));
    assert_eq!(word(), Steering::to(MASTER));
    let why = "pbx: backup does not take over from master as planned: another order came before its calls were noted";
    assert_eq!(first.await.unwrap(), Err(why.to_owned()));
    let status = status(&orders).await;
    assert_eq!((status.active.as_str(), status.switching_to, status.draining), ("master", None, None));
    drop(orders);
    thread.join().unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn a_drain_that_cannot_be_is_refused_with_its_reason() {
    let fake = Fake::default();
    let ((_master, backup), orders, thread) = running(&fake).await;
    for (name, end, why) in [
        (Some("backup"), false, "backup is not active in pbx, master is: there is nothing to drain"),
        (Some("nobody"), false, "there is no server nobody; `voip-ha status` names them"),
        (None, false, "which server is to drain?"),
        (None, true, "no server drains"),
        (Some("pbx"), true, "no server of pbx drains"),
        (Some("master"), true, "master does not drain"),
        (Some("fax"), true, "there is no service fax; `voip-ha status` names them"),
    ] {
        assert_eq!(drain(&orders, request(name, end)).await, Err(why.to_owned()), "{name:?}");
    }
    drop(backup);
    wait_until(&orders, "the backup is down", |status| status.servers[1].health == Health::Down).await;
    let why = "master is not drained: no other server is up";
    assert_eq!(drain(&orders, request(Some("master"), false)).await, Err(why.to_owned()));
    assert_eq!(fake.steering(ServiceId(0)), Steering::to(MASTER));
    drop(orders);
    thread.join().unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn a_switch_may_drain_for_the_time_of_the_policy() {
    let fake = Fake::default();
    let (_servers, orders, thread) = running(&fake).await;
    let request = SwitchRequest {
        server: "backup".to_owned(),
        service: None,
        scope: Scope::Both,
        force: false,
        drain: true,
        drain_s: None,
        dry_run: false,
        reason: None,
        asked_by: None,
    };
    let outcomes = orders.ask(|answer| Order::Switch(request, answer)).await.unwrap().unwrap();
    assert_eq!((outcomes[0].to.as_str(), outcomes[0].drain_s), ("backup", Some(600)));
    assert_eq!(fake.steering(ServiceId(0)), drains());
    drop(orders);
    thread.join().unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn a_controller_that_finds_a_drain_goes_on_with_it_and_says_so() {
    let fake = Fake::default();
    // How it began is not in the word.
    let found = Steering { memory: Memory::Calls, ..drains() };
    fake.0.lock().unwrap().word = found;
    let (_servers, orders, thread) = running(&fake).await;
    assert_eq!(fake.steering(ServiceId(0)), found);
    let (events, _) = orders.ask(Order::Events).await.unwrap();
    let adopted = |event: &&Event| {
        matches!(&event.happening, Happening::Draining { why: DrainWhy::Adopted, seconds: 600, server, .. }
            if server == "master")
    };
    assert_eq!(events.iter().filter(adopted).count(), 1, "{events:?}");
    drop(orders);
    thread.join().unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn what_another_thread_found_out_is_among_the_events() {
    let fake = Fake::default();
    let (_servers, orders, thread) = running(&fake).await;
    let left = Happening::DrainLeft { service: "pbx".to_owned(), server: "master".to_owned(), rtp_flows: 3 };
    orders.note(left.clone());
    let (events, _) = orders.ask(Order::Events).await.unwrap();
    assert_eq!(events.last().map(|event| &event.happening), Some(&left));
    drop(orders);
    thread.join().unwrap();
}
