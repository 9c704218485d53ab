"""A page of charts from the logs of training runs."""
