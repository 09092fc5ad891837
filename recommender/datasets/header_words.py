"""Words by which `draft` recognises files, columns, kinds and time formats.

The lists are collected by hand from the usual exports of shop systems, from Complete Journey and from the example in
docs/.
"""

SYNONYMS: dict[str, tuple[str, ...]] = {
    "user_id": (
        *("user", "customer", "customer_id", "customer_no", "client", "client_id", "client_no"),
        *("customer_number", "member_no", "household", "household_id", "member", "member_id", "shopper"),
    ),
    "item_id": ("item", "product", "product_id", "sku", "article", "article_no", "upc", "ean", "product_no"),
    "campaign_id": (
        *("campaign", "promotion", "promotion_id", "promo", "promo_id", "offer", "offer_id"),
        *("campaign_no", "action"),
    ),
    "coupon_id": ("coupon", "coupon_upc", "voucher", "voucher_id", "coupon_code", "code"),
    "event_id": ("event", "line_id", "order_line", "order_line_id", "transaction_line"),
    "event_time": (
        *("time", "timestamp", "date", "datetime", "ordered_at", "order_time", "order_date", "created_at"),
        *("transaction_timestamp", "purchased_at", "bought_at", "occurred_at", "event_timestamp"),
    ),
    "kind": ("event", "event_type", "type", "event_name", "behavior", "behaviour", "campaign_kind"),
    "basket_id": (
        *("basket", "order", "order_id", "receipt", "receipt_no", "session", "session_id", "transaction"),
        *("transaction_id", "invoice", "invoice_no"),
    ),
    "quantity": ("qty", "units", "pieces", "count", "number_of_units"),
    "amount": ("sales_value", "paid", "revenue", "total", "line_total", "value", "sales", "spend", "net_amount"),
    "discount": ("retail_disc", "rebate", "reduction", "shop_discount"),
    "coupon_discount": ("coupon_disc", "voucher_discount"),
    "store_id": ("store", "shop", "shop_id", "branch", "outlet", "channel"),
    "rating": ("stars", "score"),
    "query": ("search", "search_term", "search_words", "keywords", "words"),
    "starts_at": ("start", "start_date", "from", "begin", "valid_from", "starts", "start_time", "first_day"),
    "ends_at": ("end", "end_date", "to", "until", "valid_to", "ends", "end_time", "last_day"),
    "campaign_type": ("type", "category", "group", "class"),
    "name": ("title", "label", "product_name", "item_name", "campaign_name"),
    "description": ("text", "details", "long_text", "body"),
    "product_type": ("type", "subcategory", "sub_category", "subgroup", "sub_commodity", "product_group"),
    "category": ("group", "product_category", "commodity", "item_category"),
    "department": ("division", "section", "aisle"),
    "brand": ("brand_name", "label_name"),
    "manufacturer": ("maker", "producer", "vendor", "supplier", "manufacturer_id"),
    "package_size": ("size", "package", "pack", "curr_size_of_product"),
    "price": ("list_price", "unit_price", "price_eur", "price_usd"),
    "targeted_at": ("sent_at", "mailed_at", "sent", "mailed", "decided_at", "send_time", "contacted_at"),
    "propensity": ("probability", "assignment_probability"),
    "participated_at": (
        *("redeemed_at", "redemption_date", "redeemed", "redemption_time", "used_at", "used", "time"),
        *("date", "timestamp"),
    ),
    "joined_at": ("joined", "signup", "signup_date", "registered_at", "member_since", "customer_since", "created_at"),
    "age_band": ("age", "age_group"),
    "gender": ("sex",),
    "income_band": ("income", "income_group"),
    "household_type": ("household_comp", "composition", "family"),
    "num_children": ("children", "kids", "kids_count"),
    "marital_status": ("marital", "married"),
    "region": ("city", "state", "country", "zip", "postcode", "area"),
}
"""Canonical column -> names that exports give it, the likeliest first."""
FILE_WORDS: dict[str, tuple[str, ...]] = {
    "events": ("event", "order", "transaction", "purchase", "click", "log", "receipt", "sale"),
    "campaigns": ("campaigns", "promotions", "offers", "campaign_descriptions"),
    "campaign_items": (
        *("campaign_item", "campaign_product", "campaign_article", "coupon", "offer_item"),
        *("offer_product", "promotion_item", "promotion_product", "promotion_article"),
    ),
    "targets": ("target", "mailing", "audience", "recipient", "contact", "exposure"),
    "participations": ("participation", "redemption", "redeemed", "response"),
    "users": ("user", "customer", "member", "household", "demographic", "shopper", "client"),
    "items": ("item", "product", "article", "catalog"),
}
"""Canonical table -> words in the names of files that hold it."""
MARKER_COLUMNS = {
    "events": ("event_time", "basket_id", "amount", "quantity", "kind"),
    "campaigns": ("starts_at", "ends_at"),
    "campaign_items": ("campaign_id", "item_id"),
    "targets": ("campaign_id", "user_id", "targeted_at"),
    "participations": ("campaign_id", "user_id", "participated_at"),
    "users": ("user_id", "age_band", "gender", "joined_at"),
    "items": ("item_id", "category", "brand", "price", "name"),
}
"""Canonical table -> columns that tell it apart from the other tables."""
TIME_FORMATS = (
    *("%d.%m.%Y", "%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M:%S", "%m/%d/%Y", "%m/%d/%Y %H:%M", "%m/%d/%Y %H:%M:%S"),
    *("%d/%m/%Y", "%d/%m/%Y %H:%M", "%d/%m/%Y %H:%M:%S", "%Y%m%d"),
)
"""Formats for DuckDB's `strptime`, in the order in which they are tried. A date that fits both reads month first."""
DEFAULT_KINDS = {"events": "purchase", "campaigns": "promotion"}
"""Canonical table -> the kind to write as a constant where the file has no column for it."""
KIND_WORDS = {
    "purchase": ("purchase", "order", "buy", "bought", "sale", "transaction", "checkout"),
    "view": ("view", "visit", "impression", "pv"),
    "click": ("click",),
    "cart": ("cart", "basket", "bag"),
    "review": ("review", "rating"),
    "search": ("search", "query"),
    "share": ("share",),
    "coupon": ("coupon", "voucher"),
    "promotion": ("promo", "discount", "offer", "sale"),
    "member_event": ("member", "loyalty"),
    "launch": ("launch", "new"),
}
"""The contract's kind -> parts of words that hint at it in a source's own kinds, in the order in which they are
tried."""
