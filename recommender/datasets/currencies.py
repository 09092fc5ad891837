"""Decimals of currencies (ISO 4217), for whoever turns amounts into whole minor units."""

DEFAULT_DECIMALS = 2
"""What most currencies of ISO 4217 have."""
DECIMALS = {
    **dict.fromkeys(("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI"), 0),
    **dict.fromkeys(("VND", "VUV", "XAF", "XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
    **dict.fromkeys(("CLF", "UYW"), 4),
}
"""Decimals of the currencies that do not have two (ISO 4217, 2024)."""


def decimals(currency: str | None) -> int:
    """Decimals of a currency's minor unit: 0 for JPY, 3 for KWD. Two where no currency is stated."""
    return DECIMALS.get(currency or "", DEFAULT_DECIMALS)
