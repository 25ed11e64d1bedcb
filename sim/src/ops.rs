//! What the shop, its people and its machines do in a run.

use fastrand::Rng;
use serde_json::{Value, json};
use shared::domain::{
    Action, Command, DeliveredLines, Delivery, Fact, Heard, LineKey, Location, OrderId, OrderLines, Ordered,
    ProductId, Quantity, Reason, ReservationId, Shipment, ShipmentId, Target, Timestamp, UnitKey,
};

/// Products and quantities.
pub type Lines = Vec<(String, u64)>;

/// How long a hold lasts unless its request says otherwise, in seconds.
pub const DEFAULT_TTL: u64 = 900;

/// Something that somebody does at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    /// Its number in the run.
    pub id: u32,
    /// When, in milliseconds after the beginning.
    pub at: u64,
    /// What.
    pub kind: Kind,
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A client asks something of an order's reservation.
    Ask(String, Ask),
    /// An operator changes stock.
    Stock(String, Change),
    /// An event says something of an order.
    Tell {
        /// The order.
        order: String,
        /// The fact.
        fact: Fact,
        /// Its lines; a delivery may have none.
        lines: Lines,
        /// The shipment that a delivery is of.
        shipment: Option<&'static str>,
        /// How often it is sent.
        copies: u32,
    },
    /// The sweep runs: one pass, or one every so many seconds for as long as it may take.
    Sweep(Option<u64>),
    /// The publisher takes what the stream has.
    Publish,
}

/// What is asked of a reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Hold.
    Reserve(Lines, Option<u64>),
    /// Keep.
    Confirm,
    /// Give back.
    Release(&'static str),
    /// Let leave: all, or a part.
    Deduct(Option<Lines>),
    /// Hold for longer.
    Extend(u64),
}

/// What is done to stock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It begins, with a purchase limit.
    Create(u64, Option<u64>),
    /// More.
    Add(u64),
    /// More or less.
    Adjust(i64),
    /// So much was counted.
    Audit(u64),
    /// One order may hold so many, or as many as it likes.
    Update(Option<u64>),
}

/// An HTTP request.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method.
    pub method: &'static str,
    /// The route, without its base.
    pub path: &'static str,
    /// The product in the path, where the route has one.
    pub product: Option<String>,
    /// The body.
    pub body: Value,
}

impl Request {
    fn post(path: &'static str, body: Value) -> Self {
        Self { method: "POST", path, product: None, body }
    }
}

fn items(lines: &Lines) -> Value {
    lines.iter().map(|(product, quantity)| json!({"productId": product, "quantity": quantity})).collect()
}

impl Ask {
    /// As a client sends it.
    #[must_use]
    pub fn request(&self, order: &str) -> Request {
        let mut body = json!({"orderId": order});
        let path = match self {
            Self::Reserve(lines, ttl) => {
                body["items"] = items(lines);
                if let Some(ttl) = ttl {
                    body["ttlSeconds"] = (*ttl).into();
                }
                "/reserve"
            }
            Self::Confirm => "/confirm",
            Self::Release(reason) => {
                body["reason"] = (*reason).into();
                "/release"
            }
            Self::Deduct(part) => {
                if let Some(part) = part {
                    body["items"] = items(part);
                }
                "/deduct"
            }
            Self::Extend(ttl) => {
                body["ttlSeconds"] = (*ttl).into();
                "/extend"
            }
        };
        Request::post(path, body)
    }

    /// The same for `decide`, at a moment.
    #[must_use]
    pub fn action(&self, now: Timestamp) -> Action {
        match self {
            Self::Reserve(lines, ttl) => Action::Reserve {
                lines: order_lines(lines),
                expires_at: Some(after(now, ttl.unwrap_or(DEFAULT_TTL))),
            },
            Self::Confirm => Action::Confirm,
            Self::Release(reason) => Action::Release { reason: parsed(Reason::parse(*reason)) },
            Self::Deduct(part) => Action::Deduct {
                part: part.as_ref().map(|lines| Shipment { id: None, lines: order_lines(lines) }),
            },
            Self::Extend(ttl) => Action::Extend { expires_at: after(now, *ttl) },
        }
    }
}

impl Change {
    /// As an operator sends it.
    #[must_use]
    pub fn request(&self, product: &str) -> Request {
        let body = json!({"productId": product});
        let with = |name: &str, value: Value| {
            let mut body = body.clone();
            body[name] = value;
            body
        };
        match self {
            Self::Create(available, limit) => {
                let mut body = with("quantity", (*available).into());
                if let Some(limit) = limit {
                    body["maxPerOrder"] = (*limit).into();
                }
                Request::post("/", body)
            }
            Self::Add(quantity) => Request::post("/add", with("quantity", (*quantity).into())),
            Self::Adjust(by) => {
                let mut body = with("quantity", (*by).into());
                body["reason"] = "count".into();
                Request::post("/adjust", body)
            }
            Self::Audit(counted) => Request::post("/audit", with("quantity", (*counted).into())),
            Self::Update(limit) => Request {
                method: "PATCH",
                path: "/{productId}",
                product: Some(product.to_owned()),
                body: json!({"maxPerOrder": limit}),
            },
        }
    }

    /// Its name in the ledger.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Create(..) => "create",
            Self::Add(_) => "add",
            Self::Adjust(_) => "adjust",
            Self::Audit(_) => "audit",
            Self::Update(_) => "update",
        }
    }
}

/// A text of the simulation's own, which is valid.
fn parsed<T>(value: Result<T, shared::domain::Invalid>) -> T {
    value.unwrap_or_else(|invalid| unreachable!("the simulation names things rightly: {invalid}"))
}

fn after(now: Timestamp, seconds: u64) -> Timestamp {
    now.checked_add(std::time::Duration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

/// Lines as the domain takes them.
#[must_use]
pub fn order_lines(lines: &Lines) -> OrderLines {
    parsed(OrderLines::sum(lines.iter().map(|(product, quantity)| {
        let key = LineKey { product: parsed(ProductId::parse(product)), location: Location::default() };
        (key, parsed(Quantity::new(*quantity)))
    })))
}

/// The lines of a delivery as the domain takes them.
#[must_use]
pub fn delivered_lines(lines: &Lines) -> DeliveredLines {
    parsed(DeliveredLines::sum(lines.iter().map(|(product, quantity)| {
        (parsed(ProductId::parse(product)), None, parsed(Quantity::new(*quantity)))
    })))
}

/// What a delivery with these lines says.
#[must_use]
pub fn delivery(lines: &Lines, shipment: Option<&str>) -> Delivery {
    match shipment.map(|id| parsed(ShipmentId::parse(id))) {
        _ if lines.is_empty() => Delivery::All,
        Some(id) => Delivery::Shipment(id, delivered_lines(lines)),
        None => Delivery::Total(delivered_lines(lines)),
    }
}

/// The stock unit of a product.
#[must_use]
pub fn unit(product: &str) -> UnitKey {
    UnitKey { product: parsed(ProductId::parse(product)), location: Location::default(), bucket: 0 }
}

/// The id of an order's reservation.
#[must_use]
pub fn reservation_id(order: &str) -> ReservationId {
    ReservationId::of(&parsed(OrderId::parse(order)))
}

/// The body of an order event.
#[must_use]
pub fn event(correlation: &str, order: &str, fact: Fact, lines: &Lines, shipment: Option<&str>) -> Value {
    let name = match fact {
        Fact::Created => "OrderCreated",
        Fact::PaymentFailed => "PaymentFailed",
        Fact::Paid => "PaymentSucceeded",
        Fact::Cancelled => "OrderCancelled",
        Fact::Delivered => "OrderDelivered",
    };
    let mut event = json!({"eventType": name, "orderId": order, "correlationId": correlation});
    if matches!(fact, Fact::Created | Fact::Delivered) {
        event["items"] = items(lines);
    }
    if let Some(shipment) = shipment {
        event["shipmentId"] = shipment.into();
    }
    event
}

impl Op {
    /// What it makes of a reservation, for `decide`: as the try or message with this correlation id did it at
    /// a moment.
    #[must_use]
    pub fn command(&self, correlation_id: &str, now: Timestamp) -> Option<Command> {
        let (order, action) = match &self.kind {
            Kind::Ask(order, ask) => (order, ask.action(now)),
            Kind::Tell { order, fact, lines, shipment, .. } => {
                let heard = match fact {
                    Fact::Created => Heard::Created(Ordered::Lines(order_lines(lines))),
                    Fact::PaymentFailed => Heard::PaymentFailed,
                    Fact::Paid => Heard::Paid,
                    Fact::Cancelled => Heard::Cancelled,
                    Fact::Delivered => Heard::Delivered(delivery(lines, *shipment)),
                };
                let expires_at = Some(after(now, DEFAULT_TTL));
                (order, Action::Hear { heard, expires_at })
            }
            Kind::Stock(..) | Kind::Sweep(_) | Kind::Publish => return None,
        };
        let target = Target::Order(parsed(OrderId::parse(order)));
        Some(Command { target, correlation_id: correlation_id.to_owned(), action })
    }
}

/// What an order asks for: always the same.
#[must_use]
pub fn lines_of(seed: u64, order: u32, products: &[String]) -> Lines {
    let mut rng = crate::faults::source(seed, "lines", order);
    let mut products = products.to_vec();
    rng.shuffle(&mut products);
    let count = if rng.u8(0..10) < 6 { 1 } else { rng.usize(1..=products.len()) };
    products.into_iter().take(count).map(|product| (product, rng.u64(1..=4))).collect()
}

/// The operations of a run.
#[must_use]
pub fn random(seed: u64, count: u32, products: &[String]) -> Vec<Op> {
    let mut rng = crate::faults::source(seed, "operations", 0);
    let span = u64::from(count) * rng.u64(40..500);
    let mut ops: Vec<Op> = (0..count)
        .map(|id| {
            let at = rng.u64(0..span);
            // Orders come one after the other, so that what concerns one order comes close together.
            let newest = u32::try_from(at * u64::from(count / 4 + 1) / span).unwrap_or(0);
            let order = newest.saturating_sub(rng.u32(0..6).saturating_sub(2));
            Op { id, at, kind: kind(&mut rng, seed, order, products) }
        })
        .collect();
    let more = |ops: &mut Vec<Op>, rng: &mut Rng, kind: Kind, times: u32| {
        for _ in 0..times {
            let id = u32::try_from(ops.len()).unwrap_or(u32::MAX);
            ops.push(Op { id, at: rng.u64(0..span + 10_000), kind: kind.clone() });
        }
    };
    let sweeps = rng.u32(1..4);
    more(&mut ops, &mut rng, Kind::Sweep(None), sweeps);
    if let Some(sweep) = ops.last().cloned().filter(|_| rng.bool()) {
        // Two at once.
        ops.push(Op { id: sweep.id + 1, at: sweep.at + rng.u64(0..30), kind: Kind::Sweep(None) });
    }
    if let Some(Op { kind, .. }) =
        ops.last_mut().filter(|_| crate::faults::source(seed, "passes", 0).u8(0..4) == 0)
    {
        *kind = Kind::Sweep(Some(10));
    }
    more(&mut ops, &mut rng, Kind::Publish, 6);
    ops
}

/// What was ordered, a part of it, more of it, something else, or no lines; in one or in several shipments.
fn some_delivery(rng: &mut Rng, mut lines: Lines, other: &str) -> (Lines, Option<&'static str>) {
    match rng.u8(0..8) {
        0 | 1 => return (Vec::new(), None),
        2 => {}
        3 => lines[0].1 += 1,
        4 => lines.push((other.to_owned(), 1)),
        _ => {
            lines.truncate(rng.usize(1..=lines.len()));
            let last = lines.len() - 1;
            lines[last].1 = rng.u64(1..=lines[last].1);
        }
    }
    let shipments = ["s-1", "s-2", "s-3"];
    (lines, rng.bool().then(|| shipments[rng.usize(0..3)]))
}

fn kind(rng: &mut Rng, seed: u64, order: u32, products: &[String]) -> Kind {
    let name = format!("order-{order}");
    let mut lines = lines_of(seed, order, products);
    let product = products[rng.usize(0..products.len())].clone();
    let ttl = |rng: &mut Rng| if rng.u8(0..4) == 0 { 600 } else { rng.u64(1..40) };
    // Orders come by HTTP, as events, or both ways.
    let style = crate::faults::source(seed, "style", order).u8(0..4);
    match rng.u32(0..100) {
        0..26 if style > 0 => {
            if rng.u8(0..20) == 0 {
                lines[0].1 += 1;
            }
            if lines[0].1 > 1 && rng.u8(0..6) == 0 {
                // The same in two lines.
                lines[0].1 -= 1;
                lines.push((lines[0].0.clone(), 1));
            }
            let ttl = rng.bool().then(|| ttl(rng));
            Kind::Ask(name, Ask::Reserve(lines, ttl))
        }
        26..38 if style > 0 => Kind::Ask(name, Ask::Confirm),
        38..46 if style > 0 => {
            let reasons = ["requested", "payment_failed", "order_cancelled"];
            Kind::Ask(name, Ask::Release(reasons[rng.usize(0..3)]))
        }
        46..54 if style > 0 => {
            lines[0].1 = rng.u64(1..=lines[0].1);
            lines.truncate(1);
            Kind::Ask(name, Ask::Deduct(rng.bool().then_some(lines)))
        }
        54..59 if style > 0 => Kind::Ask(name, Ask::Extend(ttl(rng))),
        59..68 => Kind::Stock(product, Change::Add(rng.u64(1..6))),
        68..73 => {
            let by = i64::try_from(rng.u64(1..5)).unwrap_or(1);
            Kind::Stock(product, Change::Adjust(if rng.bool() { by } else { -by }))
        }
        73..76 => Kind::Stock(product, Change::Audit(rng.u64(0..25))),
        _ => {
            let facts = if rng.u8(0..3) == 0 { &Fact::ALL[..] } else { &[Fact::Created, Fact::Paid] };
            let fact = facts[rng.usize(0..facts.len())];
            if fact == Fact::Created && rng.u8(0..20) == 0 {
                lines[0].1 += 1;
            }
            let mut shipment = None;
            if fact == Fact::Delivered {
                (lines, shipment) = some_delivery(rng, lines, &product);
            }
            let copies = if rng.bool() { 1 } else { rng.u32(1..=3) };
            Kind::Tell { order: name, fact, lines, shipment, copies }
        }
    }
}
