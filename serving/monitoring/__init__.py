"""The one list of metrics of serving, and the alert rules, dashboard and documentation that are made from it."""
