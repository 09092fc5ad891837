"""What just happened: the contract of one event, the durable log of events, and their fold into a user's packed row."""
