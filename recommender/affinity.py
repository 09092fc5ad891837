"""The cross of user and campaign: one function for the training set and for every request.

A user's row holds, for each axis of the taxonomy, a sparse vector of what the user bought there; a campaign holds the sparse
vector of its items over the same axes. Their join is the user's affinity to *this* campaign. It needs neither a pair table
nor a trained model, so a campaign created a minute ago works at once.

Shapes: A axes · n values of an axis that the user touched · m values of it in the campaign · M measures · K cross features.
"""

AXES = ("product", "product_type", "category", "department", "brand", "manufacturer")
