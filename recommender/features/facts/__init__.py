"""Facts: what people ask about one shopper, for the portrait page. No ranker reads them.

numbers = numbers_of_shop(source, moment)           # of all users, since most numbers compare them
facts_of_users(source_of_some, moment, numbers)     # a row for each user, from what lies before the moment
"""

from recommender.features.facts.table import FACTS, Fact, facts_of_users, numbers_of_shop

__all__ = ["FACTS", "Fact", "facts_of_users", "numbers_of_shop"]
