"""What a server is told by the chief, when it starts."""

import dataclasses
import json


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a server is told by the chief.

    Attributes:
        address: `"host:port"` to listen on, and no other.
        secret: That of the job.
        num_workers: How many workers are expected.
        max_staleness: The largest staleness of an update.
        heartbeat_timeout: Seconds without a sign of life after which a worker
            is lost. That it has ended is noticed at once.
        start_timeout: Seconds after the chief has come, but 30 at the most,
            after which the others take the batches of a worker that has not.
        modules: Modules to import, which register what the optimizer is of.
        path: Where to look for them.
    """

    address: str
    secret: str = dataclasses.field(repr=False)
    num_workers: int
    max_staleness: int
    heartbeat_timeout: float = 5.0
    start_timeout: float = 600.0
    modules: tuple[str, ...] = ()
    path: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Checks the numbers that nobody checks later.

        Raises:
            ValueError: If there is no worker, or a time is not positive.
        """
        if self.num_workers < 1:
            raise ValueError(
                "A server is for one worker or more. Received: num_workers="
                f"{self.num_workers}. Name the workers in the cluster."
            )
        for name in ("heartbeat_timeout", "start_timeout"):
            if not getattr(self, name) > 0:
                raise ValueError(
                    f"`{name}` must be a positive number of seconds. Received: "
                    f"{name}={getattr(self, name)!r}. Leave it out for the "
                    "default."
                )

    @property
    def text(self) -> str:
        """All of it, as a line."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_text(cls, text: str) -> "Settings":
        """Returns what `text` was made of.

        Example:

        >>> settings = Settings("127.0.0.1:80", "secret", 2, max_staleness=4)
        >>> Settings.from_text(settings.text) == settings
        True
        """
        fields = json.loads(text)
        lists = {name: tuple(fields[name]) for name in ("modules", "path")}
        return cls(**{**fields, **lists})
