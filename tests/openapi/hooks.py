"""What openapi.yaml cannot say in JSON Schema, and so must be said here. Each is an exception with its reason."""

import os
import uuid
import zlib

import schemathesis

# Of shared/src/domain/names.rs; it never changes.
RESERVATION_NAMESPACE = uuid.UUID("5d1c8a6e-3f27-4b90-9c41-e0d772f6b1a3")
MAX_SUM = 1_000_000
# Most different products: of a check, and of an order.
MAX_CHECK = 100
MAX_LINES = 99
# Characters of an order id that leave room for a number.
MAX_ORDER_ID = 190
# What tests/openapi/run has made plenty of: to reserve, and to count.
PLENTY = {"/reserve": "PLENTY-1", "/check-availability": "PLENTY-1", "/adjust": "PLENTY-2", "/audit": "PLENTY-2"}
# What is given back cannot leave, and what is paid is not extended: each has reservations of its own.
SHARES = {"/release": 0, "/unreserve": 0, "/confirm": 1, "/deduct": 1, "/extend": 2}
# Of so many requests one keeps the product or order that it was made with, which is hardly ever there.
KEEPS_ITS_OWN = 3
# Reservations that were made.
HELD = []


@schemathesis.hook
def before_call(context, case, kwargs):
    """Makes a request keep, or break, a rule between its members."""
    if case.meta is None or case.method not in {"POST", "PATCH"}:
        return
    if case.method == "PATCH" and case.meta.generation.mode.is_positive:
        case.body = one_place(case, whole(case.body))
        return
    if case.meta.generation.mode.is_positive:
        case.body = agreeing(there(case, whole(case.body)))
    elif isinstance(case.body, list):
        case.body = different(case.body, MAX_CHECK)
    elif isinstance(case.body, dict) and isinstance(case.body.get("items"), list):
        case.body["items"] = different(case.body["items"], MAX_LINES)


def whole(value):
    """5.0 is 5 to JSON Schema. The service wants whole numbers written as such, and the document says so."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case list():
            return [whole(each) for each in value]
        case dict():
            return {name: whole(each) for name, each in value.items()}
        case _:
            return value


def there(case, body):
    """Not an exception: names a product or a reservation that is there, so that more than the 404 is tried."""
    chance = zlib.crc32(repr(body).encode())
    if not isinstance(body, dict) or chance % KEEPS_ITS_OWN == 0:
        return body
    below = case.operation.path.removeprefix("/api/inventory")
    if below in PLENTY:
        for item in [body, *(body.get("items") or [])]:
            for name in {"productId", "sku", "itemId"} & item.keys():
                item[name] = PLENTY[below]
        # Schemathesis likes to send what it has seen; most orders are to be new ones.
        for name in {"orderId", "bookingId"} & body.keys():
            body[name] = f"{body[name][:MAX_ORDER_ID]}.{len(HELD)}"
    elif held := HELD[SHARES[below] :: 3] if below in SHARES else []:
        held = held[chance % len(held)]
        for name, of in [("reservationId", "reservationId"), ("orderId", "orderId"), ("bookingId", "orderId")]:
            if body.get(name):
                body[name] = held[of]
        if "items" in body:
            lines = ((line["productId"], line["location"]) for line in held["items"])
            body["items"] = [{"sku": product, "location": location, "quantity": 1} for product, location in lines]
    return body


def one_place(case, body):
    """A location in the body that goes with the one in the query: JSON Schema sees one of them at a time. And, not an
    exception: a product that is there."""
    if "location" in (case.query or {}) and isinstance(body, dict):
        body.pop("location", None)
    if zlib.crc32(repr(body).encode()) % KEEPS_ITS_OWN != 0:
        case.path_parameters["productId"] = PLENTY["/audit"]
        case.query = {}
        if isinstance(body, dict):
            body.pop("location", None)
    return body


def agreeing(body):
    """A reservation id that goes with the order id, and lines of one product that do not add up to too much: JSON
    Schema knows neither UUIDv5 nor sums. Tests of the service look at what is answered to others (400)."""
    if not isinstance(body, dict):
        return body
    order = body.get("orderId") or body.get("bookingId")
    if order and body.get("reservationId"):
        body["reservationId"] = str(uuid.uuid5(RESERVATION_NAMESPACE, order))
    if isinstance(body.get("items"), list):
        sums, kept = {}, []
        for item in body["items"]:
            key = (product_of(item), item.get("location", "main"))
            sums[key] = sums.get(key, 0) + item["quantity"]
            if sums[key] <= MAX_SUM:
                kept.append(item)
        body["items"] = kept
    return body


def different(entries, most):
    """More than are allowed, made different: the service counts different ones, JSON Schema all of them."""
    if len(entries) <= most:
        return entries
    if all(isinstance(entry, str) for entry in entries):
        return [f"product-{i}" for i in range(len(entries))]
    if all(isinstance(entry, dict) for entry in entries):
        return [{"productId": f"product-{i}", "quantity": 1} for i in range(len(entries))]
    return entries


def product_of(item):
    return item.get("productId") or item.get("sku") or item.get("itemId")


@schemathesis.hook
def after_call(context, case, response):
    """Notes what was reserved, and for a look at what was reached, what was answered."""
    if case.method == case.operation.method.upper():
        if case.operation.path.endswith("/reserve") and response.status_code == 201:
            HELD.append(response.json())
        with open(os.environ["HOLDFAST_ANSWERS"], "a", encoding="utf-8") as answers:
            answers.write(f"{case.operation.definition.raw['operationId']} {response.status_code}\n")


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """An HTTP API of API Gateway has routes, not methods of a path: what is no route is answered with 404, never with
    405. `GET` on a path like `/api/inventory/reserve` asks for the product of that name."""
    undeclared_method = type(failure).__name__ == "UnsupportedMethodResponse"
    return not (undeclared_method and response.status_code == 404)
