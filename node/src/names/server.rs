//! The name server of this node's containers.

use std::net::Ipv4Addr;
use std::time::Duration;

use hickory_server::net::runtime::Time;
use hickory_server::net::xfer::Protocol;
use hickory_server::proto::op::{Header, HeaderCounts, Message, Metadata, OpCode, ResponseCode};
use hickory_server::proto::rr::rdata::A;
use hickory_server::proto::rr::{Name, RData, Record, RecordType};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo, Server};
use hickory_server::zone_handler::MessageResponseBuilder;
use shoal_protocol::model::WorkloadName;
use shoal_protocol::model::name::DEFAULT_NAMESPACE;
use shoal_protocol::model::spec::is_alias;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{mpsc, oneshot};
use tracing::debug;

use super::book::{Ask, Goal, Question};
use super::upstream;

/// The suffix of workloads' names.
const ENDING: &str = "shoal";
/// Seconds for which an answer may be kept. An address is a workload's for as long as it is there.
const KEEP: u32 = 5;
/// Time that a connection of a container may be idle.
const IDLE: Duration = Duration::from_secs(10);
/// Answers that may wait to be written to a connection.
const BUFFERED: usize = 32;

/// A server over these sockets.
pub(super) fn server(
    asks: mpsc::Sender<Ask>,
    own: Ipv4Addr,
    udp: UdpSocket,
    tcp: TcpListener,
) -> Server<Handler> {
    let mut server = Server::new(Handler { asks, own });
    server.register_socket(udp);
    server.register_listener(tcp, IDLE, BUFFERED);
    server
}

pub(super) struct Handler {
    asks: mpsc::Sender<Ask>,
    own: Ipv4Addr,
}

/// The outcome for one question.
enum Found {
    /// A workload's address.
    Address(Ipv4Addr),
    /// The name is under `.shoal`, and no workload has it.
    Nothing,
    /// The name is none of ours.
    Foreign,
}

impl Handler {
    async fn look_up(&self, name: &Name) -> Result<Found, ()> {
        let text = name.to_ascii().to_ascii_lowercase();
        let goals = candidates(&text).into_iter().map(Question::Goal);
        for question in goals.chain(alias(&text)).chain(under(&text)) {
            let (answer, answered) = oneshot::channel();
            // Full: the container asks again.
            self.asks.try_send(Ask { question, answer }).map_err(drop)?;
            if let Some(address) = answered.await.map_err(drop)? {
                return Ok(Found::Address(address));
            }
        }
        let is_ours = text.trim_end_matches('.').rsplit('.').next() == Some(ENDING);
        Ok(if is_ours { Found::Nothing } else { Found::Foreign })
    }
}

/// The parts of a name. Names as Kubernetes has them, `NAME.NAMESPACE.svc`, also with
/// `cluster.local` behind it, end as ours.
fn labels(name: &str) -> Vec<&str> {
    let labels: Vec<&str> = name.trim_end_matches('.').split('.').collect();
    match labels[..] {
        [ref rest @ .., "svc", "cluster", "local"] | [ref rest @ .., "svc"]
            if matches!(rest.len(), 2 | 3) =>
        {
            [rest, &[ENDING]].concat()
        }
        _ => labels,
    }
}

/// One replica of a stateful workload: `NAME-ORDINAL`.
fn one(text: &str, namespace: &str) -> Option<Goal> {
    let (name, ordinal) = text.rsplit_once('-')?;
    // Each has one name: no zeros in front.
    let ordinal: u32 = ordinal.parse().ok().filter(|it: &u32| it.to_string() == ordinal)?;
    let workload = WorkloadName { namespace: namespace.parse().ok()?, name: name.parse().ok()? };
    Some(Goal { ordinal: Some(ordinal), ..Goal::any(workload) })
}

/// The goals that a name may mean, the most likely first: `NAME.NAMESPACE.shoal`, and the same with
/// a part left out. `NAME-ORDINAL` is one replica of a stateful workload, and `NAME-ORDINAL.NAME`
/// is, too, as Kubernetes has it. A container's resolver tries its own namespace first, by its
/// search list.
fn candidates(name: &str) -> Vec<Goal> {
    let labels = labels(name);
    let any = |name: &str, namespace: &str| {
        let workload =
            WorkloadName { namespace: namespace.parse().ok()?, name: name.parse().ok()? };
        Some(Goal::any(workload))
    };
    let of = |text: &str, name: &str, namespace: &str| {
        one(text, namespace).filter(|goal| goal.workload.name.as_str() == name)
    };
    let found = match labels[..] {
        [text, name, namespace, ENDING] => vec![of(text, name, namespace)],
        [text, rest, ENDING] => {
            vec![any(text, rest), one(text, rest), of(text, rest, DEFAULT_NAMESPACE)]
        }
        [text, ENDING] | [text] => {
            vec![any(text, DEFAULT_NAMESPACE), one(text, DEFAULT_NAMESPACE)]
        }
        [name, namespace] => vec![any(name, namespace), one(name, namespace)],
        _ => Vec::new(),
    };
    found.into_iter().flatten().collect()
}

/// The workload that a name may mean as a further name of it: `NAME.NAMESPACE.shoal`, as a
/// container's resolver asks by its search list, `NAME.NAMESPACE`, or `NAME.shoal`.
fn alias(name: &str) -> Option<Question> {
    let (name, namespace) = match labels(name)[..] {
        [name, namespace, ENDING] => (name, namespace),
        [name, ENDING] => (name, DEFAULT_NAMESPACE),
        [name, namespace] => (name, namespace),
        _ => return None,
    };
    let namespace = namespace.parse().ok().filter(|_| is_alias(name))?;
    Some(Question::Alias(namespace, name.to_owned()))
}

/// A replica under a further name of its workload, `NAME-ORDINAL.ALIAS.NAMESPACE.shoal`, as behind
/// a headless Service of Kubernetes.
fn under(name: &str) -> Option<Question> {
    let (text, name, namespace) = match labels(name)[..] {
        [text, name, namespace, ENDING] => (text, name, namespace),
        [text, name, ENDING] => (text, name, DEFAULT_NAMESPACE),
        _ => return None,
    };
    let goal = one(text, namespace).filter(|_| is_alias(name))?;
    Some(Question::Under(goal, name.to_owned()))
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut responses: R,
    ) -> ResponseInfo {
        let mut answer = Message::new(
            request.metadata.id,
            hickory_server::proto::op::MessageType::Response,
            request.metadata.op_code,
        );
        answer.metadata = Metadata::response_from_request(&request.metadata);
        answer.metadata.recursion_available = true;
        match request.request_info() {
            Ok(info) if request.metadata.op_code == OpCode::Query => {
                let query = info.query.original();
                match self.look_up(query.name()).await {
                    Ok(Found::Address(address)) => {
                        answer.metadata.authoritative = true;
                        // Other types have no records: it is no error to ask for them.
                        if matches!(query.query_type(), RecordType::A | RecordType::ANY) {
                            let data = RData::A(A(address));
                            answer.answers =
                                vec![Record::from_rdata(query.name().clone(), KEEP, data)];
                        }
                    }
                    Ok(Found::Nothing) => answer.metadata.response_code = ResponseCode::NXDomain,
                    Ok(Found::Foreign) => {
                        let over_tcp = request.protocol() == Protocol::Tcp;
                        match upstream::ask(request.as_slice(), self.own, over_tcp).await {
                            Ok(bytes) => match Message::from_vec(&bytes) {
                                Ok(told) => answer = told,
                                Err(_) => answer.metadata.response_code = ResponseCode::ServFail,
                            },
                            Err(error) => {
                                debug!("no name server answers for {}: {error}", query.name());
                                answer.metadata.response_code = ResponseCode::ServFail;
                            }
                        }
                    }
                    Err(()) => answer.metadata.response_code = ResponseCode::ServFail,
                }
            }
            Ok(_) => answer.metadata.response_code = ResponseCode::NotImp,
            Err(_) => answer.metadata.response_code = ResponseCode::FormErr,
        }
        let response = MessageResponseBuilder::from_message_request(request).build(
            answer.metadata,
            &answer.answers,
            &answer.authorities,
            &[],
            &answer.additionals,
        );
        match responses.send_response(response).await {
            Ok(info) => info,
            Err(error) => {
                debug!("a container got no answer: {error}");
                Header { metadata: answer.metadata, counts: HeaderCounts::default() }.into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_workloads_with_and_without_namespace() {
        let of = |text| candidates(text).first().map(|it| format!("{:?}", it.workload));
        assert_eq!(of("db.shop.shoal.").as_deref(), Some("shop/db"));
        assert_eq!(of("db.shoal.").as_deref(), Some("default/db"));
        assert_eq!(of("db.shop.svc.").as_deref(), Some("shop/db"));
        assert_eq!(of("db.shop.svc.cluster.local.").as_deref(), Some("shop/db"));
        assert_eq!(of("db.svc.").as_deref(), Some("svc/db"));
        assert_eq!(of("db.").as_deref(), Some("default/db"));
        assert_eq!(of("db.shop.").as_deref(), Some("shop/db"));
        for foreign in ["www.example.org.", ".", "a.b.c.shoal.", "_x._tcp.example.org."] {
            assert_eq!(of(foreign), None, "{foreign}");
        }
    }

    /// A name of Compose may have what a name of a workload cannot.
    #[test]
    fn further_names_are_asked_in_their_namespace() {
        let of = |text| match alias(text)? {
            Question::Alias(namespace, name) => Some(format!("{namespace}/{name}")),
            Question::Goal(_) | Question::Under(..) => None,
        };
        assert_eq!(of("immich_postgres.shop.shoal.").as_deref(), Some("shop/immich_postgres"));
        assert_eq!(of("my_db.shoal.").as_deref(), Some("default/my_db"));
        assert_eq!(of("front.shop.svc.").as_deref(), Some("shop/front"));
        assert_eq!(of("front.shop.svc.cluster.local.").as_deref(), Some("shop/front"));
        assert_eq!(of("my_db.shop.").as_deref(), Some("shop/my_db"));
        for none in ["my_db.", "www.example.org.", "_x._tcp.shop.shoal.", "a.b.c.shoal.", "shoal."]
        {
            assert_eq!(of(none), None, "{none}");
        }
    }

    #[test]
    fn replicas_are_asked_under_further_names() {
        let of = |text| match under(text)? {
            Question::Under(goal, name) => Some(format!("{goal} {name}")),
            Question::Goal(_) | Question::Alias(..) => None,
        };
        for text in ["db-1.peers.shop.shoal.", "db-1.peers.shop.svc.cluster.local."] {
            assert_eq!(of(text).as_deref(), Some("shop/db/1 peers"), "{text}");
        }
        for none in ["db.peers.shop.shoal.", "db-01.peers.shop.shoal.", "peers.shop.svc."] {
            assert_eq!(of(none), None, "{none}");
        }
    }

    /// A workload of the very name comes first; else the name is one replica's.
    #[test]
    fn names_mean_replicas_of_stateful_workloads() {
        let of = |text| {
            let all = candidates(text).into_iter();
            all.map(|goal| format!("{:?} {:?}", goal.workload, goal.ordinal)).collect::<Vec<_>>()
        };
        assert_eq!(of("db-1.db.shop.shoal."), ["shop/db Some(1)"]);
        assert_eq!(of("db-1.shop.shoal."), ["shop/db-1 None", "shop/db Some(1)"]);
        assert_eq!(of("db-1.db.shoal."), ["db/db-1 None", "db/db Some(1)", "default/db Some(1)"]);
        assert_eq!(of("db-1."), ["default/db-1 None", "default/db Some(1)"]);
        assert_eq!(of("my-db-12.my-db.shop.shoal."), ["shop/my-db Some(12)"]);
        for none in ["db-1.web.shop.shoal.", "db-01.db.shop.shoal.", "db-.db.shop.shoal."] {
            assert!(of(none).is_empty(), "{none}");
        }
        assert_eq!(of("db-01."), ["default/db-01 None"]);
    }
}
