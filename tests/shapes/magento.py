"""Magento 2: tables of orders, lines and customers, as phpMyAdmin exports them to CSV: NULL stands without quotes."""

from datetime import datetime, timedelta
from pathlib import Path

ORDER = (
    "entity_id,state,status,coupon_code,protect_code,shipping_description,is_virtual,store_id,customer_id,"
    "base_discount_amount,base_discount_canceled,base_discount_invoiced,base_discount_refunded,base_grand_total,"
    "base_shipping_amount,base_shipping_canceled,base_shipping_invoiced,base_shipping_refunded,"
    "base_shipping_tax_amount,base_shipping_tax_refunded,base_subtotal,base_subtotal_canceled,base_subtotal_invoiced,"
    "base_subtotal_refunded,base_tax_amount,base_tax_canceled,base_tax_invoiced,base_tax_refunded,"
    "base_to_global_rate,base_to_order_rate,base_total_canceled,base_total_invoiced,base_total_invoiced_cost,"
    "base_total_offline_refunded,base_total_online_refunded,base_total_paid,base_total_qty_ordered,"
    "base_total_refunded,discount_amount,discount_canceled,discount_invoiced,discount_refunded,grand_total,"
    "shipping_amount,shipping_canceled,shipping_invoiced,shipping_refunded,shipping_tax_amount,shipping_tax_refunded,"
    "store_to_base_rate,store_to_order_rate,subtotal,subtotal_canceled,subtotal_invoiced,subtotal_refunded,"
    "tax_amount,tax_canceled,tax_invoiced,tax_refunded,total_canceled,total_invoiced,total_offline_refunded,"
    "total_online_refunded,total_paid,total_qty_ordered,total_refunded,can_ship_partially,can_ship_partially_item,"
    "customer_is_guest,customer_note_notify,billing_address_id,customer_group_id,edit_increment,email_sent,"
    "send_email,forced_shipment_with_invoice,payment_auth_expiration,quote_address_id,quote_id,shipping_address_id,"
    "adjustment_negative,adjustment_positive,base_adjustment_negative,base_adjustment_positive,"
    "base_shipping_discount_amount,base_subtotal_incl_tax,base_total_due,payment_authorization_amount,"
    "shipping_discount_amount,subtotal_incl_tax,total_due,weight,customer_dob,increment_id,applied_rule_ids,"
    "base_currency_code,customer_email,customer_firstname,customer_lastname,customer_middlename,customer_prefix,"
    "customer_suffix,customer_taxvat,discount_description,ext_customer_id,ext_order_id,global_currency_code,"
    "hold_before_state,hold_before_status,order_currency_code,original_increment_id,relation_child_id,"
    "relation_child_real_id,relation_parent_id,relation_parent_real_id,remote_ip,shipping_method,store_currency_code,"
    "store_name,x_forwarded_for,customer_note,created_at,updated_at,total_item_count,customer_gender,"
    "discount_tax_compensation_amount,base_discount_tax_compensation_amount,"
    "shipping_discount_tax_compensation_amount,base_shipping_discount_tax_compensation_amnt,"
    "discount_tax_compensation_invoiced,base_discount_tax_compensation_invoiced,discount_tax_compensation_refunded,"
    "base_discount_tax_compensation_refunded,shipping_incl_tax,base_shipping_incl_tax,coupon_rule_name"
)
LINE = (
    "item_id,order_id,parent_item_id,quote_item_id,store_id,created_at,updated_at,product_id,product_type,"
    "product_options,weight,is_virtual,sku,name,description,applied_rule_ids,additional_data,is_qty_decimal,"
    "no_discount,qty_backordered,qty_canceled,qty_invoiced,qty_ordered,qty_refunded,qty_shipped,base_cost,price,"
    "base_price,original_price,base_original_price,tax_percent,tax_amount,base_tax_amount,tax_invoiced,"
    "base_tax_invoiced,discount_percent,discount_amount,base_discount_amount,discount_invoiced,"
    "base_discount_invoiced,amount_refunded,base_amount_refunded,row_total,base_row_total,row_invoiced,"
    "base_row_invoiced,row_weight,base_tax_before_discount,tax_before_discount,ext_order_item_id,locked_do_invoice,"
    "locked_do_ship,price_incl_tax,base_price_incl_tax,row_total_incl_tax,base_row_total_incl_tax,"
    "discount_tax_compensation_amount,base_discount_tax_compensation_amount,discount_tax_compensation_invoiced,"
    "base_discount_tax_compensation_invoiced,discount_tax_compensation_refunded,"
    "base_discount_tax_compensation_refunded,tax_canceled,discount_tax_compensation_canceled,tax_refunded,"
    "base_tax_refunded,discount_refunded,base_discount_refunded"
)
CUSTOMER = (
    "entity_id,website_id,email,group_id,increment_id,store_id,created_at,updated_at,is_active,"
    "disable_auto_group_change,created_in,prefix,firstname,middlename,lastname,suffix,dob,password_hash,rp_token,"
    "rp_token_created_at,default_billing,default_shipping,taxvat,confirmation,gender,failures_num,first_failure,"
    "lock_expires"
)
CUSTOMERS = (3, 8, 11, 12, 17, 21, 34, 55, 56, 78)
# product_id, type, SKU of the line, name, price, and the simple product of a configurable one
PRODUCTS = (
    (1, "simple", "24-MB01", "Joust Duffle Bag", 34.0, None),
    (6, "simple", "24-MB02", "Fusion Backpack", 59.0, None),
    (62, "configurable", "MH01-M-Gray", "Chaz Kangeroo Hoodie", 52.0, 50),
    (158, "configurable", "MS04-L-Blue", "Gobi HeatTec® Tee", 29.0, 151),
    (37, "simple", "24-WG085", "Sprite Yoga Strap 6 foot", 14.0, None),
    (44, "simple", "24-WG02", "Didi Sport Watch", 92.0, None),
    (1242, "configurable", "WP08-29-Red", "Cora Parachute Pant", 75.0, 1230),
)
FIRST = datetime(2023, 3, 6, 9, 41, 7)
STATES = {6: "canceled", 17: "closed", 25: "canceled", 40: "pending_payment"}
GUESTS = (4, 14, 31)


def _table(path: Path, header: str, rows: list[dict[str, object]]) -> Path:
    columns = header.split(",")
    lines = [",".join(f'"{row[name]}"' if name in row else "NULL" for name in columns) for row in rows]
    names = ",".join(f'"{name}"' for name in columns)
    path.write_text("\n".join([names, *lines]) + "\n", encoding="utf-8")
    return path


def _lines(order: int, at: datetime, first: int) -> list[dict[str, object]]:
    """The lines of an order. A configurable product has a second line, of the simple product, without a price."""
    rows: list[dict[str, object]] = []
    for place in range(1 + order % 2):
        product, kind, sku, name, price, simple = PRODUCTS[(order + 3 * place) % 7]
        quantity = 1 + (order + place) % 3
        off = round(0.1 * price * quantity, 2) if order % 7 == 3 else 0.0
        shared = {
            "order_id": order + 1, "store_id": 1, "created_at": at, "updated_at": at, "is_virtual": 0, "sku": sku,
            "is_qty_decimal": 0, "no_discount": 0, "qty_canceled": "0.0000", "qty_ordered": f"{quantity:.4f}",
            "qty_refunded": "0.0000",
        }  # fmt: skip
        line = first + len(rows)
        rows.append({
            **shared, "item_id": line, "product_id": product, "product_type": kind, "name": name,
            "price": f"{price:.4f}", "base_price": f"{price:.4f}", "original_price": f"{price:.4f}",
            "discount_percent": "10.0000" if off else "0.0000", "discount_amount": f"{off:.4f}",
            "row_total": f"{price * quantity:.4f}", "base_row_total": f"{price * quantity:.4f}",
        })  # fmt: skip
        if simple is not None:
            zero = dict.fromkeys(("price", "base_price", "discount_amount", "row_total", "base_row_total"), "0.0000")
            child = {"item_id": line + 1, "parent_item_id": line, "product_id": simple, "product_type": "simple"}
            rows.append({**shared, **zero, **child, "name": f"{name}-{sku[5:]}"})
    return rows


def write(folder: Path) -> list[Path]:
    orders: list[dict[str, object]] = []
    lines: list[dict[str, object]] = []
    for order in range(56):
        at = FIRST + timedelta(days=order, hours=(order * 5) % 11)
        customer = CUSTOMERS[(order * 3 + order // 10) % 10]
        state = STATES.get(order, "complete")
        own = _lines(order, at, 1 + len(lines))
        lines += own
        who = {} if order in GUESTS else {"customer_id": customer}
        goods = sum(float(str(line["row_total"])) for line in own)
        off = sum(float(str(line["discount_amount"])) for line in own)
        paid = f"{goods - off + 5:.4f}"
        orders.append({
            **who, "entity_id": order + 1, "state": state, "status": state, "is_virtual": 0, "store_id": 1,
            "subtotal": f"{goods:.4f}", "base_subtotal": f"{goods:.4f}", "discount_amount": f"{-off:.4f}",
            "grand_total": paid, "base_grand_total": paid, "shipping_amount": "5.0000", "total_paid": paid,
            "customer_is_guest": int(order in GUESTS), "increment_id": f"{order + 1:09d}",
            "base_currency_code": "EUR", "order_currency_code": "EUR",
            "customer_email": f"{'guest' if order in GUESTS else 'c'}{customer}@example.com",
            "created_at": at, "updated_at": at + timedelta(days=3), "store_name": "Main Website\nMain Website Store",
            "total_item_count": 1 + order % 2,
        })  # fmt: skip
    customers: list[dict[str, object]] = [
        {"entity_id": one, "website_id": 1, "email": f"c{one}@example.com", "group_id": 1, "store_id": 1,
         "created_at": FIRST - timedelta(days=400 - one), "updated_at": FIRST, "is_active": 1, "firstname": "Vera",
         "lastname": f"Lopez {one}", "created_in": "Default Store View"}
        for one in CUSTOMERS
    ]  # fmt: skip
    return [
        _table(folder / "sales_order.csv", ORDER, orders),
        _table(folder / "sales_order_item.csv", LINE, lines),
        _table(folder / "customer_entity.csv", CUSTOMER, customers),
    ]


RECIPE = '''[source]
time_zone = "UTC"
currency = "EUR"

[inputs.orders]
file = "sales_order.csv"
[inputs.lines]
file = "sales_order_item.csv"

[tables.events]
query = """
SELECT lines.item_id AS event_id, customer_id AS user_id, product_id AS item_id, orders.created_at AS event_time,
    increment_id AS basket_id, qty_ordered AS quantity,
    row_total::DECIMAL(18, 4) - discount_amount::DECIMAL(18, 4) AS amount, discount_amount AS discount
FROM (SELECT * EXCLUDE (discount_amount) FROM orders) orders JOIN lines ON order_id = entity_id
WHERE parent_item_id = 'NULL' AND customer_id <> 'NULL' AND state NOT IN ('canceled', 'closed', 'pending_payment')
"""
constants = { kind = "purchase" }

[tables.items]
query = "SELECT product_id AS item_id, mode(name) AS name FROM lines WHERE parent_item_id = 'NULL' GROUP BY ALL"

[tables.users]
file = "customer_entity.csv"
columns = { user_id = "entity_id", joined_at = "created_at" }
'''

JUDGED: dict[str, tuple[str, ...]] = {
    "events": ("user_id", "item_id", "kind", "event_time", "basket_id", "quantity", "amount"),
    "users": ("user_id",),
}

CHECKS: tuple[tuple[str, list[tuple[object, ...]]], ...] = (
    (
        "SELECT user_id, item_id, event_time = TIMESTAMPTZ '2023-03-06 09:41:07+00', quantity, amount FROM events "
        "WHERE basket_id = '000000001'",
        [("3", "1", True, 1.0, 34.0)],
    ),
    # Order 3 is a tee and a trouser of which the simple products are left out: 10 % off 1 x 29.00 and 2 x 75.00.
    (
        "SELECT item_id, quantity, amount, discount FROM events WHERE basket_id = '000000004' ORDER BY 1",
        [("1242", 2.0, 135.0, 15.0), ("158", 1.0, 26.1, 2.9)],
    ),
    # 56 orders of one or two products are 84. Orders 4, 6, 14 and 40 (one each), 17, 25 and 31 (two each) are left out.
    ("SELECT count(*), count(DISTINCT basket_id), count(DISTINCT user_id) FROM events", [(74, 49, 10)]),
    ("SELECT count(*) FROM items", [(7,)]),
)
