//! The tables `[probe]`: presets, and keys that replace what a preset says.

use std::time::Duration;

use toml::Spanned;

use super::{Probe, check::optional, findings::Findings, raw, values};

/// A [`Probe`] whose port may still be the service's first SIP port.
#[derive(Clone, Copy)]
pub(super) struct ProbeDefaults {
    settings: Settings,
    port: Option<u16>,
}

/// All but the port. Times in milliseconds, but for the gap in microseconds.
#[derive(Clone, Copy)]
struct Settings {
    interval: u32,
    standby_interval: u32,
    timeout_min: u32,
    timeout_max: u32,
    confirm: u32,
    confirm_gap_us: u32,
    quiet: u32,
    hang: u32,
    patience: u32,
    rise: u32,
    echo: bool,
}

/// Servers on hosts of their own, one switch away.
const LAN: Settings = Settings {
    interval: 20,
    standby_interval: 100,
    timeout_min: 2,
    timeout_max: 100,
    confirm: 7,
    confirm_gap_us: 500,
    quiet: 3,
    hang: 200,
    patience: 2000,
    rise: 3,
    echo: true,
};

/// Servers behind routers: packets are lost in bursts, and round trips vary.
const WAN: Settings = Settings {
    interval: 50,
    standby_interval: 200,
    timeout_min: 20,
    timeout_max: 1000,
    confirm: 5,
    confirm_gap_us: 10_000,
    quiet: 40,
    hang: 1000,
    patience: 5000,
    rise: 5,
    ..LAN
};

/// Servers that stand still now and then, such as virtual machines that are moved, and that share no calls with each
/// other, so that a false failover costs every one.
const CAUTIOUS: Settings = Settings {
    interval: 100,
    standby_interval: 500,
    timeout_min: 50,
    timeout_max: 2000,
    confirm: 6,
    confirm_gap_us: 100_000,
    quiet: 200,
    hang: 3000,
    patience: 10_000,
    rise: 10,
    ..LAN
};

impl ProbeDefaults {
    pub(super) const BUILT_IN: Self = Self { settings: LAN, port: None };

    pub(super) fn overridden(self, path: &str, raw: &raw::Probe, findings: &mut Findings<'_>) -> Option<Self> {
        let preset = optional(&format!("{path}.preset"), &raw.preset, findings, |text| match text.as_str() {
            "lan" => Ok(LAN),
            "wan" => Ok(WAN),
            "cautious" => Ok(CAUTIOUS),
            _ => Err(format!("{text:?} is not known; use \"lan\", \"wan\" or \"cautious\"")),
        });
        let mut whole = |name: &str, value: &Option<Spanned<i64>>, range| {
            optional(&format!("{path}.{name}"), value, findings, |value| values::number::<u32>(*value, range))
        };
        let interval = whole("interval_ms", &raw.interval_ms, 5..=60_000);
        let standby_interval = whole("standby_interval_ms", &raw.standby_interval_ms, 5..=60_000);
        let timeout_min = whole("timeout_min_ms", &raw.timeout_min_ms, 1..=60_000);
        let timeout_max = whole("timeout_max_ms", &raw.timeout_max_ms, 1..=60_000);
        let confirm = whole("confirm", &raw.confirm, 1..=30);
        let confirm_gap_us = whole("confirm_gap_us", &raw.confirm_gap_us, 100..=10_000_000);
        let quiet = whole("quiet_ms", &raw.quiet_ms, 0..=60_000);
        let hang = whole("hang_ms", &raw.hang_ms, 10..=600_000);
        let patience = whole("patience_ms", &raw.patience_ms, 0..=600_000);
        let rise = whole("rise", &raw.rise, 1..=1000);
        let port = optional(&format!("{path}.port"), &raw.port, findings, |port| values::port(*port));
        let base = preset?.unwrap_or(self.settings);
        let settings = Settings {
            interval: interval?.unwrap_or(base.interval),
            standby_interval: standby_interval?.unwrap_or(base.standby_interval),
            timeout_min: timeout_min?.unwrap_or(base.timeout_min),
            timeout_max: timeout_max?.unwrap_or(base.timeout_max),
            confirm: confirm?.unwrap_or(base.confirm),
            confirm_gap_us: confirm_gap_us?.unwrap_or(base.confirm_gap_us),
            quiet: quiet?.unwrap_or(base.quiet),
            hang: hang?.unwrap_or(base.hang),
            patience: patience?.unwrap_or(base.patience),
            rise: rise?.unwrap_or(base.rise),
            echo: raw.echo.unwrap_or(base.echo),
        };
        settings.check(path, raw, findings)?;
        Some(Self { settings, port: port?.or(self.port) })
    }

    pub(super) fn probe(self, first_sip_port: u16) -> Probe {
        let ms = |value: u32| Duration::from_millis(value.into());
        let Self { settings: Settings { confirm, rise, echo, .. }, .. } = self;
        Probe {
            interval: ms(self.settings.interval),
            standby_interval: ms(self.settings.standby_interval),
            timeout_min: ms(self.settings.timeout_min),
            timeout_max: ms(self.settings.timeout_max),
            confirm,
            confirm_gap: Duration::from_micros(self.settings.confirm_gap_us.into()),
            quiet: ms(self.settings.quiet),
            hang: ms(self.settings.hang),
            patience: ms(self.settings.patience),
            rise,
            echo,
            port: self.port.unwrap_or(first_sip_port),
        }
    }
}

impl Settings {
    /// The rules between keys. A finding is placed at a key that the table itself has.
    fn check(&self, path: &str, raw: &raw::Probe, findings: &mut Findings<'_>) -> Option<()> {
        if self.timeout_min <= self.timeout_max {
            return Some(());
        }
        let (name, value) = match (&raw.timeout_min_ms, &raw.timeout_max_ms) {
            (Some(value), _) => ("timeout_min_ms", value.span().start),
            (None, Some(value)) => ("timeout_max_ms", value.span().start),
            (None, None) => return Some(()),
        };
        let message = format!(
            "timeout_min_ms is {} and timeout_max_ms is {} here; the shortest cannot be above the longest",
            self.timeout_min, self.timeout_max
        );
        findings.add(&format!("{path}.{name}"), value, message);
        None
    }
}
