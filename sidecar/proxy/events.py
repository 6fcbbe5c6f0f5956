"""What the path of a request can wait for."""

START = None  # the first step of a coroutine takes no value
STREAM = 1  # the pool gave a stream
HEAD = 2  # there is a response head to judge
FAILED = 3  # the try failed; attempt.failure says why
END = 4  # the response was relayed to its end
TIMER = 5  # the wait that the path asked for is over
DEADLINE = 6  # the exchange's time is over
IDLE = 7  # nothing moved for the idle timeout
GONE = 8  # the client gave up
