//! The operator that asks, and what it may.

use std::collections::BTreeSet;

use http::StatusCode;
use shoal_protocol::model::{Chain, Namespaces, PublicKey, Role, codec};
use shoal_protocol::trust::{self, Authority, Fault, Genesis, Rejection};

use super::needs::{Need, Rank};
use crate::api::{ApiError, Service};
use crate::driver;

/// An operator whose grants were judged.
pub(super) struct Caller {
    /// Its name in its grant.
    pub name: String,
    /// Its key.
    pub key: PublicKey,
    /// Its grants.
    chain: Chain,
    right: Authority,
}

impl Caller {
    /// Judges what a key says of itself: its chain of grants.
    pub(super) async fn judge(
        service: &Service,
        key: PublicKey,
        chain: &[u8],
    ) -> Result<Caller, ApiError> {
        let chain: Chain = codec::decode(chain).map_err(|error| {
            refused(format!("the grants of key {} cannot be read: {error}", key.short()))
                .hint("Is one of the two programs of another version?")
        })?;
        let genesis = Genesis { root: service.about.root };
        let right =
            trust::authority(&genesis, &chain, key, None).map_err(|why| stranger(key, why))?;
        if matches!(right.role, Role::Inviter { .. } | Role::Admits(_)) {
            let why = format!("key {} is that of an invite, and no operator's", key.short());
            return Err(refused(why).hint(ASK));
        }
        let name = chain.peek().map_or_else(|| "root".to_owned(), |grant| grant.name);
        let caller = Caller { name, key, chain, right };
        caller.still_holds(service).await?;
        Ok(caller)
    }

    /// The name of its role.
    pub(super) fn role(&self) -> &'static str {
        self.right.role.name()
    }

    /// Where it has its role.
    pub(super) fn namespaces(&self) -> &Namespaces {
        &self.right.namespaces
    }

    /// Whether its rights hold at this moment.
    pub(super) async fn still_holds(&self, service: &Service) -> Result<(), ApiError> {
        self.not_ended(service)?;
        match service.core.ended(self.chain.clone(), self.key).await? {
            Some(key) => Err(self.revoked(service, key).await),
            None => Ok(()),
        }
    }

    /// Whether its rights have not ended by this node's clock.
    pub(super) fn not_ended(&self, service: &Service) -> Result<(), ApiError> {
        let now = driver::wall();
        let Some(ended) = self.right.expires.filter(|expires| now > *expires) else {
            return Ok(());
        };
        let (name, node) = (&self.name, service.about.node.short());
        let why = format!(
            "the rights of operator {name} ended at {ended}, and it is {now} at node {node}"
        );
        let key = self.key;
        Err(refused(why).hint(format!(
            "Nothing was done. An administrator renews them: `shoal operator add {name} --renew \
             {key}`; the file that it prints replaces the old one, with the same seed."
        )))
    }

    async fn revoked(&self, service: &Service, key: PublicKey) -> ApiError {
        let all = service.core.revoked().await.unwrap_or_default();
        let reason = all.iter().find(|it| it.key == key.to_string()).map(|it| it.why.clone());
        let reason = reason.filter(|it| !it.is_empty()).map(|it| format!(": {it}"));
        let (short, reason) = (key.short(), reason.unwrap_or_default());
        let why = match key == self.key {
            true => {
                format!("the rights of operator {} (key {short}) were revoked{reason}", self.name)
            }
            false => format!(
                "key {short}, which gave operator {} its rights, was revoked{reason}",
                self.name
            ),
        };
        refused(why).hint(format!(
            "Nothing was done. A revoked key stays revoked: an administrator can give a new one, \
             `shoal operator add {}`.",
            self.name
        ))
    }

    /// Whether it may do what takes `need`.
    pub(super) fn may(&self, need: &Need) -> Result<(), ApiError> {
        let own = Rank::of(&self.right.role);
        let here = match &need.namespace {
            Some(name) => name.parse().is_ok_and(|name| self.right.namespaces.has(&name)),
            None => !need.everywhere || self.right.namespaces == Namespaces::All,
        };
        // A name that is no label is refused by the route.
        let is_all = self.right.namespaces == Namespaces::All;
        if own >= need.rank && (here || (is_all && need.namespace.is_some())) {
            return Ok(());
        }
        let (name, role, held) = (&self.name, self.role(), &self.right.namespaces);
        let article = if role == "admin" { "an" } else { "a" };
        let why = format!("operator {name} is {article} {role} in {held}, and this takes {need}");
        // The new rights have the old ones in them; some requests need the whole cluster.
        let role = need.rank.max(own).name();
        let mut wanted: BTreeSet<String> = match held {
            Namespaces::All => BTreeSet::new(),
            Namespaces::Only(only) => only.iter().map(ToString::to_string).collect(),
        };
        wanted.extend(need.namespace.clone());
        let (wanted, scope) = match is_all || need.everywhere {
            true => (BTreeSet::new(), ", for all namespaces"),
            false => (wanted, ""),
        };
        let only: String = wanted.iter().map(|it| format!(" --namespace {it}")).collect();
        Err(refused(why).hint(format!(
            "Nothing was done. An administrator can give it{scope}: `shoal operator add {name} \
             --role {role}{only} --renew {}`; the file that it prints replaces this one.",
            self.key
        )))
    }
}

const ASK: &str = "Use the file that `shoal operator add` printed: as operator.json in ~/.config/\
    shoal, or with --key FILE, --config DIR or a context (`shoal context add`).";

fn refused(why: String) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, "not-allowed", why)
}

fn stranger(key: PublicKey, why: Rejection) -> ApiError {
    let short = key.short();
    match why {
        Rejection::Never(Fault::Stranger(_)) => {
            refused(format!("key {short} has no rights in this cluster: it shows no grant"))
                .hint(ASK)
        }
        why => refused(format!("the grants of key {short} do not hold: {why}")).hint(ASK),
    }
}
