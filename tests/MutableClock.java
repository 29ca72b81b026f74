import java.time.Clock;
import java.time.Duration;
import java.time.Instant;
import java.time.ZoneId;
import java.time.ZoneOffset;

/** A clock that moves only when a test moves it. */
class MutableClock extends Clock {
    private volatile Instant now;

    MutableClock(Instant now) { this.now = now; }

    synchronized void add(Duration time) { now = now.plus(time); }

    @Override public synchronized Instant instant() { return now; }
    @Override public ZoneId getZone() { return ZoneOffset.UTC; }
    @Override public Clock withZone(ZoneId zone) { return this; }
}
