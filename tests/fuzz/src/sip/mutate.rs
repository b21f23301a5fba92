//! Changes to a message that mean something in SIP.

/// What is put in, or in the place of something.
const PIECES: [&[u8]; 41] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n ",
    b"\n\t",
    b" ",
    b"\t",
    b"        ",
    b"\r\n\r\n",
    b"\n\n",
    b":",
    b";",
    b"=",
    b"\"",
    b"\\",
    b"<",
    b">",
    b";tag=",
    b"; TAG\r\n =",
    b";tag",
    b"tag=x",
    b"\r\nTo:",
    b"\nt :",
    b"\r\nCall-ID:",
    b"\ni\t:",
    b"\r\nCALL-ID : a@b\r\n",
    b"\r\ni:\r\n x\r\n",
    b"\nTo: <a;tag=1>\n",
    b"\nt: \"\\\";tag=2\\\\\" <b>;tag=3\n",
    b"To",
    b"Call-ID",
    b"BYE ",
    b"ACK ",
    b"CANCEL ",
    b"SIP/2.0 100 ",
    b"sip/2.0 200 ",
    b"\0",
    b"\x0b",
    b"\x1f",
    b"\xff",
    b"\x80",
];

/// Makes one to four changes, chosen by a random number: a piece put in or over something, a byte changed, a range left out or
/// doubled.
pub fn mutate(message: &mut Vec<u8>, mut random: u64) {
    for _ in 0..=random >> 62 {
        change(message, random);
        random = random.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
    }
}

fn change(message: &mut Vec<u8>, random: u64) {
    let below = |bits: u32, limit: usize| (random >> bits) as usize % limit.max(1);
    let at = below(0, message.len() + 1);
    let piece = PIECES[below(16, PIECES.len())];
    let some = below(24, 12).min(message.len() - at);
    match below(32, 8) {
        0..=2 => drop(message.splice(at..at, piece.iter().copied())),
        3 | 4 => drop(message.splice(at..at + some, piece.iter().copied())),
        5 => drop(message.drain(at..at + some)),
        6 => {
            let twice = message[at..at + below(40, 200).min(message.len() - at)].to_vec();
            message.splice(at..at, twice);
        }
        _ => {
            if let Some(byte) = message.get_mut(at) {
                *byte = (random >> 48) as u8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_any_length_is_changed_in_length_and_in_every_place() {
        let message = b"INVITE sip:a SIP/2.0\nTo: b\n".to_vec();
        let mut reached = vec![false; message.len()];
        for random in (0..u64::MAX).step_by(u64::MAX as usize / 5000) {
            let mut changed = message.clone();
            mutate(&mut changed, random);
            let first = changed.iter().zip(&message).position(|(changed, before)| changed != before);
            first.into_iter().for_each(|place| reached[place] = true);
            mutate(&mut Vec::new(), random);
        }
        assert!(reached.iter().all(|reached| *reached), "{reached:?}");
    }
}
