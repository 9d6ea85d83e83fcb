//! Writes and reads the few DNS messages that the protocol needs.
//!
//! ```text
//!   question      PTR _<name>._sub._shoal._tcp.local     all members
//!                 TXT <member>._shoal._tcp.local         one
//!   announcement  PTR _<name>._sub._shoal._tcp.local  ->  <member>._shoal._tcp.local
//!                 TXT <member>._shoal._tcp.local      ->  n=<node id>  a=<ip:port>..  m=<MAC>
//! ```
//!
//! Other messages on the port are skipped; no input can make this fail.

use std::net::SocketAddr;

use shoal_protocol::model::NodeId;

use super::secret::Secret;
use super::{MAX_ADDRESSES, MAX_MISSING};

const PTR: u16 = 12;
const TXT: u16 = 16;
const IN: u16 = 1;
/// The cache-flush bit: the record replaces cached ones of its name.
const FLUSH: u16 = 0x8000;
const RESPONSE: u16 = 0x8400;
/// Seconds for which others may cache a record.
const TTL: u32 = 120;
/// Questions and records that are read of a message. Ours have two; other programs' may have more.
const MAX_ENTRIES: u16 = 64;
/// Compression pointers that are followed in one name.
const MAX_JUMPS: usize = 8;
/// Bytes of a name, by RFC 1035.
const MAX_NAME: usize = 255;
/// Hexadecimal digits of a node's id in its label, which may have at most 63 bytes.
const LABEL: usize = 40;
const SERVICE: [&str; 3] = ["_shoal", "_tcp", "local"];

/// A question of a member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Question {
    /// All members shall announce themselves.
    All,
    /// The member with this label shall announce itself.
    One(String),
}

/// The content of a packet that concerns this cluster.
#[derive(Default, PartialEq, Eq, Debug)]
pub(super) struct Parsed {
    pub questions: Vec<Question>,
    /// Members and their addresses. Their MAC was right.
    pub announced: Vec<(NodeId, Vec<SocketAddr>)>,
}

/// The DNS label of a node.
pub(super) fn label(node: &NodeId) -> String {
    node.to_string().chars().take(LABEL).collect()
}

/// A question for these members, or for all when there are none.
pub(super) fn question(secret: &Secret, nodes: &[NodeId]) -> Vec<u8> {
    let count = nodes.len().clamp(1, MAX_MISSING);
    let mut packet = header(0, count, 0);
    if nodes.is_empty() {
        put_name(&mut packet, &all_of(secret));
        put(&mut packet, PTR);
        put(&mut packet, IN);
    }
    for node in nodes.iter().take(MAX_MISSING) {
        put_name(&mut packet, &one_of(&label(node)));
        put(&mut packet, TXT);
        put(&mut packet, IN);
    }
    packet
}

/// An announcement of a node's addresses.
pub(super) fn announcement(secret: &Secret, node: &NodeId, addresses: &[SocketAddr]) -> Vec<u8> {
    let label = label(node);
    let addresses: Vec<String> =
        addresses.iter().take(MAX_ADDRESSES).map(SocketAddr::to_string).collect();
    let mut packet = header(RESPONSE, 0, 2);
    let mut target = Vec::new();
    put_name(&mut target, &one_of(&label));
    put_record(&mut packet, &all_of(secret), PTR, IN, &target);
    let mac = format!("m={}", secret.mac(node, &addresses));
    let mut text = Vec::new();
    let addresses = addresses.iter().map(|address| format!("a={address}"));
    for string in std::iter::once(format!("n={node}")).chain(addresses).chain([mac]) {
        put_string(&mut text, string.as_bytes());
    }
    put_record(&mut packet, &one_of(&label), TXT, IN | FLUSH, &text);
    packet
}

fn all_of(secret: &Secret) -> Vec<&str> {
    [secret.name.as_str(), "_sub"].into_iter().chain(SERVICE).collect()
}

fn one_of(label: &str) -> Vec<&str> {
    std::iter::once(label).chain(SERVICE).collect()
}

fn header(flags: u16, questions: usize, answers: usize) -> Vec<u8> {
    let count = |count: usize| u16::try_from(count).expect("a few");
    let mut packet = Vec::with_capacity(512);
    for field in [0, flags, count(questions), count(answers), 0, 0] {
        put(&mut packet, field);
    }
    packet
}

fn put(packet: &mut Vec<u8>, field: u16) {
    packet.extend(field.to_be_bytes());
}

fn put_string(packet: &mut Vec<u8>, bytes: &[u8]) {
    packet.push(u8::try_from(bytes.len()).expect("ours are shorter than 256 bytes"));
    packet.extend(bytes);
}

fn put_name(packet: &mut Vec<u8>, labels: &[&str]) {
    labels.iter().for_each(|label| put_string(packet, label.as_bytes()));
    packet.push(0);
}

fn put_record(packet: &mut Vec<u8>, name: &[&str], kind: u16, class: u16, data: &[u8]) {
    put_name(packet, name);
    put(packet, kind);
    put(packet, class);
    packet.extend(TTL.to_be_bytes());
    put(packet, u16::try_from(data.len()).expect("a few hundred bytes"));
    packet.extend(data);
}

/// Reads a packet; none when it is no complete DNS message.
pub(super) fn read(packet: &[u8], secret: &Secret) -> Option<Parsed> {
    let mut reader = Reader { packet, at: 2 };
    let is_response = reader.u16()? & 0x8000 != 0;
    let counts = [reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?];
    let [questions, answers, authorities, additionals] = counts;
    let records = answers.saturating_add(authorities).saturating_add(additionals);
    let mut parsed = Parsed::default();
    for _ in 0..questions.min(MAX_ENTRIES) {
        let (name, kind, _) = (reader.name()?, reader.u16()?, reader.u16()?);
        if is_response {
            continue;
        }
        if kind == PTR && is_same(&name, &all_of(secret)) {
            parsed.questions.push(Question::All);
        } else if kind == TXT
            && let Some((label, service)) = name.split_first()
            && is_same(service, &SERVICE)
        {
            parsed.questions.push(Question::One(label.to_ascii_lowercase()));
        }
    }
    for _ in 0..records.min(MAX_ENTRIES).min(if questions > MAX_ENTRIES { 0 } else { u16::MAX }) {
        let (name, kind, _) = (reader.name()?, reader.u16()?, reader.u16()?);
        reader.skip(4)?;
        let length = reader.u16()?;
        let data = reader.bytes(usize::from(length))?;
        let is_ours = name.split_first().is_some_and(|(_, service)| is_same(service, &SERVICE));
        if is_response && kind == TXT && is_ours && parsed.announced.len() < MAX_MISSING {
            parsed.announced.extend(read_text(data, secret));
        }
    }
    Some(parsed)
}

fn read_text(mut data: &[u8], secret: &Secret) -> Option<(NodeId, Vec<SocketAddr>)> {
    let (mut node, mut mac, mut addresses) = (None, None, Vec::new());
    while let Some((length, rest)) = data.split_first() {
        let (string, after) = rest.split_at_checked(usize::from(*length))?;
        data = after;
        match std::str::from_utf8(string).ok()?.split_once('=')? {
            ("n", text) => node = text.parse::<NodeId>().ok(),
            ("m", text) => mac = Some(text),
            ("a", text) if addresses.len() < MAX_ADDRESSES => addresses.push(text.to_owned()),
            ("a", _) => return None,
            _ => {} // fields of a newer program; the MAC covers the known ones
        }
    }
    let node = node?;
    if !secret.is_mac(mac?, &node, &addresses) {
        return None;
    }
    let parsed = addresses.iter().filter_map(|address| address.parse().ok());
    Some((node, parsed.collect()))
}

fn is_same(name: &[String], labels: &[&str]) -> bool {
    name.len() == labels.len()
        && name.iter().zip(labels).all(|(one, other)| one.eq_ignore_ascii_case(other))
}

struct Reader<'a> {
    packet: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let bytes = self.packet.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(bytes)
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.bytes(count).map(drop)
    }

    fn u16(&mut self) -> Option<u16> {
        self.bytes(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// The labels of a name. Pointers lead only backwards, and only [`MAX_JUMPS`] are followed.
    fn name(&mut self) -> Option<Vec<String>> {
        let (mut labels, mut total) = (Vec::new(), 0);
        let mut after = None;
        for _ in 0..=MAX_JUMPS {
            loop {
                let length = *self.bytes(1)?.first()?;
                match length {
                    0 => {
                        self.at = after.unwrap_or(self.at);
                        return Some(labels);
                    }
                    1..=63 => {
                        let label = self.bytes(usize::from(length))?;
                        total += label.len() + 1;
                        if total > MAX_NAME {
                            return None;
                        }
                        labels.push(String::from_utf8_lossy(label).into_owned());
                    }
                    0xc0.. => {
                        let low = *self.bytes(1)?.first()?;
                        let target = (usize::from(length & 0x3f) << 8) | usize::from(low);
                        if target >= self.at - 2 {
                            return None;
                        }
                        after = after.or(Some(self.at));
                        self.at = target;
                        break;
                    }
                    _ => return None,
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId([0xab; 32]);

    fn secret() -> Secret {
        Secret::new(&[1; 32])
    }

    fn addresses() -> Vec<SocketAddr> {
        vec!["10.0.0.1:7700".parse().unwrap(), "[2001:db8::1]:7700".parse().unwrap()]
    }

    /// Members of a cluster read one another's packets, which stay small.
    #[test]
    fn members_understand_announcements_and_questions() {
        let parsed = read(&announcement(&secret(), &NODE, &addresses()), &secret()).unwrap();
        assert_eq!(parsed, Parsed { questions: vec![], announced: vec![(NODE, addresses())] });
        let all = read(&question(&secret(), &[]), &secret()).unwrap();
        assert_eq!(all.questions, [Question::All]);
        let one = read(&question(&secret(), &[NODE]), &secret()).unwrap();
        assert_eq!(one.questions, [Question::One(label(&NODE))]);
        assert!(one.questions[0].is_for(&NODE) && !one.questions[0].is_for(&NodeId([1; 32])));
        assert!(announcement(&secret(), &NODE, &addresses()).len() < 400, "rest is cheap");
    }

    /// Two clusters on one network do not answer or dial one another.
    #[test]
    fn packets_of_another_cluster_are_ignored() {
        let other = Secret::new(&[2; 32]);
        let parsed = read(&announcement(&other, &NODE, &addresses()), &secret()).unwrap();
        assert_eq!(parsed, Parsed::default());
        assert_eq!(read(&question(&other, &[]), &secret()).unwrap(), Parsed::default());
        assert!(!secret().name.contains("0101"), "the name does not show the secret");
    }

    /// A stranger on the network can copy an announcement and alter it.
    #[test]
    fn altered_announcement_is_ignored() {
        let packet = announcement(&secret(), &NODE, &addresses());
        let mut accepted = 0;
        for at in 0..packet.len() {
            for bit in [1, 0x10, 0x80] {
                let mut altered = packet.clone();
                altered[at] ^= bit;
                let announced =
                    read(&altered, &secret()).map(|parsed| parsed.announced).unwrap_or_default();
                // Fields outside the MAC (identifiers, counts, TTLs, names) change nothing in the
                // result.
                assert!(
                    announced.iter().all(|(node, at)| *node == NODE && *at == addresses()),
                    "byte {at}"
                );
                accepted += announced.len();
            }
        }
        assert!(accepted > 0, "unaltered fields are accepted");
    }

    #[test]
    fn compressed_names_are_read_and_loops_end() {
        // A reflector between two networks compresses names: the service's name once, then pointers
        // to it.
        let mut packet = header(0, 2, 0);
        put_name(&mut packet, &all_of(&secret()));
        put(&mut packet, PTR);
        put(&mut packet, IN);
        let service = 12 + 1 + secret().name.len() + 1 + "_sub".len();
        put_string(&mut packet, label(&NODE).as_bytes());
        put(&mut packet, 0xc000 | u16::try_from(service).unwrap());
        put(&mut packet, TXT);
        put(&mut packet, IN);
        let parsed = read(&packet, &secret()).unwrap();
        assert_eq!(parsed.questions, [Question::All, Question::One(label(&NODE))]);
        let mut looped = header(0, 1, 0);
        put(&mut looped, 0xc00c);
        assert_eq!(read(&looped, &secret()), None);
    }

    /// Anybody on the network can send packets; none may panic the reader.
    #[test]
    fn truncated_or_random_packets_are_ignored() {
        let packet = announcement(&secret(), &NODE, &addresses());
        for length in 0..packet.len() {
            assert!(
                read(&packet[..length], &secret()).is_none_or(|parsed| parsed.announced.is_empty())
            );
        }
        let mut state = 7u32;
        for _ in 0..20_000 {
            let mut random = packet.clone();
            for _ in 0..4 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = state as usize % random.len();
                random[at] = (state >> 24) as u8;
            }
            let _ = read(&random, &secret());
        }
    }
}
