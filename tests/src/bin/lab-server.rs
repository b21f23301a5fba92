//! The lab's SIP/RTP server as a program. Prints `ready` when every socket is open and serves until it is killed.

use std::{net::IpAddr, ops::RangeInclusive, path::PathBuf, thread};

use anyhow::Result;
use clap::Parser;
use lab::server::{Config, Server};

/// SIP over UDP (REGISTER, OPTIONS, INVITE, ACK, BYE, CANCEL) and an RTP echo on every even port of a range.
#[derive(Debug, Parser)]
struct Arguments {
    /// Address to listen on and to send from. Given again, there is another server at another address.
    #[arg(long, required = true)]
    address: Vec<IpAddr>,
    /// Address in Contact headers and session descriptions, one for each of those [default: the same ones].
    #[arg(long)]
    advertise: Vec<IpAddr>,
    #[arg(long, default_value_t = 5060)]
    sip_port: u16,
    /// First and last RTP port; the even ones are opened.
    #[arg(long, default_value = "10000-10999", value_parser = ports)]
    rtp_ports: RangeInclusive<u16>,
    /// Name in the stamps of echoed packets, at most 15 bytes.
    #[arg(long, default_value = "server")]
    name: String,
    /// Status of the answer to OPTIONS.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(200..700))]
    options_status: u16,
    /// While this file exists, OPTIONS are answered by 503.
    #[arg(long)]
    maintenance: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let advertised = arguments.advertise.into_iter().map(Some).chain(std::iter::repeat(None));
    let open = |(address, advertise): (IpAddr, Option<IpAddr>)| {
        Server::open(&Config {
            address,
            advertise: advertise.unwrap_or(address),
            sip_port: arguments.sip_port,
            rtp_ports: arguments.rtp_ports.clone(),
            name: arguments.name.clone(),
            options_status: arguments.options_status,
            maintenance: arguments.maintenance.clone(),
        })
    };
    let mut servers = arguments.address.into_iter().zip(advertised).map(open).collect::<Result<Vec<_>>>()?;
    println!("ready");
    let mut first = servers.remove(0);
    for mut other in servers {
        thread::spawn(move || {
            if let Err(error) = other.run() {
                eprintln!("{error:#}");
                std::process::exit(1);
            }
        });
    }
    first.run()
}

fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let range = text.split_once('-').and_then(|(first, last)| Some(first.parse().ok()?..=last.parse().ok()?));
    range.filter(|range| !range.is_empty()).ok_or_else(|| "expected FIRST-LAST".to_owned())
}
