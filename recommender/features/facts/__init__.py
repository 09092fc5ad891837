"""Facts: what people ask about one shopper, for the portrait page. No ranker reads them.

from recommender.features.facts import facts_at
facts_at(source, moment)    # one row for each user, from what lies before the moment
"""

from recommender.features.facts.table import FACTS, Fact, facts_at, facts_of_users, numbers_of_shop

__all__ = ["FACTS", "Fact", "facts_at", "facts_of_users", "numbers_of_shop"]
