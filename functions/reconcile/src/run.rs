//! One run: what is asked, and what is found of each stock unit.

use serde::Deserialize;
use shared::domain::{Alert, ProductId, StockUnit};
use shared::function::Deps;
use shared::publishing::Bus;
use shared::store::Invocation;

use crate::ledger::Ledger;

/// What is asked.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ReconcileRequest {
    /// One product; none for all.
    pub(crate) product_id: Option<ProductId>,
    /// Whether gaps are filled and missed events sent again.
    #[serde(default)]
    pub(crate) republish: bool,
    /// How far back what may have been missed is sent again, in hours. None: as far as the ledger has gaps.
    pub(crate) since_hours: Option<u32>,
}

/// A stock unit as it was read first, and what its ledger says.
pub(crate) struct UnitState {
    pub(crate) unit: StockUnit,
    pub(crate) ledger: Ledger,
    /// Its level, and whether it was set now.
    pub(crate) level: Option<(Alert, bool)>,
}

/// One run.
pub(crate) struct Reconciliation<'a> {
    pub(crate) deps: &'a Deps,
    pub(crate) bus: &'a Bus,
    pub(crate) request: &'a ReconcileRequest,
    pub(crate) invocation: &'a Invocation,
}
