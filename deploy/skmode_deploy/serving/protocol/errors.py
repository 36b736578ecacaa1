"""What a client is told when its request is not answered."""


class RequestError(Exception):
    """A request that is not answered, with the reason to tell the client.

    Attributes
    ----------
    reason : str
        What to tell the client.
    status : int
        Status code of HTTP.
    retry_after : int or None
        Seconds to wait.
    limit : str
        Which limit turned it away.
    """

    def __init__(
        self, reason: str, status: int = 400, retry_after: int | None = None, limit: str = ""
    ) -> None:
        super().__init__(reason)
        self.limit = limit
        self.reason = reason
        self.status = status
        self.retry_after = retry_after
