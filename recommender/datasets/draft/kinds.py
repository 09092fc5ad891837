"""Words of kinds and statuses: what a shop's own word means."""

import re
from collections.abc import Iterable

from recommender.datasets.draft.headers import squashed

IGNORE = "ignore"
SENT, TAKEN = "target", "participation"
"""Meanings of words that are no event of the contract: a campaign was sent to a user; a user took one up."""

RULES: tuple[tuple[str, str], ...] = (
    # What stops before a purchase, or is no act of a shopper, first: begin_checkout is no purchase.
    (r"(begin|start\w*|initiate\w*|progress)checkout|checkout(start\w*|begun|began|initiat\w*|progress)", IGNORE),
    (r"add(ed)?(payment|shipping)\w*|\w*paymentinfo\w*", IGNORE),
    (r"(remove\w*|delete\w*)(from)?\w*(cart|wish|basket|favou?rites?)\w*|cart\w*remov\w*|unlike|unfollow", IGNORE),
    (
        r"sessionstart|firstvisit|userengagement|scroll|firstopen|appremove|log(ged)?in|log(ged)?out|signup|register\w*",
        IGNORE,
    ),
    (
        r"unsubscribe\w*|subscribe\w*|bounce\w*|marked(email)?asspam|dropped\w*|spam|abuse|fulfilled\w*|fileddownload",
        IGNORE,
    ),
    (
        r"cancel\w*|void\w*|failed\w*|viewcart|viewedcart|heartbeat|ping|filedownload|formstart|formsubmit|video\w*",
        IGNORE,
    ),
    (
        r"receivedemail|emailreceived|offerreceived|received\w*|sent|send|email(sent)?|delivered|mailed|pushsent|impressed",
        SENT,
    ),
    (r"offercompleted|offerredeemed|redeem\w*|couponused|usedcoupon|couponredeemed|converted|核销|用券", TAKEN),
    (r"\w*refund\w*|\w*return(ed)?|退货|退款|devolucion|retoure|rueckgabe|retour|devolucao", "return"),
    (
        r"(add\w*to|addedto)?(cart|basket|bag)|addtocart\w*|cart\w*|basketadd|加购|加购物车|加入购物车|carrito|warenkorb|panier|carrinho",
        "cart",
    ),
    (r"\w*(wish\w*list\w*|favou?rite\w*|fav|bookmark\w*|collect(ion)?)|收藏|merkliste|favori", "favourite"),
    (r"(view)?search\w*|viewsearchresults|query|搜索|busqueda|suche|recherche", "search"),
    (
        r"\w*(purchase|buy|bought|orderplaced|placedorder|orderedproduct|transaction|orderpaid|paid|ordered)\w*",
        "purchase",
    ),
    (
        r"order|orders|ordercompleted|completedorder|sale|sales|ventas?|ventes?|verkauf|venda|charge|checkout(completed?|success)|购买|下单|支付|付款|成交|买|compra|kauf|bestellung|achat|commande",
        "purchase",
    ),
    (r"(select|click)\w*|\w*click(ed)?|tap|点击|clic|klick", "click"),
    (
        r"(view|visit|viewed|pv|browse|impression|open|opened|detail|productdetail|productpage|pagina)\w*|\w*(view|viewed|pageview|impression|opened)",
        "view",
    ),
    (r"浏览|查看|曝光|访问|vista|ansicht|aufruf|vue|visualizacao", "view"),
    (r"\w*(review|rating|rate|rated)|评价|resena|bewertung|avis|avaliacao", "review"),
    (r"\w*comment\w*|评论|comentario|kommentar|commentaire", "comment"),
    (r"\w*share\w*|分享|转发|compartir|teilen|partager", "share"),
    (r"\w*(like|thumbsup|upvote)\w*|点赞|赞|喜欢", "like"),
    (r"\w*follow\w*|关注", "follow"),
)
"""Pattern of a word without separators -> what it means, in the order in which they are tried."""
CODES: dict[tuple[str, ...], tuple[str, dict[str, str]]] = {
    ("0", "1", "2", "3"): (
        "Alibaba's code of IJCAI-15 (0 click, 1 cart, 2 purchase, 3 favourite)",
        {"0": "click", "1": "cart", "2": "purchase", "3": "favourite"},
    ),
    ("1", "2", "3", "4"): (
        "Alibaba's code of its mobile set (1 view, 2 favourite, 3 cart, 4 purchase)",
        {"1": "view", "2": "favourite", "3": "cart", "4": "purchase"},
    ),
}
"""All words of a column -> whose code this is known as, and what its digits mean."""
CAMPAIGN_KINDS: tuple[tuple[str, str], ...] = (
    (r"\w*(coupon|voucher|gutschein|cupon|券)\w*", "coupon"),
    (r"\w*(member|loyalty|vip|club|会员|points)\w*", "member_event"),
    (r"\w*(launch|newproduct|newarrival|新品|上新|neuheit|nouveau)\w*", "launch"),
    (r"\w*(promo|discount|sale|offer|deal|bogo|信息|满减|折扣|促销|aktion|rabatt)\w*", "promotion"),
)
CANCELLED = (
    r"\w*(cancel|void|refund|fail|declin|unavail|expire|fraud|reject|abandon|annul|storn|chargeback|trash|draft|closed"
    r"|devuel|reembols|zurueck|zuruck|anulad|rembours|retourn|returned|invalid|deleted"
    r"|删除|取消|退款|关闭|作废)\w*"
)
"""Statuses of orders that came to nothing."""
PARTLY = r"partial\w*"
"""An order that was refunded in part remains a purchase."""
PAID_LATER = (
    r"(pendingpayment|paymentpending|unpaid|onhold|\w*awaiting\w*payment|enattentedepaiement|unbezahlt"
    r"|等待付款|待付款|未付款|未支付)"
)
"""Statuses of orders that are not paid yet."""


def kind_of(word: str) -> str | None:
    """What a shop's word of a kind of event means: a kind, SENT, TAKEN or IGNORE. None if it is not known."""
    plain = squashed(word)
    return next((kind for pattern, kind in RULES if re.fullmatch(pattern, plain)), None)


def code_of(words: Iterable[str]) -> tuple[str, dict[str, str]] | None:
    """A known code of digits that has these words."""
    seen = {word.removesuffix(".0") for word in words}
    for code, meaning in CODES.items():
        if len(seen) > 2 and seen <= set(code) and code[0] in seen:
            return meaning
    return None


def campaign_kind_of(word: str) -> str | None:
    """What a shop's word of a kind of campaign means. None if it is not known."""
    plain = squashed(word)
    return next((kind for pattern, kind in CAMPAIGN_KINDS if re.fullmatch(pattern, plain)), None)


def is_cancelled(word: str) -> bool:
    """Whether an order of this status came to nothing."""
    plain = squashed(word)
    return bool(re.fullmatch(CANCELLED, plain)) and not re.match(PARTLY, plain)


def is_unpaid(word: str) -> bool:
    """Whether an order of this status is not paid yet."""
    return bool(re.fullmatch(PAID_LATER, squashed(word)))
