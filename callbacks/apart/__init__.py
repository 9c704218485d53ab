"""What callbacks do where workers do not wait for each other's steps."""

from tfdp.callbacks.apart.edges import Apart, on_chief_only_apart
from tfdp.callbacks.apart.exchange_watch import ExchangeWatch
