"""The one exception type whose message is meant for the person at the keyboard."""


class SkewlessError(Exception):
    """Names what is wrong and the next step. Commands print it as one line, without a stack trace."""


def first_line(error: BaseException | None) -> str:
    """What an error says, without the details that PostgreSQL adds below."""
    return str(error).strip().splitlines()[0]
