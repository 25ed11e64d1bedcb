//! One reconciliation: its request, and the state of each stock unit.

use serde::Deserialize;
use shared::domain::{Alert, ProductId, StockUnit};
use shared::function::Deps;
use shared::publishing::Bus;
use shared::store::Invocation;

use crate::ledger::Ledger;

/// The event that the function is called with.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ReconcileRequest {
    /// One product; none for all.
    pub(crate) product_id: Option<ProductId>,
    /// Whether gaps are filled and missed events sent again.
    #[serde(default)]
    pub(crate) republish: bool,
    /// For how many hours back events are sent again. None: as far back as the ledger has gaps.
    pub(crate) since_hours: Option<u32>,
}

/// A stock unit as it was read first, with its ledger.
pub(crate) struct UnitState {
    pub(crate) unit: StockUnit,
    pub(crate) ledger: Ledger,
    /// Its level, and whether it was set now.
    pub(crate) level: Option<(Alert, bool)>,
}

/// One reconciliation.
pub(crate) struct Reconciliation<'a> {
    pub(crate) deps: &'a Deps,
    pub(crate) bus: &'a Bus,
    pub(crate) request: &'a ReconcileRequest,
    pub(crate) invocation: &'a Invocation,
}
